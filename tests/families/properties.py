"""What has to hold of a model before anything is paid for it, each measured against stock transformers and PEFT.

A property is a function of a `Subject` that raises `DifferentError` where it does not hold, and returns in a word
how it holds where there is more than one way.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.families.cuts import layers_of_a_cut
from tests.families.outcomes import DifferentError, outcome
from tests.families.readings import (
    beyond_the_table,
    class_logits,
    free_text,
    read_by_a_head,
    text_in_front,
    with_prompt,
    without_prompt,
)
from tests.families.records import rows_apart, rows_apart_in_half, sensitivity
from tests.families.subject import Subject, write
from tests.families.tiny import Kind
from transfer.models.loading import load
from transfer.models.self_check import require_sound

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

MEANINGS = {"loads": "it is loaded as what it is, and passes its self-check"} | {
    name: meaning for name, (_, meaning) in PROPERTIES.items()
}


def measured(kind: Kind, tokenizer: PreTrainedTokenizerFast, directory: Path) -> dict[str, str]:
    """The outcome of every property of one kind, by its name."""
    unbuilt = write(kind, tokenizer, directory)
    subjects: list[Subject] = []

    def loads() -> None:
        ours = load(directory)
        require_sound(ours)
        if unbuilt:
            raise DifferentError(f"loaded, though transformers says {unbuilt}")
        if ours.lm_head != kind.lm_head:
            raise DifferentError(f"a {kind.lm_head} LM is loaded as {ours.lm_head}")
        subjects.append(Subject(kind, directory, ours))

    found = {"loads": outcome(loads)} | dict.fromkeys(PROPERTIES, "–")
    for subject in subjects:
        found |= {name: outcome(partial(holds, subject)) for name, (holds, _) in PROPERTIES.items()}
    return {
        name: told.replace(f"{directory}: ", "").replace(f"{directory}/", "") for name, told in found.items()
    }
