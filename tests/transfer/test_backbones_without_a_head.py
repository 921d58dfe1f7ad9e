"""Models without an LM head, such as sentence embedders: loaded, read by a linear head, and nothing else."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
    SqueezeBertConfig,
    T5Config,
    T5EncoderModel,
    T5Model,
)

from tests.transfer.conftest import like
from transfer.distillation.proxy import cut
from transfer.errors import ModelError, TaskError, UsageError
from transfer.models.loading import load
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.post.transfer import transfer_problem
from transfer.prompt import SoftPrompt

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good")
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LIMIT = {"vocab_size": 400, "max_position_embeddings": 96}
CONFIGS = {
    "bert": BertConfig(**SIZE, **LIMIT),
    "roberta": RobertaConfig(**SIZE, **LIMIT, pad_token_id=1),
    "mpnet": MPNetConfig(**SIZE, **LIMIT),
    "distilbert": DistilBertConfig(
        vocab_size=400, max_position_embeddings=96, dim=32, hidden_dim=64, n_layers=2, n_heads=4
    ),
    "modernbert": ModernBertConfig(
        **SIZE, **LIMIT, pad_token_id=0, global_attn_every_n_layers=2, local_attention=4
    ),
    "squeezebert": SqueezeBertConfig(**SIZE, **LIMIT, embedding_size=32),  # calls its pooler unasked
    "llama": LlamaConfig(**SIZE, **LIMIT, num_key_value_heads=2),
    "qwen2": Qwen2Config(**SIZE, **LIMIT, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96),
}


@pytest.fixture(params=CONFIGS)
def family(request, tmp_path, tiny_masked):
    """A tiny random backbone of each family, by way of its directory."""
    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIGS[request.param])
    return load(like(tiny_masked, model, tmp_path / "lm"), name=request.param)


def prompt_and_head(model, rows=4 + 2):
    return SoftPrompt(torch.randn(rows, 32, generator=torch.Generator().manual_seed(0)) / 4, model.ref)


@torch.no_grad()
def test_the_head_reads_the_mean_state_behind_the_prompt_in_every_family(family, head_task):
    assert family.lm_head == "none"
    both = prompt_and_head(family)
    for line, ours in zip(
        family.encoder(head_task).encode(TEXTS), class_logits(family, head_task, TEXTS, both), strict=True
    ):
        embeds = torch.cat([both.vectors[:4], family.embedding[list(line.ids)]]).unsqueeze(0)
        pooled = family.model(inputs_embeds=embeds).last_hidden_state[0, 4:].mean(dim=0)
        torch.testing.assert_close(both.vectors[4:] @ (pooled / pooled.norm()), ours, atol=1e-5, rtol=0)


def test_gradients_of_a_batch_are_those_of_its_records_alone_in_every_family(family, head_task):
    encoder = family.encoder(head_task)
    lines = encoder.encode(TEXTS)

    def gradients(chosen):
        rows = prompt_and_head(family).vectors.expand(len(chosen), -1, -1).clone().requires_grad_(True)
        logits = family.logits(family.collate(chosen), rows, encoder.words)
        logits.log_softmax(1)[:, 0].sum().backward()
        return rows.grad

    alone = torch.cat([gradients([line]) for line in lines])
    assert (gradients(lines) - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_every_family_can_be_cut_and_the_cut_be_stored(family, head_task, tmp_path):
    whole, both = cut(family, (0, 1)), prompt_and_head(family)
    same = class_logits(replace(family, model=whole), head_task, TEXTS, both)
    assert torch.equal(same, class_logits(family, head_task, TEXTS, both))
    half = replace(family, model=cut(family, (0,)))
    half.model.save_pretrained(tmp_path / "cut")
    family.tokenizer.save_pretrained(tmp_path / "cut")
    read = load(tmp_path / "cut")
    assert read.lm_head == "none"
    assert torch.equal(class_logits(read, head_task, TEXTS, both), class_logits(half, head_task, TEXTS, both))
    assert not torch.equal(class_logits(read, head_task, TEXTS, both), same)


def edited(directory, place, architectures, *without):
    """A copy that says it is of `architectures`, and lacks the weights whose names begin with `without`."""
    shutil.copytree(directory, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
    state = load_file(place / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith(without or "?")}
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    return place


def test_a_head_that_is_promised_and_was_never_saved_is_not_missed(tiny_masked, tmp_path, head_task):
    """As sentence embedders are often published: all-mpnet-base-v2 says it is an MPNetForMaskedLM."""
    whole = load(tiny_masked)
    bare = load(edited(tiny_masked, tmp_path / "bare", ["BertForMaskedLM"], "cls."))
    assert (whole.lm_head, bare.lm_head) == ("masked", "none")
    both = prompt_and_head(bare)
    assert torch.equal(
        class_logits(bare, head_task, TEXTS, both), class_logits(whole, head_task, TEXTS, both)
    )
    with pytest.raises(ModelError, match="no weight 'cls"):
        load(tmp_path / "bare", lm_head="masked")
    assert load(tmp_path / "bare", lm_head="none").lm_head == "none"


def test_a_pooler_that_is_missing_is_not_missed(tiny_encoder, tmp_path, head_task):
    full, bare = load(tiny_encoder), load(edited(tiny_encoder, tmp_path / "lm", ["BertModel"], "pooler."))
    assert not any("pooler" in name for model in (full, bare) for name in model.model.state_dict())
    both = prompt_and_head(full)
    assert torch.equal(class_logits(bare, head_task, TEXTS, both), class_logits(full, head_task, TEXTS, both))


def test_a_classifiers_backbone_is_read_without_its_classifier(tiny_masked, tmp_path):
    assert (
        load(edited(tiny_masked, tmp_path / "lm", ["BertForSequenceClassification"], "cls.")).lm_head
        == "none"
    )


@pytest.mark.parametrize("kind", [T5Model, T5EncoderModel])
def test_an_encoder_decoder_is_refused_in_one_line(tiny_masked, tmp_path, kind):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    place = like(tiny_masked, kind(T5Config(vocab_size=400, **sizes)), tmp_path / "lm")
    with pytest.raises(ModelError, match="cannot load a language model") as caught:
        load(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, 'label_reading "single"'),
        ({"label_reading": "whole"}, 'label_reading "whole"'),
        ({"kind": "text", "labels": ()}, 'kind "text"'),
    ],
)
def test_a_task_that_needs_an_lm_head_is_refused_in_one_line(headless, tiny_task, change, asked):
    with pytest.raises(TaskError) as caught:
        headless.encoder(replace(tiny_task, **change))
    assert str(caught.value) == (
        f"task 'reviews': {asked} needs a language-model head, model '{headless.ref.name}' has none; "
        'write label_reading = "head", no {answer} in the template, and empty lists of label words'
    )


def test_there_are_no_logits_of_words(headless, head_task):
    lines = headless.encoder(head_task).encode(TEXTS)
    with pytest.raises(ModelError, match="has no language-model head"):
        headless.answer_logits(lines)


def test_a_head_is_not_transferred_in_the_space_of_the_vocabulary(encoder, head_task):
    settings = TransferSettings(space="vocabulary")
    with pytest.raises(UsageError, match='a head knows labels only: transfer with space = "labels"'):
        transfer_problem(prompt_and_head(encoder), encoder, encoder, head_task, TEXTS * 4, settings)


@pytest.mark.assets
def test_a_real_masked_models_backbone_loads_as_it_was(assets, tmp_path, head_task):
    source = assets / "models" / "minilm-l6-mlm"
    AutoModel.from_pretrained(source).save_pretrained(tmp_path / "lm")
    PreTrainedTokenizerFast.from_pretrained(source).save_pretrained(tmp_path / "lm")
    whole, bare = load(source), load(tmp_path / "lm")
    assert json.loads((tmp_path / "lm" / "config.json").read_text())["architectures"] == ["BertModel"]
    assert (whole.lm_head, bare.lm_head) == ("masked", "none")
    both = whole.text_prompt("A review", 5).vectors
    both = SoftPrompt(torch.cat([both, torch.randn(2, whole.width)]), whole.ref)
    torch.testing.assert_close(
        class_logits(bare, head_task, TEXTS, both), class_logits(whole, head_task, TEXTS, both)
    )
