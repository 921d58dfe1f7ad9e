"""A frozen language model, or the backbone of one, read behind a soft prompt.

Letters: B records, T tokens, P prompt tokens, H hidden size, V vocabulary, C classes.

The prompt stands before the whole line, also before a [CLS], or in a chat's user turn. Rows are padded on the right,
and positions count prompt and line together. Where the model allows it (`transfer.families.probe`), only the state at
the answer reaches the LM head, which skips most of a small model's arithmetic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from transfer.errors import ModelError
from transfer.families import layout
from transfer.families.loading import one_line
from transfer.families.probe import traits_of
from transfer.families.shortcuts import inputs_of, last_states, of_lines, read, states_at
from transfer.families.traits import Traits
from transfer.model_ref import LmHead, ModelRef
from transfer.models.forward_size import ForwardSize
from transfer.models.passes import Manners
from transfer.placement.checkpointing import checkpointed
from transfer.placement.devices import device_of, embedding_of
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens import vocabulary
from transfer.tokens.batches import Batch, Line, collate
from transfer.tokens.encoder import Encoder
from transfer.tokens.readout import Head, Reading, copies, question, within
from transfer.tokens.task_fit import readable


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A causal or masked LM, or a backbone alone, in eval mode with every weight frozen, and its tokeniser.

    Attributes:
        lm_head: what its LM head predicts; a model with "none", such as a sentence embedder, has states only.
        checkpointing: compute activations again in the backward pass, see `transfer.placement.checkpointing`.
        traits: how you may read it, measured by running it on construction.
        recomputed: the layers that keep no activations for the backward pass; none without `checkpointing`.
        size: how much goes through it in one pass.

    Raises:
        ModelError: `model` is wrapped by PEFT, which gives the prompt one gradient per batch and none per record; or
            it cannot be read behind a prompt, see `traits_of`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    lm_head: LmHead
    checkpointing: bool = False
    traits: Traits = field(init=False)
    recomputed: Sequence[nn.Module] = field(init=False, repr=False)
    size: ForwardSize = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if hasattr(self.model, "peft_config"):
            raise ModelError("a PEFT model repeats one prompt row over the batch; pass the model it wraps")
        self.model.train(mode=False)
        self.model.requires_grad_(False)
        try:
            traits = traits_of(self.model, self.lm_head, self.tokenizer, self.ref.digest)
            recomputed = list(layout.only_list(self.model)) if self.checkpointing else []
        except ModelError as error:
            raise ModelError(f"model {self.ref.name!r}: {error}") from error
        object.__setattr__(self, "traits", traits)
        object.__setattr__(self, "recomputed", recomputed)
        object.__setattr__(self, "size", ForwardSize(self.ref.name, self.device, padded=traits.padded))

    @property
    def causal(self) -> bool:
        """Whether the model predicts the next token."""
        return self.lm_head == "causal"

    @property
    def width(self) -> int:
        """H, the size of an input embedding."""
        return int(self.embedding.shape[1])

    @property
    def embedding(self) -> torch.Tensor:
        """Input embeddings [V, H]."""
        return embedding_of(self.model)

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """Layer inputs [..., H] in float32 for tokens [...]; some models scale the embedding weights."""
        with torch.no_grad():
            vectors: torch.Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return vectors.detach().float().cpu()

    @property
    def device(self) -> torch.device:
        """The device that takes the model's inputs; what its methods return is on the CPU."""
        return device_of(self.model)

    @property
    def layers(self) -> int:
        """Number of layers of the backbone; see `layout.layers`."""
        return layout.layers(self.model)

    @property
    def positions(self) -> int | None:
        """Largest number of tokens in a row; None if the architecture sets no limit."""
        return layout.positions(self.model)

    def require_positions(self, tokens: int, remedy: str = "lower the task's max_tokens") -> None:
        """Refuse, by a ModelError that ends with `remedy`, rows of more `tokens` than the model has positions."""
        if self.positions is not None and tokens > self.positions:
            raise ModelError(
                f"model {self.ref.name!r} has {self.positions} positions, prompt and line need {tokens}; {remedy}"
            )

    def manners(self, prompt_length: int) -> Manners:
        """Return what the model does to the rows of a pass behind a prompt of `prompt_length` tokens."""
        room = None if self.positions is None else self.positions - prompt_length
        return Manners(self.traits.padded, self.traits.apart, room)

    @property
    def pad_id(self) -> int:
        """The token to pad with."""
        return vocabulary.padding(self.tokenizer, len(self.embedding))

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of the vocabulary: full-vocabulary logits of two models are comparable only if it is equal."""
        return vocabulary.digest(self.tokenizer)

    def encoder(self, task: Task) -> Encoder:
        """Return the encoder of `task` for this model's tokeniser.

        Raises:
            TaskError: see `Encoder`; or the task needs an LM head and the model has none.
            ModelError: the tokeniser has a token without an embedding.
        """
        chats = bool(self.tokenizer.chat_template)
        readable(task, self.ref.name, self.lm_head, self.width, self.traits.width, chat_template=chats)
        with one_line(f"model {self.ref.name!r} cannot encode task {task.name!r}: its tokeniser fails"):
            encoder = Encoder(task, self.tokenizer, causal=self.causal, ends=layout.ends(self.model))
            template = encoder.encode([""])[0].ids
        known, whose = vocabulary.ordinary(self.tokenizer), f"model {self.ref.name!r}: its tokeniser's"
        vocabulary.require_embedded(self.tokenizer, known.union(template), len(self.embedding), whose)
        return encoder

    def collate(self, lines: Sequence[Line]) -> Batch:
        """Right-pad lines with this model's padding token."""
        return collate(lines, self.pad_id)

    def logits(
        self, batch: Batch, rows: torch.Tensor | None = None, words: Reading | None = None
    ) -> torch.Tensor:
        """Return logits at the answer, behind prompt `rows` [B, P, H] if given.

        Without `words`: vocabulary logits [B, V], or [N, V] at all answer tokens of lines with goals. With label
        `words`: class logits [B, C], computed from those words' rows of the LM head alone. With a `Head`: class
        logits by the last C of `rows`, or 0 without `rows`.

        Raises:
            ModelError: prompt and lines need more positions than the model has; or it has no LM head and `words` is
                no `Head`.
        """
        if isinstance(words, Head):
            return self._head_logits(batch, rows, words)
        if self.lm_head == "none":
            raise ModelError(f"model {self.ref.name!r} has no language-model head, so no logits of words")
        places = question(batch, words)
        # a record with words of several pieces takes R rows: [B, P, H] → [B·R, P, H]
        rows = None if rows is None else rows.repeat_interleave(places.copies, dim=0)
        inputs = self._inputs(places.batch, rows)
        with checkpointed(self.recomputed):
            return read(self.model, inputs, places.behind(rows), words, self.traits.shortcuts)

    def states(self, batch: Batch, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the backbone's last hidden states [B, H] at the answer, behind prompt `rows` [B, P, H] if given."""
        columns = batch.answer + (0 if rows is None else rows.shape[1])
        inputs, backbone = self._inputs(batch, rows), self.traits.backbone
        with checkpointed(self.recomputed):
            return states_at(self.model, inputs, columns, backbone, self.traits.shortcuts)

    def all_states(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Return the backbone's last hidden states [B, P + T, H] behind prompt `rows` [B, P, H]."""
        with checkpointed(self.recomputed):
            return last_states(self.backbone, self._inputs(batch, rows)).float().cpu()

    @property
    def backbone(self) -> nn.Module:
        """The part of the model that computes the last hidden states."""
        return self.model.get_submodule(self.traits.backbone)

    def _head_logits(self, batch: Batch, rows: torch.Tensor | None, head: Head) -> torch.Tensor:
        if rows is None:
            return torch.zeros(len(batch), head.classes)
        length = rows.shape[1] - head.classes  # rows are [B, P + C, H]: the prompt, then the head
        states = of_lines(self.all_states(batch, rows[:, :length]), length, batch.at)  # [B, T, H]
        return head.class_logits(states, batch.mask, rows[:, length:])

    def _inputs(self, batch: Batch, rows: torch.Tensor | None) -> dict[str, Any]:
        """Return the inputs of a forward pass: embeddings [B, P + T, H] of prompt and lines, and their mask."""
        self.require_positions(batch.ids.shape[1] + (0 if rows is None else rows.shape[1]))
        return inputs_of(self.model, batch, rows)

    @torch.no_grad()
    def answer_logits(
        self,
        lines: Sequence[Line],
        prompt: SoftPrompt | None = None,
        words: Reading | None = None,
        kept: Callable[[int, int], torch.Tensor] = torch.empty,
    ) -> torch.Tensor:
        """Return logits [N, V], or [N, C] with `words`, of lines in their own order, in a tensor made by `kept`.

        A line has one row, or one for each token of its goal. A ModelError refuses an empty `lines`.
        """
        if not lines:
            raise ModelError("no lines to read answers from")
        out, starts = torch.empty(0), [0, *accumulate(line.reads for line in lines)]
        length = prompt.length if prompt else 0

        def run(group: Sequence[int]) -> torch.Tensor:
            rows = None if prompt is None else prompt.vectors.expand(len(group), -1, -1)
            return self.logits(self.collate([lines[i] for i in group]), rows, words)

        for group, logits in self.size.of_lines(lines, range(len(lines)), length, copies(words), run):
            out = out if len(out) else kept(starts[-1], logits.shape[1])
            # batches are sorted by length: each row goes back to its line's place
            places = [place for i in group for place in range(starts[i], starts[i + 1])]
            out[places] = within(logits, out.dtype).to(out.dtype)
        return out

    def text_prompt(self, text: str, length: int) -> SoftPrompt:
        """Return a prompt of `length` embeddings of `text`, repeated or cut to fit (POST §3)."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"prompt text {text!r} has no tokens with this tokeniser; write another text")
        ids = (ids * -(-length // len(ids)))[:length]
        return SoftPrompt(self.embedded(torch.tensor(ids)), self.ref)

    def vocabulary_prompt(self, length: int, generator: torch.Generator) -> SoftPrompt:
        """Return a prompt of `length` embeddings drawn from the vocabulary without replacement."""
        drawn = torch.randperm(self.embedding.shape[0], generator=generator)[:length]
        return SoftPrompt(self.embedded(drawn), self.ref)
