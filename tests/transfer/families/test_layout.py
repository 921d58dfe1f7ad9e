"""Layers and positions are found in every family."""

from dataclasses import replace

import pytest
import torch

from transfer.distillation.proxy import cut
from transfer.errors import ModelError
from transfer.models.loading import load
from transfer.tokens.batches import Line


def test_every_family_can_be_cut_and_the_cut_be_stored(family, lines, prompt, tmp_path):
    answers = family.answer_logits(lines, prompt)
    assert torch.equal(replace(family, model=cut(family, (0, 1))).answer_logits(lines, prompt), answers)
    half, weights = replace(family, model=cut(family, (1,))), family.model.state_dict()
    for name, value in half.model.state_dict().items():
        assert torch.equal(value, weights[name.replace(".0.", ".1.")])
    half.model.save_pretrained(tmp_path / "cut")
    family.tokenizer.save_pretrained(tmp_path / "cut")
    read = load(tmp_path / "cut")
    assert read.lm_head == family.lm_head
    assert torch.equal(read.answer_logits(lines, prompt), half.answer_logits(lines, prompt))


def test_a_row_may_be_as_long_as_the_table_of_positions_and_no_longer(family):
    """RoBERTa's table of 96 begins with two positions that belong to padding."""
    room = 94 if family.ref.name == "roberta" else 96
    assert family.positions == room
    family.answer_logits([Line(tuple([7] * room), 0)])
    with pytest.raises(ModelError, match=f"{room} positions, prompt and line need {room + 1}"):
        family.answer_logits([Line(tuple([7] * (room + 1)), 0)])
