"""What a pass leaves out changes nothing that is read."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.transfer.configurations import CAUSAL, LENGTH, MASKED, TEXTS
from transfer.model_ref import ModelRef
from transfer.models.generation import greedy
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


def test_gradients_are_those_of_a_pass_that_leaves_nothing_out(family, lines, prompt):
    rows = prompt.vectors.expand(len(lines), -1, -1).clone().requires_grad_(True)
    family.logits(family.collate(lines), rows).sin().sum().backward()
    for line, ours in zip(lines, rows.grad, strict=True):
        row = prompt.vectors.clone().requires_grad_(True)
        embeds = torch.cat([row, family.embedding[list(line.ids)]]).unsqueeze(0)
        family.model(inputs_embeds=embeds).logits[0, LENGTH + line.answer].sin().sum().backward()
        torch.testing.assert_close(ours, row.grad, atol=1e-5 * row.grad.abs().max().item(), rtol=0)


@torch.no_grad()
def test_the_last_layers_mlp_works_at_the_answers_alone(family, lines, prompt):
    seen = []
    layers = next(m for m in family.model.base_model.modules() if isinstance(m, torch.nn.ModuleList))
    for layer in layers:
        part = getattr(layer, "mlp", None) or layer.intermediate
        part.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1]))
    family.answer_logits(lines[:1], prompt)
    assert seen == [LENGTH + len(lines[0].ids), 1]


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL, indirect=True)
def test_an_answer_is_written_as_passes_over_the_whole_line_write_it(family, lines, prompt):
    for line, written in zip(lines, greedy(family, lines, prompt, 6, end=-1), strict=True):
        tokens = []
        while len(tokens) < 6:
            embeds = torch.cat([prompt.vectors, family.embedding[[*line.ids, *tokens]]]).unsqueeze(0)
            tokens.append(int(family.model(inputs_embeds=embeds).logits[0, -1].argmax()))
        assert written == tuple(tokens)
