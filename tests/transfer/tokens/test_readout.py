"""Whole words are read as a slow loop over plain forward passes reads them."""

from dataclasses import replace

import pytest
import torch

from transfer.tasks import Label
from transfer.tokens.readout import WholeWords, copies, question

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful.", "good")
LABELS = (Label("good", ("good", "great evening")), Label("bad", ("great food", "terrible", "weatherfood")))


@pytest.fixture
def whole(model, tiny_task):
    return model.encoder(replace(tiny_task, labels=LABELS, label_reading="whole"))


@pytest.fixture
def prompt(model):
    return model.text_prompt("A sentence about a review", 3)


def score(model, prompt, ids, places, pieces):
    """Mean log-probability of `pieces` at `places` of one line, by one forward pass of the whole model."""
    embeds = torch.cat([prompt.vectors, model.embedding[list(ids)]]).unsqueeze(0)
    logits = model.model(inputs_embeds=embeds).logits[0].log_softmax(-1)
    chances = [logits[prompt.length + place, piece] for place, piece in zip(places, pieces, strict=True)]
    return sum(chances) / len(chances)


@torch.no_grad()
def test_a_class_is_the_mean_of_its_words_and_a_word_of_its_pieces(model, whole, prompt):
    lines = whole.encode(TEXTS)
    ours = model.answer_logits(lines, prompt, whole.words)
    assert max(len(word) for words in whole.words.pieces for word in words) > 1
    for line, classes in zip(lines, ours, strict=True):
        for words, found in zip(whole.words.pieces, classes, strict=True):
            scores = []
            for word in words:
                ids = (*line.ids, *word[:-1]) if model.causal else line.ids
                scores.append(score(model, prompt, ids, range(line.answer, line.answer + len(word)), word))
            assert found.item() == pytest.approx(sum(scores).item() / len(scores), abs=1e-5)


def test_one_piece_words_give_the_same_probabilities_either_way(model, tiny_task, prompt):
    encoders = [model.encoder(replace(tiny_task, label_reading=how)) for how in ("single", "first", "whole")]
    single, first, whole = (
        model.answer_logits(encoder.encode(TEXTS), prompt, encoder.words).softmax(1) for encoder in encoders
    )
    assert torch.equal(single, first)
    torch.testing.assert_close(single, whole, atol=1e-6, rtol=0)


def test_words_with_a_common_beginning_share_a_row():
    words = WholeWords((((5,), (6, 7)), ((6, 8), (9, 1, 2))), causal=True)
    assert words.beginnings == [(6,), (9, 1)]
    assert words.reads() == [2, 3]
    assert copies(words) == 2
    assert copies(replace(words, causal=False)) == 1
    assert replace(words, causal=False).reads() == [3]


def test_a_masked_line_has_as_many_masks_as_the_longest_word_has_pieces(masked, tiny_task):
    encoder = masked.encoder(replace(tiny_task, labels=LABELS, label_reading="whole"))
    for line in encoder.encode([*TEXTS, "long " * 100]):
        blanks = range(line.answer, line.answer + encoder.words.longest)
        assert {line.ids[place] for place in blanks} == {masked.tokenizer.mask_token_id}
        assert line.ids.count(masked.tokenizer.mask_token_id) == len(blanks) == 3
        assert len(line.ids) <= tiny_task.max_tokens


def test_a_causal_line_leaves_room_for_the_longest_word(causal, tiny_task):
    encoder = causal.encoder(replace(tiny_task, labels=LABELS, label_reading="whole"))
    lines = encoder.encode(["long " * 100])
    asked = question(causal.collate(lines), encoder.words)
    assert asked.batch.mask.sum(1).max() <= tiny_task.max_tokens
    assert len(lines[0].ids) + encoder.words.longest - 1 >= tiny_task.max_tokens - 1
