"""A label word is known to the tokeniser, is not empty, and belongs to one class."""

from dataclasses import replace

import pytest

from transfer.errors import TaskError
from transfer.tasks import Label, Task
from transfer.tokens.label_words import label_words

LABELS = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
TASK = Task("reviews", "{text} It was {answer}", LABELS, "A sentence about a review", max_tokens=24)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_label_words_that_are_not_one_known_token_are_refused(kind, request):
    model = request.getfixturevalue(kind)
    with pytest.raises(TaskError, match=r"'weatherfood' of 'other' is \d+ tokens"):
        model.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("weatherfood",)))))


def test_a_label_word_the_tokeniser_does_not_know_is_refused(masked):
    with pytest.raises(TaskError, match="'☃' of 'other' is unknown"):
        masked.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("☃",)))))


def test_label_words_that_become_one_token_are_refused(masked):
    with pytest.raises(TaskError, match=r"\['great'\] is read for both 'positive' and 'other'"):
        masked.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("Great",)))))


def with_words(*words, how="first"):
    return replace(TASK, labels=(LABELS[0], Label("other", words)), label_reading=how)


def test_label_words_are_looked_up_as_they_continue_a_line(model):
    tokens = [model.tokenizer.convert_ids_to_tokens(ids) for ids in model.encoder(TASK).words]
    marker = "Ġ" if model.causal else ""
    assert tokens == [[marker + word for word in label.words] for label in LABELS]


@pytest.mark.parametrize(("kind", "piece"), [("causal", "Ġwe"), ("masked", "weather")])
def test_the_first_piece_can_speak_for_a_word(kind, piece, request):
    model = request.getfixturevalue(kind)
    words = model.encoder(with_words("weatherfood", "bad")).words
    assert model.tokenizer.convert_ids_to_tokens(words[1])[0] == piece
    assert [len(ids) for ids in words] == [2, 2]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_words_of_two_classes_must_not_begin_alike_if_their_beginnings_are_read(kind, request):
    model = request.getfixturevalue(kind)
    with pytest.raises(TaskError, match=r"great'\] is read for both 'positive' and 'other'"):
        model.encoder(with_words("greatfood"))
    model.encoder(with_words("greatfood", how="whole"))


def test_a_word_that_begins_with_a_lone_space_piece_is_refused(metaspace):
    with pytest.raises(TaskError, match=r"'swag' of 'other' begins with a lone space \['▁'\]"):
        label_words(with_words("swag"), metaspace, causal=True)


def test_the_mark_that_opens_a_line_is_never_a_words_first_piece(closing):
    words = label_words(with_words("weatherfood"), closing, causal=True)
    assert closing.bos_token_id not in {token for ids in words for token in ids}


@pytest.mark.parametrize("how", ["single", "first", "whole"])
@pytest.mark.parametrize(
    ("kind", "word", "says"),
    [
        ("masked", "☃", "'☃' of 'other' is unknown"),
        ("masked", "\x01", "of 'other' is empty"),
        ("masked", "[SEP]", "holds a special token"),
        ("causal", "</s>", "holds a special token"),
        ("masked", "Great", "read for both"),
    ],
)
def test_a_word_that_no_reading_can_read_is_refused_in_one_line(kind, word, says, how, request):
    with pytest.raises(TaskError, match=says) as caught:
        request.getfixturevalue(kind).encoder(with_words(word, how=how))
    assert "\n" not in str(caught.value)
