"""A frozen language model, or the backbone of one, read behind a soft prompt.

Letters: B records, T tokens, P prompt tokens, H hidden size, V vocabulary, C classes.

The prompt stands before the whole line, also before a [CLS]; rows are padded on the right and positions count
on from the prompt. Where the model allows it (`transfer.families.probe`), only the hidden state at the
answer reaches the LM
head: the vocabulary projection of all other positions, most of the arithmetic of a small model, is never done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from transfer.errors import ModelError
from transfer.families import layout
from transfer.families.loading import one_line, pretrained, tokenizer_of
from transfer.families.model_directory import directory_of
from transfer.families.probe import traits_of
from transfer.families.shortcuts import inputs_of, read, states_at
from transfer.families.traits import Traits
from transfer.model_ref import LmHead, ModelRef
from transfer.models.passes import Manners
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens import vocabulary
from transfer.tokens.batches import FORWARD_PADDING, Batch, Line, collate, physical_batches
from transfer.tokens.encoder import Encoder
from transfer.tokens.readout import Head, Reading, copies, question
from transfer.tokens.task_fit import readable


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A causal or masked LM, or a backbone alone, in eval mode with every weight frozen, and its tokeniser.

    Attributes:
        lm_head: what its LM head tells; a model with "none", such as a sentence embedder, has states only.
        traits: how it may be read, found out by running it when this is made.

    Raises:
        ModelError: `model` is wrapped by PEFT, whose prompt gradient is the batch's and never one record's; or it
            cannot be read behind a prompt, see `traits_of`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    lm_head: LmHead
    traits: Traits = field(init=False)

    def __post_init__(self) -> None:
        if hasattr(self.model, "peft_config"):
            raise ModelError("a PEFT model repeats one prompt row over the batch; pass the model it wraps")
        self.model.train(mode=False)
        self.model.requires_grad_(False)
        try:
            traits = traits_of(self.model, self.lm_head, self.tokenizer)
        except ModelError as error:
            raise ModelError(f"model {self.ref.name!r}: {error}") from error
        object.__setattr__(self, "traits", traits)

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

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """What the layers get for tokens [...] → [..., H]: not the bare weights, which some models scale; float32."""
        with torch.no_grad():
            vectors: torch.Tensor = self.model.get_input_embeddings()(ids)
        return vectors.detach().float().cpu()

    @property
    def layers(self) -> int:
        """How many layers its backbone has; see `layout.layers`."""
        return layout.layers(self.model)

    @property
    def positions(self) -> int | None:
        """Most tokens of a row; None if the architecture sets no limit."""
        return layout.positions(self.model)

    def require_positions(self, tokens: int, remedy: str = "lower the task's max_tokens") -> None:
        """Raise a ModelError for rows of more tokens than there are positions."""
        if self.positions is not None and tokens > self.positions:
            raise ModelError(
                f"model {self.ref.name!r} has {self.positions} positions, prompt and line need {tokens}; {remedy}"
            )

    def manners(self, prompt_length: int) -> Manners:
        """What the model does to the rows of a pass behind a prompt of that length."""
        room = None if self.positions is None else self.positions - prompt_length
        return Manners(self.traits.padded, self.traits.apart, room)

    @property
    def pad_id(self) -> int:
        """A token to pad with."""
        return vocabulary.padding(self.tokenizer, len(self.embedding))

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of the vocabulary: two models may share full-vocabulary logits only if it is equal."""
        return vocabulary.digest(self.tokenizer)

    def encoder(self, task: Task) -> Encoder:
        """The encoder of `task` for this model's tokeniser.

        Raises:
            TaskError: see `Encoder`; or it needs an LM head, and there is none.
            ModelError: the tokeniser has a token that has no embedding.
        """
        readable(task, self.ref.name, self.lm_head, self.width, self.traits.width)
        with one_line(f"model {self.ref.name!r} cannot be asked {task.name!r}: its tokeniser fails"):
            encoder = Encoder(task, self.tokenizer, causal=self.causal)
            template = encoder.encode([""])[0].ids
        known, whose = vocabulary.ordinary(self.tokenizer), f"model {self.ref.name!r}: its tokeniser's"
        vocabulary.require_embedded(self.tokenizer, known.union(template), len(self.embedding), whose)
        return encoder

    def collate(self, lines: Sequence[Line]) -> Batch:
        """Right-pad lines with this model's padding token; padding is masked, so any token will do."""
        return collate(lines, self.pad_id)

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
        return read(
            self.model, self._inputs(asked.batch, rows), asked.behind(rows), words, self.traits.shortcuts
        )

    def states(self, batch: Batch, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The backbone's last hidden states at the answer, [B, H], behind prompt `rows` [B, P, H] if given."""
        columns = batch.answer + (0 if rows is None else rows.shape[1])
        return states_at(
            self.model, self._inputs(batch, rows), columns, self.traits.backbone, self.traits.shortcuts
        )

    def all_states(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """The backbone's last hidden states [B, P + T, H] behind prompt `rows` [B, P, H]."""
        states: torch.Tensor = self.backbone(**self._inputs(batch, rows)).last_hidden_state
        return states

    @property
    def backbone(self) -> nn.Module:
        """The part of the model that gives last hidden states."""
        return self.model.get_submodule(self.traits.backbone)

    def _head_logits(self, batch: Batch, rows: torch.Tensor | None, head: Head) -> torch.Tensor:
        if rows is None:
            return torch.zeros(len(batch), head.classes)
        length = rows.shape[1] - head.classes
        states = self.all_states(batch, rows[:, :length])[:, length:]
        return head.class_logits(states, batch.mask, rows[:, length:])

    def _inputs(self, batch: Batch, rows: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """What a forward pass takes: embeddings [B, P + T, H] of the prompt and then the lines, and their mask."""
        self.require_positions(batch.ids.shape[1] + (0 if rows is None else rows.shape[1]))
        return inputs_of(self.model, batch, rows)

    def groups(
        self, lines: Sequence[Line], chosen: Sequence[int], prompt_length: int, copies: int
    ) -> Iterator[list[int]]:
        """The chosen indices in groups of one forward pass each, of equal length where padding would do harm."""
        padding = FORWARD_PADDING if self.traits.padded else 0
        return physical_batches(lines, chosen, prompt_length, copies, max_padding=padding)

    @torch.no_grad()
    def answer_logits(
        self, lines: Sequence[Line], prompt: SoftPrompt | None = None, words: Reading | None = None
    ) -> torch.Tensor:
        """Logits [N, V], or [N, C] with `words`, of lines in their own order, in length-bucketed batches.

        N counts lines; lines with goals have a row for each token of theirs, one line after the other.
        """
        if not lines:
            raise ModelError("no lines to read answers from")
        out, starts = torch.empty(0), [0, *accumulate(line.reads for line in lines)]
        for group in self.groups(lines, range(len(lines)), prompt.length if prompt else 0, copies(words)):
            batch = self.collate([lines[i] for i in group])
            rows = None if prompt is None else prompt.vectors.expand(len(batch), -1, -1)
            logits = self.logits(batch, rows, words)
            out = out if len(out) else logits.new_empty((starts[-1], logits.shape[1]))
            out[[place for i in group for place in range(starts[i], starts[i + 1])]] = logits
        return out

    def text_prompt(self, text: str, length: int) -> SoftPrompt:
        """Prompt of `length` tokens from the embeddings of `text`, repeated or cut to fit (POST §3)."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"prompt text {text!r} has no tokens")
        ids = (ids * -(-length // len(ids)))[:length]
        return SoftPrompt(self.embedded(torch.tensor(ids)), self.ref)

    def vocabulary_prompt(self, length: int, generator: torch.Generator) -> SoftPrompt:
        """Prompt of `length` embeddings drawn from the vocabulary without replacement."""
        drawn = torch.randperm(self.embedding.shape[0], generator=generator)[:length]
        return SoftPrompt(self.embedded(drawn), self.ref)


def load(source: str | Path, *, name: str | None = None, lm_head: LmHead | None = None) -> LanguageModel:
    """Load a causal or masked LM or a backbone, in float32, and never ask the network.

    Args:
        source: directory with config.json, weights and tokeniser, or a hub name in the local cache.
        name: name to know it by; the last part of `source` if not given.
        lm_head: how to read it; by default what configuration and weights say.

    Raises:
        ModelError: no such directory, not a whole language model with a fast tokeniser, or one that cannot be read
            behind a prompt.
    """
    directory = directory_of(source)
    model, lm_head = pretrained(directory, lm_head, source)
    tokenizer = tokenizer_of(directory, source)
    ref = ModelRef.of_directory(name or Path(source).name, directory)
    return LanguageModel(model, tokenizer, ref, lm_head)
