"""What holds of one architecture holds of all that transformers loads: the prompt in front, records apart."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.transfer.configurations import CAUSAL, LENGTH, MASKED, TEXTS
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt


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


@torch.no_grad()
def test_the_prompt_stands_before_the_whole_line(family, lines, prompt):
    together = family.answer_logits(lines, prompt)
    for line, ours in zip(lines, together, strict=True):
        embeds = torch.cat([prompt.vectors, family.embedding[list(line.ids)]]).unsqueeze(0)
        full = family.model(inputs_embeds=embeds).logits[0, LENGTH + line.answer]
        torch.testing.assert_close(ours, full, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_a_prompt_an_answer_is_the_models_own(family, lines):
    for line in lines:
        full = family.model(input_ids=torch.tensor([line.ids])).logits[0, line.answer]
        torch.testing.assert_close(family.answer_logits([line])[0], full, atol=1e-5, rtol=0)
