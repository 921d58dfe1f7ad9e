"""What holds of one architecture holds of all that transformers loads: the prompt in front, records apart."""

from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
    RobertaForMaskedLM,
)

from transfer.batches import Line
from transfer.decoding import greedy
from transfer.errors import ModelError
from transfer.model_ref import ModelRef
from transfer.models import LanguageModel, load
from transfer.prompt import SoftPrompt
from transfer.proxy import cut

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good")
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LIMIT = {"vocab_size": 400, "max_position_embeddings": 96}
GROUPED = {**SIZE, **LIMIT, "num_key_value_heads": 2}
CAUSAL = {
    "gpt2": GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96),
    "llama": LlamaConfig(**GROUPED),
    "qwen2": Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "mistral": MistralConfig(**GROUPED, sliding_window=4),
    "gpt-neox": GPTNeoXConfig(**SIZE, **LIMIT),
}
MASKED = {
    "bert": (BertForMaskedLM, BertConfig(**SIZE, **LIMIT)),
    "roberta": (RobertaForMaskedLM, RobertaConfig(**SIZE, **LIMIT, pad_token_id=1)),
}
LENGTH = 4


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


def read_by(task, how):
    if how != "head":
        return replace(task, label_reading=how)
    labels = tuple(replace(label, words=()) for label in task.labels)
    return replace(task, template="{text}", labels=labels, label_reading=how)


@pytest.mark.parametrize("how", ["single", "whole", "head"])
def test_gradients_of_a_batch_are_those_of_its_records_alone(family, tiny_task, prompt, how):
    encoder = family.encoder(read_by(tiny_task, how))
    lines = encoder.encode(TEXTS)

    def gradients(chosen):
        rows = prompt.vectors.expand(len(chosen), -1, -1).clone().requires_grad_(True)
        logits = family.logits(family.collate(chosen), rows, encoder.words)
        logits.log_softmax(1)[:, 0].sum().backward()
        return rows.grad

    alone = torch.cat([gradients([line]) for line in lines])
    error = (gradients(lines) - alone).abs().max() / alone.abs().max()
    assert error <= 1e-5


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
