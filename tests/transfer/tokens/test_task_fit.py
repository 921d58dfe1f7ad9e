"""A task that a model has no way to answer is refused in words that say what to write."""

import pytest

from transfer.errors import TaskError
from transfer.tasks import Label, Task
from transfer.tokens.task_fit import readable

WORDS = Task("reviews", "{text} It was {answer}.", (Label("good", ("good",)), Label("bad", ("bad",))), "good")


def test_words_are_read_by_a_language_model_head() -> None:
    readable(WORDS, "tiny", "causal", 32, 32)


def test_words_without_such_a_head_are_refused() -> None:
    with pytest.raises(TaskError, match="needs a language-model head, model 'tiny' has none"):
        readable(WORDS, "tiny", "none", 32, 32)
