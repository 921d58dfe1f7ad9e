"""How a model may be read, measured by running it on a few public tokens.

Hooks, heads and embeddings of a checkpoint are foreign code. Each is tested here against the plain forward pass. A
shortcut that changes answers is not taken, and a model that cannot be read behind a prompt is refused.

Letters: B rows, T tokens, P prompt tokens, H embedding size, V vocabulary.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from transfer.errors import ModelError, PromptferryError
from transfer.families.closeness import close
from transfer.families.layout import attempt, backbones, looks_at_length
from transfer.families.loading import reason_of
from transfer.families.operators import Operators
from transfer.families.probe_cache import remembered, weights_of
from transfer.families.shortcuts import Shortcuts, inputs_of, read, states_at
from transfer.families.traits import Traits
from transfer.model_ref import LmHead
from transfer.placement.devices import device_of, embedding_of, numbers_of, precision
from transfer.tokens.batches import Line, collate
from transfer.tokens.readout import Places, label_logits, question
from transfer.tokens.vocabulary import drawn, padding

LENGTHS = (6, 9, 34)
PROMPT = 3
LONGER = 7
"""Tokens of the test lines, of the prompt before them, and of extra padding behind them. Short lines suit narrow
windows; the long one reaches mechanisms that start late, such as sparse attention."""


def traits_of(
    model: PreTrainedModel, lm_head: LmHead, tokenizer: PreTrainedTokenizerBase, digest: str
) -> Traits:
    """Return the traits of a model in eval mode; each configuration, its weights and its place are measured once.

    `digest` is that of the model's files, see `weights_of`.

    Raises:
        ModelError: the forward pass fails or gives numbers that are not finite; its layers read more of a token than
            its embedding, so a line cannot contain a prompt; it has no last hidden states; its answers depend on
            later tokens although it should be a causal LM; the gradient of a prompt is not finite; or the gradient of
            one line differs between passes.
    """
    with _undisturbed(model):
        config = json.loads(model.config.to_json_string(use_diff=False))
        config.pop(
            "_name_or_path", None
        )  # a copy elsewhere, such as a proxy once it is stored, is the same model
        kind = (type(model).__qualname__, config, str(device_of(model)), lm_head, torch.get_num_threads())
        tokens = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.all_special_ids)
        about = ("traits", kind, tokens, weights_of(model, digest))
        return remembered(about, lambda: asdict(_Probe(model, lm_head, tokenizer).traits()), Traits.of)


@contextmanager
def _undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, no dropout, no autocast, and gradients on; every foreign exception becomes a ModelError."""
    training = model.training
    model.train(mode=False)
    try:
        with torch.enable_grad(), precision(device_of(model), reduced=False):
            yield
    except PromptferryError:
        raise
    except Exception as error:
        raise ModelError(f"its forward pass fails: {reason_of(error)}") from error
    finally:
        model.train(mode=training)


class _Probe:
    """One model under test, with the lines and the prompt to test it on."""

    def __init__(self, model: PreTrainedModel, lm_head: LmHead, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.lm_head = model, lm_head
        self.pad = padding(tokenizer, self._vocabulary)
        usual = drawn(tokenizer, self._vocabulary, sum(LENGTHS))
        self.lines = list(_lines(usual, tokenizer.mask_token_id if lm_head == "masked" else None))
        ids = torch.tensor(self.lines[2].ids[: 2 * PROMPT], device=device_of(model))
        tokens = self.model.get_input_embeddings()(ids).detach()
        self.prompt = tokens.view(2, PROMPT, -1).mean(dim=0)  # [P, H], no token's own embedding

    @property
    def _vocabulary(self) -> int:
        return int(embedding_of(self.model).shape[0])

    def traits(self) -> Traits:
        """Measure everything, the plain pass first."""
        with torch.no_grad():
            alone = [self._own(line) for line in self.lines]
            self._require_causal(alone[2])
            padded = self._padding_is_harmless(alone) and not looks_at_length(self.model)
            backbone, shortcuts, width = self._read(padded)
            cached = self.lm_head == "causal" and bool(attempt(self._continues_from_cache))
        traits = Traits(backbone, width, shortcuts, padded, cached)
        return replace(traits, apart=self._rows_stay_apart(traits))

    def _own(self, line: Line) -> torch.Tensor:
        """Return the outputs [T, V or H] for a line's tokens; refuse a model whose outputs for embeddings differ."""
        ids = torch.tensor([line.ids], device=device_of(self.model))
        own = self._outputs(self.model(input_ids=ids, attention_mask=torch.ones_like(ids)))[0]
        if not own.isfinite().all():
            raise ModelError("its answers are not finite numbers")
        if not self._close(self._whole([line])[0], own):
            raise ModelError(
                "given the embeddings of a line in place of its tokens it answers otherwise: its layers read more of "
                "a token than its embedding, so no prompt can stand before a line"
            )
        return own

    def _require_causal(self, own: torch.Tensor) -> None:
        if self.lm_head != "causal":
            return
        changed = replace(self.lines[2], ids=(*self.lines[2].ids[:-1], self.lines[0].ids[0]))
        if not self._close(self._whole([changed])[0, :-1], own[:-1]):
            raise ModelError(
                "its answers depend on later tokens: no causal language model, is_decoder may be missing"
            )

    def _padding_is_harmless(self, alone: Sequence[torch.Tensor]) -> bool:
        """Return whether padded lines get the answers they get alone, and no bit depends on the padding token."""
        outputs = [
            self._whole(self.lines, width, fill) for width, fill in product((0, LENGTHS[-1] + LONGER), (0, 1))
        ]
        rows = (
            (row[: len(own)], own) for together in outputs for row, own in zip(together, alone, strict=True)
        )
        if not all(self._close(row, own) for row, own in rows):
            return False
        lengths = zip(outputs[2], outputs[3], LENGTHS, strict=True)
        return all(torch.equal(one[:length], other[:length]) for one, other, length in lengths)

    def _continues_from_cache(self) -> bool:
        """Return whether a cache of a line's first half gives the second half the same logits as the whole line."""
        line, half = self.lines[1], LENGTHS[1] // 2
        embeds = inputs_of(self.model, collate([line], self.pad), self.prompt.unsqueeze(0))["inputs_embeds"]
        whole = self.model(inputs_embeds=embeds.clone()).logits[:, half:]
        first = self.model(inputs_embeds=embeds[:, :half].clone(), use_cache=True)
        cache, logits = first.past_key_values, []
        for column in range(half, embeds.shape[1]):
            step = self.model(inputs_embeds=embeds[:, [column]], past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            logits.append(step.logits)  # [1, 1, V]
        return cache is not None and self._close(torch.cat(logits, dim=1), whole)

    def _read(self, padded: bool) -> tuple[str, Shortcuts, int]:
        """Return backbone, shortcuts and width of the states."""
        lines = self.lines if padded else self.lines[2:]
        batch = collate(lines, self.pad)
        rows = self.prompt.expand(len(lines), -1, -1)
        places = question(batch, None).behind(rows)

        def inputs() -> dict[str, Any]:  # new ones each time, as some families write into them
            return inputs_of(self.model, batch, rows)

        shortcuts = Shortcuts() if self.lm_head == "none" else self._shortcuts(inputs, places)
        names = backbones(self.model) if shortcuts.states is None else [shortcuts.states]
        for name in names:

            def states(shortcuts: Shortcuts, name: str = name) -> torch.Tensor:
                return states_at(self.model, inputs(), places.columns, name, shortcuts)

            if (plain := attempt(states, Shortcuts())) is not None:
                narrowed = attempt(states, Shortcuts(last_layer=True))
                exact = narrowed is not None and self._close(narrowed, plain)
                wanted = shortcuts.last_layer or self.lm_head == "none"
                return name, replace(shortcuts, last_layer=wanted and exact), plain.shape[1]
        raise ModelError("it has no backbone that gives last hidden states")

    def _shortcuts(self, inputs: Callable[[], dict[str, Any]], places: Places) -> Shortcuts:
        """Return as many shortcuts as leave the answers unchanged."""
        plain = read(self.model, inputs(), places, None, Shortcuts())
        words = [list(self.lines[0].ids[:2]), [self.lines[1].ids[0]]]
        wanted = {None: plain, tuple(map(tuple, words)): label_logits(plain, words)}

        def exact(shortcuts: Shortcuts) -> bool:
            logits = [attempt(read, self.model, inputs(), places, few, shortcuts) for few in wanted]
            pairs = zip(logits, wanted.values(), strict=True)
            return all(ours is not None and self._close(ours, plain) for ours, plain in pairs)

        names = (name for name in backbones(self.model) if exact(Shortcuts(name)))
        if (name := next(names, None)) is None:
            return Shortcuts()
        last_layer = exact(Shortcuts(name, last_layer=True))
        return Shortcuts(name, last_layer, label_rows=exact(Shortcuts(name, last_layer, label_rows=True)))

    def _rows_stay_apart(self, traits: Traits) -> bool:
        """Return whether a record's gradient has the same bits alone and among others, at any row of one shape.

        The answer is read next to the prompt, because a narrow attention window may not reach the prompt from afar.
        LLM.int8 multiplies columns with an outlier in any row apart from the others, so there rows never stay apart.
        """
        if numbers_of(self.model) == "int8":
            return False
        own, width = replace(self.lines[0], answer=0), LENGTHS[-1] + 1 if traits.padded else 0
        blank = Line((self.pad,) * (1 if traits.padded else len(own.ids)), 0)
        turned = replace(own, ids=own.ids[::-1])
        others = self.lines[1:] if traits.padded else [turned, turned]
        alone = self._gradients([own, blank, blank], width, traits)[0]
        if not alone.isfinite().all():
            raise ModelError("the gradient of a prompt before a line is not finite")
        if not torch.equal(alone, self._gradients([own, blank, blank], width, traits)[0]):
            raise ModelError("the same line has another gradient each time; take a deterministic model")
        with Operators() as seen:
            middle = self._gradients([others[0], own, others[1]], width, traits)[1]
        last = self._gradients([others[1], others[0], own], width, traits)[2]
        return torch.equal(alone, middle) and torch.equal(alone, last) and not seen.shaped_by_values

    def _gradients(self, lines: Sequence[Line], width: int, traits: Traits) -> torch.Tensor:
        """Return the gradient [B, P, H] of each row's answer with respect to its prompt."""
        batch = collate(lines, self.pad, width)
        rows = self.prompt.expand(len(lines), -1, -1).clone().requires_grad_(True)
        inputs, places = inputs_of(self.model, batch, rows), question(batch, None).behind(rows)
        if self.lm_head == "none":
            outputs = states_at(self.model, inputs, places.columns, traits.backbone, traits.shortcuts)
        else:
            outputs = read(self.model, inputs, places, None, traits.shortcuts)
        weights = torch.linspace(-1, 1, outputs.shape[1], dtype=outputs.dtype)
        gradients: torch.Tensor = torch.autograd.grad((outputs * weights).sum(), rows)[0]
        return gradients

    def _whole(self, lines: Sequence[Line], width: int = 0, fill: int = 0) -> torch.Tensor:
        """Return plain outputs [B, T, V or H] for embeddings of lines; `fill` is added to the padding token."""
        batch = collate(lines, (self.pad + fill) % self._vocabulary, width)
        return self._outputs(self.model(**inputs_of(self.model, batch, None)))

    def _outputs(self, output: object) -> torch.Tensor:
        numbers: torch.Tensor = output.last_hidden_state if self.lm_head == "none" else output.logits  # type: ignore[attr-defined]
        return numbers

    def _close(self, ours: torch.Tensor, theirs: torch.Tensor) -> bool:
        return close(ours, theirs, self.model.dtype)


def _lines(tokens: torch.Tensor, mask: int | None) -> Iterator[Line]:
    """Yield lines of these tokens; those of a masked model are read at their mask."""
    for ids in tokens.split(LENGTHS):  # type: ignore[no-untyped-call]
        answer = len(ids) - 1 if mask is None else len(ids) // 2
        ids[answer] = ids[answer] if mask is None else mask
        yield Line(tuple(map(int, ids)), answer)
