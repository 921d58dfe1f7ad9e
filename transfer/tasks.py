"""Tasks: the question a model answers about a text.

A task is text infilling (POST §3): the template puts the text and a blank, `{answer}`, into one line. Either the
model's logits at the blank are read at a few label words per class, or a causal model fills the blank with free text.
`transfer.tokens.encoder` turns the line into tokens.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transfer import task_file
from transfer.errors import TaskError, UsageError
from transfer.names import checked
from transfer.task_file import shortened

Kind = Literal["label", "text"]
"""Kind of answer: one of the labels, or free text."""

LabelReading = Literal["single", "first", "whole", "head"]
"""Which tokens of a label word are read: its only one, the first of several, or all of them. With "head" there are no
words: a linear head, tuned together with the prompt, reads pooled states."""

PromptAt = Literal["start", "user"]
"""Where the prompt stands: before the whole line, or first in the user's turn of a chat."""

Truth = int | tuple[int, ...]
"""What is true of a text, by integer label: its one label, or where a task has several a text, all that apply."""

MOST_TOKENS = 1_000_000
"""Limit of every number of tokens: more than any model reads at once."""


@dataclass(frozen=True, slots=True)
class Label:
    """One class: its name in the data, and the words that stand for it in a model's vocabulary.

    `weight` > 0 is the weight of its loss where a text may have several labels. A task declares it: weights counted
    from private labels would be a release without noise.
    """

    name: str
    words: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """A classification task, or one whose answer is free text.

    Attributes:
        name: resource-name-safe identifier.
        template: one line with `{text}` before `{answer}`; without `{answer}` if a head reads the line.
        labels: at least two classes, in the order of their integer labels; none if the answer is text.
        init_text: a sentence about the task whose word embeddings start a prompt.
        max_tokens: longest encoded line; the text is cut, never the template.
        kind: what an answer is.
        label_reading: which tokens of a label word are read, or that a head reads instead.
        answer_tokens: largest number of tokens of an answer in free text, its end included; longer ones are cut.
        chat: the tokeniser's chat template writes the line: the template before `{answer}` is the user's turn, the
            answer the assistant's.
        system: the system turn before it; "" leaves it to the chat template.
        prompt_at: where the prompt stands.
        many: any number of the labels may apply to one text, none included; a head reads each of them on its own.
        threshold: probability in (0, 1) above which a label applies, if `many`.

    Raises:
        TaskError: names the field and the rule it breaks.
    """

    name: str
    template: str
    labels: tuple[Label, ...]
    init_text: str
    max_tokens: int = 128
    kind: Kind = "label"
    label_reading: LabelReading = "single"
    answer_tokens: int = 16
    chat: bool = False
    system: str = ""
    prompt_at: PromptAt = "start"
    many: bool = False
    threshold: float = 0.5

    def __post_init__(self) -> None:
        try:
            checked("task", self.name)
        except UsageError as error:
            raise TaskError(str(error)) from None
        self._check_template()
        if not self.init_text.strip():
            raise self._error("init_text is empty; write a sentence about the task")
        for key in ("max_tokens", "answer_tokens"):
            if not 1 <= getattr(self, key) <= MOST_TOKENS:
                raise self._error(f"{key} {shortened(getattr(self, key))} must be from 1 to {MOST_TOKENS}")
        choices = {"kind": Kind, "label_reading": LabelReading, "prompt_at": PromptAt}
        for key, known in choices.items():
            if getattr(self, key) not in get_args(known):
                raise self._error(f"{key} {getattr(self, key)!r} must be one of {', '.join(get_args(known))}")
        self._check_chat()
        self._check_labels()
        self._check_words()
        self._check_many()

    def _check_template(self) -> None:
        head, _, tail = self.template.partition("{answer}")
        blanks = 0 if self.label_reading == "head" else 1
        if self.template.count("{answer}") != blanks or head.count("{text}") != 1 or "{text}" in tail:
            needs = "{text} and then {answer}, each once" if blanks else "{text} once, and no {answer}"
            raise self._error(
                f'template {self.template!r} needs {needs} for label_reading = "{self.label_reading}"'
            )

    def _check_chat(self) -> None:
        if self.system != self.system.strip():
            raise self._error(f"system {shortened(self.system)} has spaces around it; remove them")
        if not self.chat and (self.system or self.prompt_at == "user"):
            key = "system" if self.system else 'prompt_at = "user"'
            raise self._error(f"{key} needs chat = true: a plain line has no turns")

    def _check_labels(self) -> None:
        names = list(self.label_names)
        if self.kind == "text" and (names or self.label_reading == "head"):
            raise self._error(f'labels {names} and any head must go: kind = "text" has none')
        if self.kind == "label" and (len(names) < 2 or len(set(names)) < len(names)):
            raise self._error(f"labels {names} must be two or more different classes")

    def _check_words(self) -> None:
        owner: dict[str, str] = {}
        for label in self.labels:
            if self.head_rows and label.words:
                raise self._error(
                    f'label {label.name!r} has label words: label_reading = "head" reads none; write an empty list'
                )
            if not self.head_rows and not label.words:
                raise self._error(f"label {label.name!r} has no label words; write at least one")
            for word in label.words:
                if not word or word != word.strip():
                    raise self._error(
                        f"label word {word!r} of {label.name!r} is empty or has spaces around it; remove them"
                    )
                if word in owner:
                    other, ours = owner[word], label.name
                    classes = f"{ours!r} twice" if other == ours else f"both {other!r} and {ours!r}"
                    raise self._error(f"label word {word!r} stands for {classes}; keep one")
                owner[word] = label.name

    def _check_many(self) -> None:
        if self.many and not self.head_rows:
            raise self._error(
                'many = true needs label_reading = "head": label words of one text share its probability'
            )
        if not 0 < self.threshold < 1:
            raise self._error(f"threshold {self.threshold} must be in (0, 1)")
        for label in self.labels:
            if not 0 < label.weight < math.inf:
                raise self._error(f"weight {label.weight} of label {label.name!r} must be finite and > 0")
        weighted = any(label.weight != 1 for label in self.labels)
        if not self.many and (weighted or self.threshold != 0.5):
            key = "weights" if weighted else "threshold"
            raise self._error(
                f"{key} needs many = true: one label a text has neither weights nor a threshold"
            )

    def _error(self, rule: str) -> TaskError:
        return TaskError(f"task {self.name!r}: {rule}")

    @property
    def head_rows(self) -> int:
        """C, the head's rows behind a prompt's own; 0 if no head reads the task."""
        return len(self.labels) if self.label_reading == "head" else 0

    @property
    def has_words(self) -> bool:
        """Whether label words are read, rather than a head or free text."""
        return self.kind == "label" and not self.head_rows

    @property
    def label_names(self) -> tuple[str, ...]:
        """Class names by integer label."""
        return tuple(label.name for label in self.labels)

    @staticmethod
    def from_toml(path: Path) -> "Task":
        """Read a task file.

        Raises:
            TaskError: the file is missing, not TOML, or a key is unknown, missing or of the wrong type.
        """
        raw = task_file.read(path)
        weights = raw.pop("weights", {})
        labels = tuple(
            Label(name, tuple(words), weights.get(name, 1.0)) for name, words in raw.pop("labels", {}).items()
        )
        try:
            return Task(labels=labels, **raw)
        except TaskError as error:
            raise TaskError(f"{path}: {error}") from error
