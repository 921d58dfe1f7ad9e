"""Layers and positions are found in every family."""

from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.transfer.configurations import CAUSAL, LENGTH, MASKED, TEXTS
from transfer.distillation.proxy import cut
from transfer.errors import ModelError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel, load
from transfer.prompt import SoftPrompt
from transfer.tokens.batches import Line


@pytest.fixture(scope="module")
def byte_masked():
    """RoBERTa's kind of tokeniser: byte-level, padding is token 1, <mask> takes the space before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*TEXTS, "It was great good terrible bad"] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    mask = AddedToken("<mask>", lstrip=True, special=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=mask, **tokens)


@pytest.fixture(params=[*CAUSAL, *MASKED])
def family(request, tiny_causal, tiny_masked):
    """A tiny random model of each family."""
    name = request.param
    torch.manual_seed(0)
    if name in CAUSAL:
        model = AutoModelForCausalLM.from_config(CAUSAL[name])
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    else:
        factory, config = MASKED[name]
        model = factory(config)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_masked)
    if name == "roberta":
        tokenizer = request.getfixturevalue("byte_masked")
    return LanguageModel(model, tokenizer, ModelRef(name, "0" * 64), "causal" if name in CAUSAL else "masked")


@pytest.fixture
def lines(family, tiny_task):
    return family.encoder(tiny_task).encode(TEXTS)


@pytest.fixture
def prompt(family):
    vectors = torch.randn(LENGTH, 32, generator=torch.Generator().manual_seed(0)) / 4
    return SoftPrompt(vectors, family.ref)


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
