"""Tasks: what is asked of a text, and how the question becomes tokens.

A task is text infilling (POST §3): the template puts the text and a blank, `{answer}`, into one line, and the
model's logits at the blank are read off at a few label words a class. For a masked model the blank is its
mask token; for a causal model the line ends where the blank begins.

Letters: B records, T tokens, C classes.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from transfer.errors import TaskError, UsageError
from transfer.names import checked


@dataclass(frozen=True, slots=True)
class Label:
    """One class: its name in the data, and the words that stand for it in a model's vocabulary."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A classification task.

    Attributes:
        name: resource-name-safe identifier.
        template: one line with `{text}` before `{answer}`.
        labels: at least two classes, in the order of their integer labels.
        init_text: a sentence about the task whose word embeddings start a prompt.
        max_tokens: longest encoded line; the text is cut, never the template.

    Raises:
        TaskError: names the field and the rule it breaks.
    """

    name: str
    template: str
    labels: tuple[Label, ...]
    init_text: str
    max_tokens: int = 128

    def __post_init__(self) -> None:
        try:
            checked("task", self.name)
        except UsageError as error:
            raise TaskError(str(error)) from None
        head, _, tail = self.template.partition("{answer}")
        if self.template.count("{answer}") != 1 or head.count("{text}") != 1 or "{text}" in tail:
            raise self._error(f"template {self.template!r} needs {{text}} and then {{answer}}, each once")
        if len(self.labels) < 2 or len(set(self.label_names)) < len(self.labels):
            raise self._error(f"labels {list(self.label_names)} must be two or more different classes")
        if not self.init_text.strip():
            raise self._error("init_text is empty")
        if self.max_tokens < 1:
            raise self._error(f"max_tokens {self.max_tokens} must be ≥ 1")
        self._check_words()

    def _check_words(self) -> None:
        owner: dict[str, str] = {}
        for label in self.labels:
            if not label.words:
                raise self._error(f"label {label.name!r} has no label words")
            for word in label.words:
                if not word or word != word.strip():
                    raise self._error(
                        f"label word {word!r} of {label.name!r} is empty or has spaces around it"
                    )
                if word in owner:
                    raise self._error(
                        f"label word {word!r} stands for both {owner[word]!r} and {label.name!r}"
                    )
                owner[word] = label.name

    def _error(self, rule: str) -> TaskError:
        return TaskError(f"task {self.name!r}: {rule}")

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
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TaskError(f"{path}: cannot read the task file: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TaskError(f"{path}: not a TOML file: {error}") from error
        _check_keys(raw, path)
        labels = tuple(Label(name, tuple(words)) for name, words in raw.pop("labels").items())
        try:
            return Task(labels=labels, **raw)
        except TaskError as error:
            raise TaskError(f"{path}: {error}") from error


_KINDS = {"name": str, "template": str, "labels": dict, "max_tokens": int, "init_text": str}
_NOUNS = {str: "string", dict: "table of label words by class", int: "whole number"}


def _check_keys(raw: dict[str, Any], path: Path) -> None:
    for key, value in raw.items():
        if key not in _KINDS:
            raise TaskError(f"{path}: unknown key {key!r} (keys: {', '.join(_KINDS)})")
        if type(value) is not _KINDS[key]:
            raise TaskError(f"{path}: {key} {value!r} must be a {_NOUNS[_KINDS[key]]}")
    missing = [key for key in _KINDS if key not in raw and key != "max_tokens"]
    if missing:
        raise TaskError(f"{path}: missing key {missing[0]!r}")
    for name, words in raw["labels"].items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TaskError(f"{path}: labels.{name} {words!r} must be a list of label words")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Right-padded lines: ids [B, T], mask [B, T] (1 = token), answer [B] (position of the blank)."""

    ids: torch.Tensor
    mask: torch.Tensor
    answer: torch.Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]


@dataclass(frozen=True, slots=True)
class Line:
    """One encoded text: its token ids and the position of the blank."""

    ids: tuple[int, ...]
    answer: int


class Encoder:
    """Turns texts into lines for one task and one tokeniser.

    Raises:
        TaskError: a label word is not exactly one token of this tokeniser, or means two classes there.
    """

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase, *, causal: bool) -> None:
        self.task, self.tokenizer, self.causal = task, tokenizer, causal
        mask = tokenizer.mask_token
        if not causal and mask is None:
            raise TaskError(f"task {task.name!r}: the masked model's tokeniser has no mask token")
        head, _, tail = task.template.partition("{answer}")
        self._template = head.rstrip() if causal else head + str(mask) + tail
        self._overhead = len(self._ids(""))
        if self._overhead >= task.max_tokens:
            raise TaskError(
                f"task {task.name!r}: the template alone is {self._overhead} tokens, "
                f"max_tokens is {task.max_tokens}"
            )
        self.words = [[self._word_id(label, word) for word in label.words] for label in task.labels]
        self._check_words()

    def encode(self, texts: Sequence[str]) -> list[Line]:
        """Lines of `texts`, in order."""
        return [self._line(text) for text in texts]

    def _line(self, text: str) -> Line:
        # a special token spelt out in a text would otherwise become a second blank or an early end
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, " ")
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        room = min(self.task.max_tokens - self._overhead, len(spans))
        # a merge across the cut may cost a token more than the count said: shorten until the line fits
        while len(ids := self._ids(text)) > self.task.max_tokens:
            text = text[: spans[room - 1][1]] if room > 0 else ""
            room -= 1
        answer = len(ids) - 1 if self.causal else ids.index(int(self.tokenizer.mask_token_id or 0))
        return Line(tuple(ids), answer)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(self._template.replace("{text}", text.strip()))["input_ids"]
        if self.causal and len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # a tokeniser that closes every line would put the answer after the end
        return ids

    def _word_id(self, label: Label, word: str) -> int:
        ids = self._continuation(word)
        if len(ids) != 1:
            pieces = self.tokenizer.convert_ids_to_tokens(ids)
            raise TaskError(
                f"task {self.task.name!r}: label word {word!r} of {label.name!r} is {len(ids)} tokens "
                f"{pieces} for this tokeniser; choose a word that is one token"
            )
        if ids[0] == self.tokenizer.unk_token_id:
            raise TaskError(
                f"task {self.task.name!r}: label word {word!r} of {label.name!r} is unknown to this tokeniser"
            )
        return ids[0]

    def _continuation(self, word: str) -> list[int]:
        """Ids of ` word` as it continues a line, whatever marks word starts in this tokeniser."""
        stem = "It was"
        start: list[int] = self.tokenizer(stem, add_special_tokens=False)["input_ids"]
        both: list[int] = self.tokenizer(f"{stem} {word}", add_special_tokens=False)["input_ids"]
        return both[len(start) :]

    def _check_words(self) -> None:
        owner: dict[int, str] = {}
        for label, ids in zip(self.task.labels, self.words, strict=True):
            for token in ids:
                if owner.setdefault(token, label.name) != label.name:
                    word = self.tokenizer.convert_ids_to_tokens(token)
                    raise TaskError(
                        f"task {self.task.name!r}: label word token {word!r} is shared by {owner[token]!r} "
                        f"and {label.name!r}"
                    )


def collate(lines: Sequence[Line], pad_id: int) -> Batch:
    """Right-pad lines to their own longest."""
    width = max(len(line.ids) for line in lines)
    ids = torch.full((len(lines), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(lines), width), dtype=torch.long)
    for row, line in enumerate(lines):
        ids[row, : len(line.ids)] = torch.tensor(line.ids)
        mask[row, : len(line.ids)] = 1
    return Batch(ids, mask, torch.tensor([line.answer for line in lines]))


def buckets(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices grouped by similar length so that rows × longest row ≤ `max_tokens` (at least one row each)."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[index] > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group
