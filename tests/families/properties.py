"""What has to hold of a model before anything is paid for it, each measured against stock transformers and PEFT.

A property is a function of a `Subject` that raises `DifferentError` where it does not hold, and returns in a word
how it holds where there is more than one way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from client.noise import GRID_BITS, clip_to_grid
from tests.families.subject import FREE, HEAD, PROMPT, TASK, TEXTS, Subject, UnbuiltError, first_line, write
from tests.families.tiny import LAYERS, Kind
from transfer.batches import FORWARD_TOKENS, Line
from transfer.decoding import greedy
from transfer.errors import PromptferryError
from transfer.gradients import LabelledLines, per_record_gradients
from transfer.models import LanguageModel, load
from transfer.prompt import SoftPrompt
from transfer.proxy import Proxy, cut

CLOSE = 1e-4
"""Largest difference of two float32 computations of the same, as a part of the largest value."""

BOUND = 1.000001
"""Most that one record may move the sum of clipped gradients, in clipping norms."""


class DifferentError(Exception):
    """Something came out otherwise than it has to."""


def measured(kind: Kind, tokenizer: PreTrainedTokenizerFast, directory: Path) -> dict[str, str]:
    """The outcome of every property of one kind, by its name."""
    rest = dict.fromkeys(PROPERTIES, "–")
    try:
        write(kind, tokenizer, directory)
        unbuilt = ""
    except UnbuiltError as error:
        unbuilt = str(error)
    subject: Subject | None = None

    def loads() -> str:
        nonlocal subject
        ours = load(directory)
        if unbuilt:
            raise DifferentError(f"loaded, though transformers says {unbuilt}")
        if ours.lm_head != kind.lm_head:
            raise DifferentError(f"a {kind.lm_head} LM is loaded as {ours.lm_head}")
        subject = Subject(kind, directory, ours)
        return ""

    found = {"loads": outcome(loads)}
    if subject is None:
        return {"loads": found["loads"].replace(f"{directory}: ", ""), **rest}
    for name, (holds, _) in PROPERTIES.items():
        found[name] = outcome(partial(holds, subject))
    return {name: told.replace(f"{directory}: ", "") for name, told in found.items()}


def outcome(test: Callable[[], str | None]) -> str:
    """How a test ended, in one line."""
    try:
        return " ".join(filter(None, ("ok", test())))
    except PromptferryError as error:
        return f"refused: {first_line(error)}"
    except DifferentError as error:
        return f"DIFFERENT {error}"
    except Exception as error:  # noqa: BLE001  # whatever it is, the table shows it and the test fails
        return f"CRASH {type(error).__name__}: {first_line(error)}"


def same(ours: torch.Tensor, theirs: torch.Tensor, what: str = "", bound: float = CLOSE) -> None:
    """Raise if two tensors differ by more than `bound` of the largest value."""
    if ours.shape != theirs.shape:
        raise DifferentError(f"{what}shapes {list(ours.shape)} and {list(theirs.shape)}")
    if not (ours.isfinite().all() and theirs.isfinite().all()):
        raise DifferentError(f"{what}not finite")
    off = float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp_min(1e-30))
    if off > bound:
        raise DifferentError(f"{what}by {off:.2g}")


def without_prompt(subject: Subject) -> None:
    """The answer's logits are those of the plain model from token ids."""
    same(subject.ours.answer_logits(subject.lines), subject.answers)


def with_prompt(subject: Subject) -> None:
    """Behind a prompt they are stock PEFT's with the delivered directory."""
    ours = subject.ours.answer_logits(subject.lines, subject.prompt)
    try:
        theirs = subject.prompted
    except Exception as error:
        raise RuntimeError(f"stock PEFT: {type(error).__name__}: {first_line(error)}") from error
    same(ours, theirs)


def class_logits(subject: Subject) -> None:
    """Class logits are the means of their label words' logits."""
    words = subject.ours.encoder(TASK).words
    assert isinstance(words, Sequence)
    means = torch.stack([subject.answers[:, list(ids)].mean(dim=1) for ids in words], dim=1)
    same(subject.ours.answer_logits(subject.lines, None, words), means, bound=10 * CLOSE)
    means = torch.stack([subject.prompted[:, list(ids)].mean(dim=1) for ids in words], dim=1)
    same(
        subject.ours.answer_logits(subject.lines, subject.prompt, words), means, "with a prompt ", 10 * CLOSE
    )


def text_in_front(subject: Subject) -> None:
    """A prompt made of a text acts as the text's tokens in front."""
    text = "The music was good"
    ids = subject.ours.tokenizer(text, add_special_tokens=False)["input_ids"]
    theirs = [subject.logits([*ids, *line.ids])[len(ids) + line.answer] for line in subject.lines]
    same(
        subject.ours.answer_logits(subject.lines, subject.ours.text_prompt(text, len(ids))),
        torch.stack(theirs),
    )


def rows_apart(subject: Subject) -> str:
    """A record's gradient is the same bit for bit whoever stands beside it and wherever it stands."""
    _rows_apart(subject.ours, subject, torch.float32)
    return ""


def rows_apart_in_half(subject: Subject) -> str:
    """The same in bfloat16."""
    ours = load(subject.directory)
    ours.model.to(torch.bfloat16)
    _rows_apart(ours, subject, torch.bfloat16)
    return ""


def _rows_apart(ours: LanguageModel, subject: Subject, dtype: torch.dtype) -> None:
    data = _data(subject.lines, subject.ours)
    vectors = subject.prompt.vectors.to(dtype)
    every = list(range(len(subject.lines)))
    longest = max(every, key=lambda index: len(subject.lines[index].ids))
    alone = torch.cat([_gradients(ours, data, [index], vectors) for index in every])
    if not alone.isfinite().all() or not alone.abs().amax(dim=(1, 2)).min():
        raise DifferentError("a gradient is not finite or is 0")
    worst = 0.0
    for included in (
        every,
        every[::-1],
        [2, 0, 4, 1, 3],
        *([index, longest] for index in every if index != longest),
    ):
        rows = _gradients(ours, data, included, vectors)
        away = (rows.float() - alone[included].float()).abs().amax(dim=(1, 2))
        worst = max(worst, float((away / alone[included].float().abs().amax(dim=(1, 2))).max()))
    if worst:
        raise DifferentError(f"by {worst:.2g}")


def _data(lines: Sequence[Line], ours: LanguageModel) -> LabelledLines:
    return LabelledLines(lines, torch.tensor([i % 2 for i in range(len(lines))]), ours.encoder(TASK).words)


def _gradients(
    ours: LanguageModel, data: LabelledLines, included: Sequence[int], vectors: torch.Tensor
) -> torch.Tensor:
    """Gradients [N, P, H] of the records `included`, in this order, as a step of tuning computes them."""
    rows: dict[int, torch.Tensor] = {}
    for group in data.batches(list(included), len(vectors), FORWARD_TOKENS):
        rows |= dict(zip(group, per_record_gradients(ours, data, group, vectors), strict=True))
    return torch.stack([rows[index] for index in included])


def sensitivity(subject: Subject) -> str:
    """One record more moves the sum of clipped gradients by no more than the clipping norm."""
    ours, vectors = subject.ours, subject.prompt.vectors
    start = [text for text in TEXTS if len(text.split()) < 8] * 2
    words = TEXTS[1].split()
    texts = start + [" ".join(words[:count]) for count in (1, 3, 4, 5, 6, 8, len(words))]
    data = _data(ours.encoder(TASK).encode(texts), ours)
    few = list(range(len(start)))
    norms = _gradients(ours, data, list(range(len(texts))), vectors).flatten(1).norm(dim=1)
    clip = float(norms.min()) / 2  # every record is clipped
    grid = clip / 2**GRID_BITS

    def total(included: list[int]) -> torch.Tensor:
        groups = data.batches(included, len(vectors), FORWARD_TOKENS)
        return sum(clip_to_grid(per_record_gradients(ours, data, g, vectors), clip, grid) for g in groups)  # type: ignore[return-value]

    without = total(few)
    moved = max(
        float((total([*few, one]) - without).double().norm()) * grid / clip
        for one in range(len(few), len(texts))
    )
    if not moved <= BOUND:
        raise DifferentError(f"{moved:.7g} C")
    return f"{moved:.6f} C"


def layers_of_a_cut(subject: Subject, layers: tuple[int, int]) -> str:
    """Layers of a cut compute what they compute in their place, and a stored proxy reads the same."""
    proxy = replace(subject.ours, model=cut(subject.ours, layers))
    ours = proxy.answer_logits(subject.lines)
    same(ours, _in_place(subject, layers))
    place = subject.directory / f"proxy-{layers[0]}"
    place.mkdir()
    Proxy(proxy, subject.ours.ref, layers, 0.0, None, None, 0).save(place)
    stored = Proxy.load(place).model.answer_logits(subject.lines)
    same(stored, ours, "when stored ", 1e-6)
    return ""


def _in_place(subject: Subject, layers: tuple[int, int]) -> torch.Tensor:
    """Stock logits of the target when every layer but `layers` passes its input on."""

    def passes_on(
        _module: nn.Module, inputs: tuple[object, ...], kwargs: dict[str, object], output: object
    ) -> object:
        state = inputs[0] if inputs else kwargs["hidden_states"]
        return (state, *output[1:]) if isinstance(output, tuple) else state

    stack = _stack(subject.plain)
    others = [layer for index, layer in enumerate(stack) if index not in layers]
    handles = [layer.register_forward_hook(passes_on, with_kwargs=True) for layer in others]
    try:
        return torch.stack(
            [subject.logits(line.ids, **subject.uncached)[line.answer] for line in subject.lines]
        )
    finally:
        for handle in handles:
            handle.remove()


def _stack(model: PreTrainedModel) -> nn.ModuleList:
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == LAYERS]
    if not stacks:
        raise DifferentError("cut, though there is no list of layers")
    return max(stacks, key=lambda stack: sum(weight.numel() for weight in stack.parameters()))


def read_by_a_head(subject: Subject) -> None:
    """A linear head reads the mean state of a line's own tokens, and it and the prompt have gradients."""
    ours, lines = subject.ours, subject.ours.encoder(HEAD).encode(TEXTS)
    words = ours.encoder(HEAD).words
    draw = torch.Generator().manual_seed(2)
    both = SoftPrompt(
        torch.cat([subject.prompt.vectors, torch.randn(2, ours.width, generator=draw)]), ours.ref
    )
    found = ours.answer_logits(lines, both, words)
    theirs = []
    with torch.no_grad():
        for line in lines:
            out = subject.plain.base_model(**subject.embedded(subject.prompt, line.ids))
            state = out.last_hidden_state[0, PROMPT:].mean(dim=0)
            theirs.append(both.vectors[PROMPT:] @ (state / state.norm()))
    same(found, torch.stack(theirs))
    data = LabelledLines(lines, torch.tensor([i % 2 for i in range(len(lines))]), words)
    rows = _gradients(ours, data, range(len(lines)), both.vectors)
    if not rows.isfinite().all():
        raise DifferentError("gradients are not finite")
    if not rows[:, :PROMPT].abs().amax(dim=(1, 2)).min() or not rows[:, PROMPT:].abs().amax(dim=2).min():
        raise DifferentError("the prompt or a row of the head has no gradient")


def free_text(subject: Subject) -> None:
    """Free text is what the plain model's likeliest tokens spell when every one is a full pass."""
    lines = subject.ours.encoder(FREE).encode(TEXTS[:3])
    for prompt in (None, subject.prompt):
        for line, ours in zip(lines, greedy(subject.ours, lines, prompt, 4, -1), strict=True):
            theirs: list[int] = []
            for _ in range(4):
                ids = [*line.ids, *theirs]
                with torch.no_grad():
                    row = (
                        subject.plain(**subject.embedded(prompt, ids)).logits[0]
                        if prompt
                        else subject.logits(ids)
                    )
                theirs.append(int(row[-1].argmax()))
            if list(ours) != theirs:
                raise DifferentError(
                    f"{'with' if prompt else 'without'} a prompt: {list(ours)}, expected {theirs}"
                )


def beyond_the_table(subject: Subject) -> None:
    """Padding beyond the embedding table does no harm, and a word beyond it is refused."""
    rows = subject.ours.embedding.shape[0]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(subject.directory)
    tokenizer.add_tokens([f"<unused{number}>" for number in range(rows - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "<new-pad>"})
    ours = replace(subject.ours, tokenizer=tokenizer)
    same(ours.answer_logits(ours.encoder(TASK).encode(TEXTS)), subject.answers, "padding ")
    tokenizer.add_tokens(["music"])
    try:
        ours.answer_logits(ours.encoder(TASK).encode(TEXTS))
    except PromptferryError:
        return
    raise DifferentError("a word without an embedding is read")


PROPERTIES: Mapping[str, tuple[Callable[[Subject], str | None], str]] = {
    "no prompt": (without_prompt, "logits at the answer are those of the untouched model from token ids"),
    "prompt": (
        with_prompt,
        "behind a prompt they are stock PEFT's with the directory that would be delivered",
    ),
    "classes": (class_logits, "class logits are the means of the label words' logits"),
    "text in front": (text_in_front, "a prompt made of a text acts as the text's tokens in front"),
    "rows apart": (
        rows_apart,
        "a record's gradient is the same bit for bit alone, among others and at any row",
    ),
    "rows apart, bf16": (rows_apart_in_half, "the same in bfloat16"),
    "one record more": (sensitivity, "it moves the sum of clipped gradients by at most the clipping norm C"),
    "cut (0, 3)": (
        partial(layers_of_a_cut, layers=(0, 3)),
        "a proxy of the first and last of four layers computes what they do in their place, also when stored",
    ),
    "cut (1, 3)": (partial(layers_of_a_cut, layers=(1, 3)), "the same of the second and last"),
    "head": (read_by_a_head, "a linear head reads the mean state, and it and the prompt have gradients"),
    "free text": (free_text, "answers are the likeliest tokens of the plain model, each of a full pass"),
    "ids beyond": (
        beyond_the_table,
        "padding beyond the embedding table does no harm, and a word beyond it is refused",
    ),
}

MEANINGS = {"loads": "it is loaded as what it is"} | {
    name: meaning for name, (_, meaning) in PROPERTIES.items()
}
