"""Label words as tokens of one tokeniser, checked: known, not empty, and different between the classes.

Nothing here depends on a tokeniser's family: each word is tokenised behind a stem, and the difference is the word's.
"""

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from transfer.errors import TaskError
from transfer.tasks import Label, Task
from transfer.tokens.readout import Head, Reading, WholeWords
from transfer.tokens.template import Frame, special_ids, tokens_before

Pieces = tuple[int, ...]
"""Token ids of one word."""


class Stem:
    """A line that a word or an answer continues, so that the tokeniser marks its start in its own way.

    By default any line; in a chat the rendered one, with the spaces (`gap`) that its assistant's turn has before an
    answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, line: str = "It was", gap: str = " ") -> None:
        self._tokenizer, self._line, self._before = tokenizer, line, line + gap
        self._start: list[int] = tokenizer(line, add_special_tokens=False)["input_ids"]
        self._frame = Frame(tokenizer, self._before, inside=True)

    def continued(self, text: str) -> Pieces:
        """Return the tokens of `text` behind the line; special tokens that it spells stay."""
        return self._behind(self._tokenizer(self._before + text, add_special_tokens=False).encodings[0])

    def answered(self, text: str) -> Pieces:
        """Return the tokens of stripped `text` behind the line, a space in place of each special token it spells."""
        return self._behind(self._frame.encoding(text))

    def _behind(self, whole: Encoding) -> Pieces:
        start = len(self._start)
        if whole.ids[:start] != self._start:  # a word behind it may change the tokens of the line's own end
            start = tokens_before(whole, len(self._line))
        return tuple(whole.ids[start:])


def label_words(
    task: Task, tokenizer: PreTrainedTokenizerBase, *, causal: bool, stem: Stem | None = None
) -> Reading:
    """Return how the labels of `task` are read with `tokenizer` behind `stem`, any line by default.

    Raises:
        TaskError: a word has no tokens, unknown tokens or more tokens than `label_reading` allows, or reads like a
            word of another class.
    """
    if task.head_rows:
        return Head(task.head_rows, tuple(label.weight for label in task.labels) if task.many else None)
    behind = stem or Stem(tokenizer)
    pieces = tuple(
        tuple(_pieces(task, label, word, tokenizer, behind) for word in label.words) for label in task.labels
    )
    owner: dict[Pieces, Label] = {}
    for label, words in zip(task.labels, pieces, strict=True):
        for word in words:
            if owner.setdefault(word, label) is not label:
                raise TaskError(
                    f"task {task.name!r}: {_shown(word, tokenizer)} is read for both {owner[word].name!r} and "
                    f"{label.name!r} with this tokeniser; choose other label words"
                )
    if task.label_reading == "whole":
        return WholeWords(pieces, causal)
    return [[first for (first,) in words] for words in pieces]


def _pieces(task: Task, label: Label, word: str, tokenizer: PreTrainedTokenizerBase, stem: Stem) -> Pieces:
    """Return the tokens of a label word that are read."""
    ids = stem.continued(word)
    subject = f"task {task.name!r}: label word {word!r} of {label.name!r}"
    if tokenizer.unk_token_id in ids:
        raise TaskError(f"{subject} is unknown to this tokeniser; choose another word")
    if special_ids(tokenizer).intersection(ids):
        raise TaskError(f"{subject} holds a special token of this tokeniser; choose another word")
    if _is_space(ids, tokenizer):
        raise TaskError(f"{subject} is empty for this tokeniser; choose another word")
    if task.label_reading == "whole":
        return ids
    if task.label_reading == "single" and len(ids) != 1:
        raise TaskError(
            f"{subject} is {len(ids)} tokens {_shown(ids, tokenizer)} for this tokeniser; choose a word that is "
            'one token, or label_reading = "first" or "whole"'
        )
    if _is_space(ids[:1], tokenizer):
        raise TaskError(
            f"{subject} begins with a lone space {_shown(ids[:1], tokenizer)} for this tokeniser; choose another "
            'word, or label_reading = "whole"'
        )
    return ids[:1]


def _shown(ids: Pieces, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.convert_ids_to_tokens(list(ids)))


def _is_space(ids: Pieces, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokens spell nothing, as SentencePiece's lone `▁` does."""
    return not str(tokenizer.decode(list(ids))).strip()
