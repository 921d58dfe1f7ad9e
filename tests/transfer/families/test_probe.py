"""What a model is found to be, and which models are refused, each in one line that says why."""

import shutil
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, Gemma3nForCausalLM, Gemma3nTextConfig, LlamaForCausalLM

from tests.transfer.conftest import like
from tests.transfer.kinds import CAUSAL, DECODER, enlarged, saved
from transfer.errors import ModelError
from transfer.families import probe
from transfer.families.shortcuts import Shortcuts
from transfer.models.loading import load


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "llama",
            {
                "shortcuts": Shortcuts("model", last_layer=True, label_rows=True),
                "padded": True,
                "apart": True,
            },
        ),
        ("opt", {"shortcuts": Shortcuts("model.decoder", last_layer=True, label_rows=True)}),
        ("falcon", {"shortcuts": Shortcuts("transformer", last_layer=False, label_rows=True)}),
        ("mixtral", {"apart": False, "padded": True}),
        (
            "mobilebert",
            {"padded": False, "apart": True, "shortcuts": Shortcuts("mobilebert", last_layer=True)},
        ),
        ("convbert", {"padded": False}),
    ],
)
def test_a_shortcut_is_taken_only_where_it_changes_nothing(name, wanted, tiny_causal, tiny_masked, tmp_path):
    traits = load(saved(name, tiny_causal if name in CAUSAL else tiny_masked, tmp_path / "lm")).traits
    assert {key: getattr(traits, key) for key in wanted} == wanted


@pytest.mark.parametrize("name", ["opt", "falcon", "gemma3", "mixtral"])
def test_whichever_way_is_taken_answers_are_the_models_own(name, tiny_causal, tiny_task, tmp_path):
    model = load(saved(name, tiny_causal, tmp_path / "lm"))
    encoder = model.encoder(tiny_task)
    for line in encoder.encode(["The film was great.", "good"]):
        with torch.no_grad():
            own = model.model(input_ids=torch.tensor([line.ids])).logits[0, line.answer]
        torch.testing.assert_close(model.answer_logits([line])[0], own, atol=1e-4, rtol=0)
        classes = torch.stack([own[list(ids)].mean() for ids in encoder.words])
        torch.testing.assert_close(
            model.answer_logits([line], None, encoder.words)[0], classes, atol=1e-4, rtol=0
        )


def bidirectional(tiny_causal, place):
    config = BertConfig(**{key: DECODER[key] for key in DECODER if key != "num_key_value_heads"})
    return like(tiny_causal, BertLMHeadModel(config), place)


def more_than_embeddings(tiny_causal, place):
    sizes = {**DECODER, "intermediate_size": [64] * 4}
    config = Gemma3nTextConfig(
        **sizes, head_dim=8, vocab_size_per_layer_input=400, hidden_size_per_layer_input=8, num_kv_shared_layers=0,
        laurel_rank=4,
    )  # fmt: skip
    return like(tiny_causal, enlarged(Gemma3nForCausalLM(config)), place)


def not_finite(tiny_causal, place):
    model = LlamaForCausalLM(CAUSAL["llama"])
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[3, 3] = float("nan")
    return like(tiny_causal, model, place)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (bidirectional, "depend on later tokens"),
        (more_than_embeddings, "more of a token than its embedding"),
        (not_finite, "not finite"),
    ],
)
def test_a_model_that_no_prompt_can_stand_before_is_refused_in_one_line(made, reason, tiny_causal, tmp_path):
    place = made(tiny_causal, tmp_path / "lm")
    with pytest.raises(ModelError, match=reason) as caught:
        load(place)
    assert "\n" not in str(caught.value)


def test_what_was_found_of_one_dtype_is_not_taken_for_another(tiny_causal):
    model = load(tiny_causal)
    half = replace(model, model=load(tiny_causal).model.to(torch.bfloat16))
    assert half.model.dtype == torch.bfloat16
    assert half.traits == model.traits


def test_a_copy_of_a_model_is_not_measured_again(tiny_causal, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = load(tiny_causal)
    copy = shutil.copytree(tiny_causal, tmp_path / "copy")
    monkeypatch.setattr(probe._Probe, "traits", lambda _self: pytest.fail("it was measured again"))
    assert load(copy).traits == first.traits
