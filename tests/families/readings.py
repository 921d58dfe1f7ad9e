"""What is read off a model: logits with and without a prompt, of classes, by a head, as free text."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerFast

from tests.families.outcomes import CLOSE, DifferentError, first_line, same
from tests.families.records import gradients
from tests.families.subject import FREE, HEAD, PROMPT, TASK, TEXTS, Subject
from transfer.errors import PromptferryError
from transfer.models.generation import greedy
from transfer.models.per_record_gradients import LabelledLines
from transfer.prompt import SoftPrompt


def without_prompt(subject: Subject) -> str:
    """The answer's logits are those of the plain model from token ids."""
    same(subject.ours.answer_logits(subject.lines), subject.answers)
    return _path(subject)


def with_prompt(subject: Subject) -> str:
    """Behind a prompt they are stock PEFT's with the delivered directory."""
    ours = subject.ours.answer_logits(subject.lines, subject.prompt)
    try:
        theirs = subject.prompted
    except Exception as error:
        raise RuntimeError(f"stock PEFT: {type(error).__name__}: {first_line(error)}") from error
    same(ours, theirs)
    return _path(subject)


def _path(subject: Subject) -> str:
    """By which way the model was read."""
    return "" if subject.ours.traits.shortcuts.states is not None else "by the plain path"


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


def read_by_a_head(subject: Subject) -> None:
    """A linear head reads the mean state of a line's own tokens, and it and the prompt have gradients."""
    ours, lines = subject.ours, subject.ours.encoder(HEAD).encode(TEXTS)
    words = ours.encoder(HEAD).words
    draw = torch.Generator().manual_seed(2)
    both = SoftPrompt(
        torch.cat([subject.prompt.vectors, torch.randn(2, ours.width, generator=draw)]), ours.ref
    )
    found = ours.answer_logits(lines, both, words)
    backbone = subject.plain.base_model
    if backbone is subject.plain:  # as Llama 4's is
        backbone = subject.plain.get_submodule(ours.traits.backbone)
    theirs = []
    with torch.no_grad():
        for line in lines:
            state = (
                backbone(**subject.embedded(subject.prompt, line.ids))
                .last_hidden_state[0, PROMPT:]
                .mean(dim=0)
            )
            theirs.append(both.vectors[PROMPT:] @ (state / state.norm()))
    same(found, torch.stack(theirs))
    data = LabelledLines(lines, torch.tensor([i % 2 for i in range(len(lines))]), words)
    rows = gradients(ours, data, range(len(lines)), both.vectors)
    if not rows.isfinite().all():
        raise DifferentError("gradients are not finite")
    if not rows[:, :PROMPT].abs().amax(dim=(1, 2)).min() or not rows[:, PROMPT:].abs().amax(dim=2).min():
        raise DifferentError("the prompt or a row of the head has no gradient")


def free_text(subject: Subject) -> None:
    """Free text is what the plain model's likeliest tokens spell when every one is a full pass."""
    lines = subject.ours.encoder(FREE).encode(TEXTS[:3])
    for prompt in (None, subject.prompt):
        for line, ours in zip(lines, greedy(subject.ours, lines, prompt, 4, ()), strict=True):
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
    tokenizer.add_tokens(["zither"])
    try:
        ours.answer_logits(ours.encoder(TASK).encode(["The zither was great."]))
    except PromptferryError:
        return
    raise DifferentError("a word without an embedding is read")
