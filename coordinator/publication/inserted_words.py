"""Words that a text may say as one token, and texts with a place for one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from transfer.models.language_model import LanguageModel
from transfer.tasks import Task
from transfer.tokens import vocabulary
from transfer.tokens.batches import Line
from transfer.tokens.label_words import Stem


class Words:
    """Tokens that a text may say as a word of its own.

    Special tokens, parts of words and what cannot be printed are none. Nor are label words: an honest prompt may well
    answer "great" to a text that says "great".
    """

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, self._stem = tokenizer, Stem(tokenizer)
        self._usual = vocabulary.ordinary(tokenizer)
        self._labels = {word.casefold() for label in task.labels for word in label.words}

    def spelt(self, token: int) -> str:
        """Return the word of a token."""
        return str(self._tokenizer.decode([token])).strip()

    def __contains__(self, token: int) -> bool:
        word = self.spelt(token)
        if token not in self._usual or word.casefold() in self._labels:
            return False
        return word.isprintable() and bool(word) and self._stem.continued(word) == (token,)

    def within(self, texts: Sequence[str]) -> list[str]:
        """Return the words among those of `texts`."""
        pieces = (self._stem.continued(word) for word in dict.fromkeys(" ".join(texts).split()))
        # each once: a tokeniser may read "We" and "we" as one
        tokens = dict.fromkeys(own[0] for own in pieces if len(own) == 1)
        return [self.spelt(token) for token in tokens if token in self]


@dataclass(frozen=True, slots=True)
class Slot:
    """A text and its line with one more word behind the first of its own: the token at `column`."""

    text: str
    line: Line
    column: int

    def filled(self, token: int) -> Line:
        """Return the line with `token` in place of the additional word's."""
        ids = self.line.ids
        return replace(self.line, ids=(*ids[: self.column], token, *ids[self.column + 1 :]))


def slots(
    target: LanguageModel, task: Task, texts: Sequence[str], words: Words, draw: random.Random
) -> list[Slot]:
    """Return the texts that take another word, each with a word that `draw` takes from another text.

    The word stands behind the first one: no cut of a long text reaches it, and in a chat the user says it. Texts
    whose other tokens would change are left out.

    Raises:
        TaskError: the task does not fit the target.
    """
    encoder, own, places = target.encoder(task), words.within(texts), []
    for text in texts if len(own) > 1 else ():
        before, _, behind = text.strip().partition(" ")
        # two words rather than one and none: a cut then falls at the same place in both lines
        one, other = encoder.encode([f"{before} {word} {behind}" for word in draw.sample(own, 2)])
        pairs = enumerate(zip(one.ids, other.ids, strict=False))
        columns = [column for column, (ours, theirs) in pairs if ours != theirs]
        if len(one.ids) == len(other.ids) and len(columns) == 1:
            places.append(Slot(text, one, columns[0]))
    return places
