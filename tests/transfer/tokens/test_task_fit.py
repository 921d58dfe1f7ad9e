"""A task that a model has no way to answer is refused in words that say what to write."""

from dataclasses import replace

import pytest

from transfer.errors import TaskError
from transfer.model_ref import LmHead
from transfer.tasks import Label, Task
from transfer.tokens.task_fit import readable

WORDS = Task("reviews", "{text} It was {answer}.", (Label("good", ("good",)), Label("bad", ("bad",))), "good")


def test_words_are_read_by_a_language_model_head() -> None:
    readable(WORDS, "tiny", "causal", 32, 32)


def test_words_without_such_a_head_are_refused() -> None:
    with pytest.raises(TaskError, match="needs a language-model head, model 'tiny' has none"):
        readable(WORDS, "tiny", "none", 32, 32)


@pytest.mark.parametrize(
    ("lm_head", "words"),
    [
        ("masked", "chat = true needs a causal language model, model 'tiny' is a masked one; leave chat out"),
        (
            "none",
            "chat = true needs a causal language model, model 'tiny' is a backbone alone; leave chat out",
        ),
        (
            "causal",
            "needs a chat template, the tokeniser of model 'tiny' has none; add the model's chat_templ",
        ),
    ],
)
def test_a_chat_needs_a_causal_model_with_a_chat_template(lm_head: LmHead, words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        readable(replace(WORDS, chat=True), "tiny", lm_head, 32, 32, chat_template=lm_head != "causal")
    assert "\n" not in str(caught.value)
    readable(replace(WORDS, chat=True), "tiny", "causal", 32, 32, chat_template=True)
