"""A frozen language model, or the backbone of one, read behind a soft prompt.

Letters: B records, T tokens, P prompt tokens, H hidden size, V vocabulary, C classes.

The prompt stands before the whole line, also before a [CLS]; rows are padded on the right and positions count
on from the prompt, so no record can touch another. Only the hidden state at the answer reaches the LM head: the
vocabulary projection of all other positions, most of the arithmetic of a small model, is never done.
"""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from transfer.batches import Batch, Line, collate, physical_batches
from transfer.encoding import Encoder
from transfer.errors import ModelError, TaskError
from transfer.model_ref import LmHead, ModelRef
from transfer.pretrained import pretrained
from transfer.prompt import SoftPrompt
from transfer.reading import Head, Reading, copies, label_logits, last_layer_at, only_at, only_of, question
from transfer.tasks import Task


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A causal or masked LM, or a backbone alone, in eval mode with every weight frozen, and its tokeniser.

    Attributes:
        lm_head: what its LM head tells; a model with "none", such as a sentence embedder, has states only.

    Raises:
        ModelError: `model` is wrapped by PEFT, whose prompt gradient is the batch's and never one record's.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    lm_head: LmHead

    def __post_init__(self) -> None:
        if hasattr(self.model, "peft_config"):
            raise ModelError("a PEFT model repeats one prompt row over the batch; pass the model it wraps")
        self.model.train(mode=False)
        self.model.requires_grad_(False)

    @property
    def causal(self) -> bool:
        """Whether it tells the next token."""
        return self.lm_head == "causal"

    @property
    def width(self) -> int:
        """H, the size of an input embedding."""
        return int(self.embedding.shape[1])

    @property
    def embedding(self) -> torch.Tensor:
        """Input embeddings [V, H]."""
        weight: torch.Tensor = self.model.get_input_embeddings().get_parameter("weight")
        return weight

    @property
    def positions(self) -> int | None:
        """Most tokens of a row; None if the architecture sets no limit.

        RoBERTa's table of positions begins with those of padding, up to `padding_idx`, which no token has.
        """
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        embeddings = getattr(self.model.base_model, "embeddings", None)
        table = getattr(embeddings, "position_embeddings", None)
        padding: int | None = getattr(table, "padding_idx", None)
        return limit if limit is None or padding is None else limit - padding - 1

    def require_positions(self, tokens: int, remedy: str = "lower the task's max_tokens") -> None:
        """Refuse rows of more tokens than there are positions.

        Raises:
            ModelError: says how many there are.
        """
        if self.positions is not None and tokens > self.positions:
            raise ModelError(
                f"model {self.ref.name!r} has {self.positions} positions, prompt and line need {tokens}; {remedy}"
            )

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of the vocabulary: two models may share full-vocabulary logits only if it is equal."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        return hashlib.sha256(repr(vocabulary).encode()).hexdigest()

    def encoder(self, task: Task) -> Encoder:
        """The encoder of `task` for this model's tokeniser.

        Raises:
            TaskError: see `Encoder`; or it needs an LM head, and there is none.
        """
        if self.lm_head == "none" and not task.head_rows:
            asked = f'kind "{task.kind}"' if task.kind == "text" else f'label_reading "{task.label_reading}"'
            raise TaskError(
                f"task {task.name!r}: {asked} needs a language-model head, model {self.ref.name!r} has none; "
                'write label_reading = "head", no {answer} in the template, and empty lists of label words'
            )
        return Encoder(task, self.tokenizer, causal=self.causal)

    def collate(self, lines: Sequence[Line]) -> Batch:
        """Right-pad lines with this model's padding token; padding is masked, so any token will do."""
        return collate(lines, int(self.tokenizer.pad_token_id or 0))

    def logits(
        self, batch: Batch, rows: torch.Tensor | None = None, words: Reading | None = None
    ) -> torch.Tensor:
        """Logits at the answer, behind prompt `rows` [B, P, H] if given.

        Vocabulary logits [B, V], or [N, V] at all answer tokens of lines with goals; class logits [B, C] if
        the label `words` of each class are given, for which no other row of the head is multiplied. If a
        `Head` is asked for, its rows are the last of `rows`; without any, nothing is known of the classes and
        all logits are 0.

        Raises:
            ModelError: prompt and lines together are longer than the model has positions; or no `Head` is asked
                for, and the model has no LM head either.
        """
        if isinstance(words, Head):
            return self._head_logits(batch, rows, words)
        if self.lm_head == "none":
            raise ModelError(f"model {self.ref.name!r} has no language-model head, so no logits of words")
        asked = question(batch, words)
        rows = None if rows is None else rows.repeat_interleave(asked.copies, dim=0)
        columns = asked.columns + (0 if rows is None else rows.shape[1])
        inputs = self._inputs(asked.batch, rows)
        narrowed = last_layer_at(self.model, columns) if asked.one_a_row else nullcontext()
        with narrowed, only_at(self.model, asked.rows, columns), only_of(self.model, words) as reading:
            logits: torch.Tensor = self.model(**inputs).logits[:, 0]
        return label_logits(logits, reading)

    def states(self, batch: Batch, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The backbone's last hidden states at the answer, [B, H], behind prompt `rows` [B, P, H] if given."""
        columns = batch.answer + (0 if rows is None else rows.shape[1])
        with last_layer_at(self.model, columns):
            states: torch.Tensor = self.model.base_model(**self._inputs(batch, rows)).last_hidden_state
        return states[torch.arange(len(batch)), columns]

    def _head_logits(self, batch: Batch, rows: torch.Tensor | None, head: Head) -> torch.Tensor:
        if rows is None:
            return torch.zeros(len(batch), head.classes)
        length = rows.shape[1] - head.classes
        states = self.model.base_model(**self._inputs(batch, rows[:, :length])).last_hidden_state
        return head.class_logits(states[:, length:], batch.mask, rows[:, length:])

    def _inputs(self, batch: Batch, rows: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """What a forward pass takes: embeddings [B, P + T, H] of the prompt and then the lines, and their mask."""
        embeds, mask = self.model.get_input_embeddings()(batch.ids), batch.mask
        if rows is not None:
            embeds = torch.cat([rows, embeds], dim=1)
            mask = torch.cat([mask.new_ones(rows.shape[:2]), mask], dim=1)
        self.require_positions(embeds.shape[1])
        return {"inputs_embeds": embeds, "attention_mask": mask}

    @torch.no_grad()
    def answer_logits(
        self, lines: Sequence[Line], prompt: SoftPrompt | None = None, words: Reading | None = None
    ) -> torch.Tensor:
        """Logits [N, V], or [N, C] with `words`, of lines in their own order, in length-bucketed batches.

        N counts lines; lines with goals have a row for each token of theirs, one line after the other.
        """
        out: torch.Tensor | None = None
        starts = [0, *accumulate(line.reads for line in lines)]
        extra = prompt.length if prompt else 0
        for group in physical_batches(lines, range(len(lines)), extra, copies(words)):
            batch = self.collate([lines[i] for i in group])
            rows = None if prompt is None else prompt.vectors.expand(len(batch), -1, -1)
            logits = self.logits(batch, rows, words).float()
            if out is None:
                out = logits.new_empty((starts[-1], logits.shape[1]))
            out[[place for i in group for place in range(starts[i], starts[i + 1])]] = logits
        if out is None:
            raise ModelError("no lines to read answers from")
        return out

    def text_prompt(self, text: str, length: int) -> SoftPrompt:
        """Prompt of `length` tokens from the embeddings of `text`, repeated or cut to fit (POST §3)."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"prompt text {text!r} has no tokens")
        ids = (ids * -(-length // len(ids)))[:length]
        return self._embedded(torch.tensor(ids))

    def vocabulary_prompt(self, length: int, generator: torch.Generator) -> SoftPrompt:
        """Prompt of `length` embeddings drawn from the vocabulary without replacement."""
        return self._embedded(torch.randperm(self.embedding.shape[0], generator=generator)[:length])

    def _embedded(self, ids: torch.Tensor) -> SoftPrompt:
        return SoftPrompt(self.embedding[ids].detach().float().cpu().clone(), self.ref)


def load(source: str | Path, *, name: str | None = None, lm_head: LmHead | None = None) -> LanguageModel:
    """Load a causal or masked LM or a backbone from a directory or the local cache of a hub name, in float32.

    Args:
        source: directory with config.json, weights and tokeniser, or a hub name.
        name: name to know it by; the last part of `source` if not given.
        lm_head: how to read it; by default what configuration and weights say.

    Raises:
        ModelError: no such directory, or not a whole language model with a fast tokeniser.
    """
    path = Path(source)
    if not path.exists() and (len(path.parts) > 2 or str(source).startswith(("/", "."))):  # no hub name is so
        raise ModelError(f"{source}: no such directory")
    if path.exists() and not (path / "config.json").is_file():
        raise ModelError(f"{source}: not a model directory: config.json is missing")
    try:
        model, lm_head = pretrained(source, lm_head)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{source}: cannot load a language model: {reason}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: needs a fast tokeniser (tokenizer.json)")
    directory = path if path.is_dir() else _cached(str(source))
    ref = ModelRef.of_directory(name or path.name, directory)
    return LanguageModel(model, tokenizer, ref, lm_head)


def _cached(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, local_files_only=True))
