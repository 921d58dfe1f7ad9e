"""The formats of a task's question: its template with another casing, other separators and another end mark.

A prompt is tuned behind one template, and its users write their own. FormatSpread (Sclar et al. 2024,
https://arxiv.org/abs/2310.11324) draws formats that mean the same from a grammar. This is the one for a template:

- the casing of its words: as written, lower, Title or UPPER. Words that name a label stay as they are, because a
  question must spell an answer as the answer is read;
- the separator between the text and the words on either side of it;
- for a masked model, the mark behind the blank. A causal model reads nothing behind it.

The blank and the space before it stay. So do the system turn of a chat and all that its chat template writes.
"""

import random
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from transfer.errors import TaskError
from transfer.tasks import Task
from transfer.tokens.batches import Line
from transfer.tokens.encoder import Encoder
from transfer.tokens.template import special_ids

SEPARATORS = (" ", "\n", " - ", ": ")
JOINTS = f"{string.whitespace}:–-"
"""What a separator may be made of."""
MARKS = ("", ".", "!")
PROBES = ("A text", "A text.")
"""Texts by whose lines two formats are told apart."""
WORD = r"[^\W\d_]+(?:['’][^\W\d_]+)*"
Casing = Callable[[str], str]


def formats(encoder: Encoder, count: int, seed: int) -> tuple[Encoder, ...]:
    """Return encoders for up to `count` ≥ 1 formats of a task: first its own `encoder`, then others drawn by `seed`.

    A format that the tokeniser cannot write, or writes like one before it, is left out. So there may be fewer: a
    tokeniser without capitals knows no casing, and a template without words has one format.
    """
    special = special_ids(encoder.tokenizer) | {encoder.tokenizer.unk_token_id}

    def marks(lines: Sequence[Line]) -> list[list[int]]:
        return [[token for token in line.ids if token in special] for line in lines]

    canonical, drawn = tuple(encoder.encode(PROBES)), [encoder]
    seen = {canonical}
    templates = list(_grammar(encoder.task, masked=not encoder.causal))
    random.Random(seed).shuffle(templates)  # noqa: S311 -- public, and the same at every call
    for template in templates:
        if len(drawn) >= count:
            break
        try:
            task = replace(encoder.task, template=template)
            other = Encoder(task, encoder.tokenizer, causal=encoder.causal, ends=encoder.ends)
        except TaskError:  # such as a template that is too long in capitals
            continue
        lines = tuple(other.encode(PROBES))
        # in another case a special token is ordinary text and a word may be unknown; behind another line a label
        # word may be other tokens
        same = marks(lines) == marks(canonical) and other.words == encoder.words
        if same and lines not in seen:
            seen.add(lines)
            drawn.append(other)
    return tuple(drawn)


def in_formats(encoders: Sequence[Encoder], texts: Sequence[str], lines: Sequence[Line]) -> list[Line]:
    """Return the N `lines` of `texts` in the first of F formats, then those in each other, with the same goals."""
    every = list(lines)
    for encoder in encoders[1:]:
        others = encoder.encode(texts)
        every += [
            other.replied(line.goal) if line.goal else other
            for line, other in zip(lines, others, strict=True)
        ]
    return every


def _grammar(task: Task, *, masked: bool) -> Iterator[str]:
    """Yield every template of the grammar; some are equal, and one is the task's own."""
    before, _, behind = task.template.partition("{text}")
    question, blank, end = behind.partition("{answer}")
    opening, rest = before.rstrip(JOINTS), question.lstrip(JOINTS)
    gap, joint = before[len(opening) :], question[: len(question) - len(rest)]
    question = rest.rstrip()
    space = rest[len(question) :]
    if not question:  # what joins text and blank is the space before the blank
        joint, space = "", joint
    stem = end.rstrip().rstrip("".join(MARKS))
    ends = (end, *(stem + mark for mark in MARKS)) if masked and blank else (end,)
    names = _names(task)
    for case, separator, last in product(_CASINGS, (None, *SEPARATORS), ends):
        first = separator if opening and separator is not None else gap
        second = separator if question and separator is not None else joint
        head, middle, tail = (_recased(part, case, names) for part in (opening, question, last))
        yield f"{head}{first}{{text}}{second}{middle}{space}{blank}{tail}"


def _names(task: Task) -> re.Pattern[str]:
    """Return a pattern of words; those of a label, whole, are its first group."""
    labels = {word for label in task.labels for word in (label.name, *label.words)}
    kept = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    return re.compile(rf"(?<!\w)({kept or '(?!)'})(?!\w)|{WORD}", re.IGNORECASE)


def _recased(text: str, case: Casing, names: re.Pattern[str]) -> str:
    return names.sub(lambda word: word[0] if word[1] else case(word[0]), text)


def _title(word: str) -> str:
    return word[:1].upper() + word[1:]


_CASINGS: tuple[Casing, ...] = (str, str.lower, _title, str.upper)
