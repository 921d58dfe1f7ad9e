"""Vocabularies are told apart, and every tokeniser can pad."""

import json
import shutil

import pytest
import torch

from tests.transfer.models.lines import TEXTS
from transfer.models.loading import load


@pytest.mark.parametrize("eos", [True, False])
def test_a_tokeniser_without_a_padding_token_pads_all_the_same(tiny_causal, tiny_task, tmp_path, eos):
    copy = shutil.copytree(tiny_causal, tmp_path / "copy")
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    for key in ("pad_token", *(() if eos else ("eos_token",))):
        settings.pop(key)
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    bare, usual = load(copy), load(tiny_causal)
    assert bare.tokenizer.pad_token is None
    ours = bare.answer_logits(bare.encoder(tiny_task).encode(TEXTS))
    theirs = usual.answer_logits(usual.encoder(tiny_task).encode(TEXTS))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_tokenisers_are_told_apart_by_their_vocabulary(causal, masked, gpt2):
    assert causal.tokenizer_digest == gpt2.tokenizer_digest != masked.tokenizer_digest
