"""What cannot be transferred is refused before anything is computed."""

from dataclasses import replace

import pytest

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.post.compatibility import check_possible
from transfer.post.settings import TransferSettings
from transfer.tasks import Task

TEXTS = [f"We liked film {number}." for number in range(12)]
VOCABULARY = TransferSettings(space="vocabulary")


def test_full_vocabularies_must_be_equal(
    causal: LanguageModel, masked: LanguageModel, tiny_task: Task
) -> None:
    check_possible(causal, causal, tiny_task, TEXTS, VOCABULARY)
    with pytest.raises(UsageError, match="different vocabularies: transfer in the space of labels"):
        check_possible(causal, masked, tiny_task, TEXTS, VOCABULARY)
    check_possible(causal, masked, tiny_task, TEXTS, TransferSettings(space="labels"))


def test_labels_or_the_vocabulary_must_fit_the_task(
    causal: LanguageModel, tiny_task: Task, head_task: Task
) -> None:
    free = replace(tiny_task, labels=(), kind="text", answer_tokens=5)
    with pytest.raises(UsageError, match="free text has no labels"):
        check_possible(causal, causal, free, TEXTS, TransferSettings(space="labels"))
    with pytest.raises(UsageError, match="a head knows labels only"):
        check_possible(causal, causal, head_task, TEXTS, VOCABULARY)


def test_only_label_words_can_be_answered_without_a_prompt(
    causal: LanguageModel, tiny_task: Task, head_task: Task
) -> None:
    public = TransferSettings(start="public")
    check_possible(causal, causal, tiny_task, TEXTS, public)
    with pytest.raises(UsageError, match='start "public": a bare target answers by label words only'):
        check_possible(causal, causal, head_task, TEXTS, public)
    with pytest.raises(UsageError, match='start "public" compares labels'):
        check_possible(causal, causal, tiny_task, TEXTS, replace(public, space="vocabulary"))
