import json
import random
from dataclasses import replace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from transformers import ModernBertConfig, ModernBertForMaskedLM
from transformers.models.bert.modeling_bert import BertEncoder

from transfer.distillation.distil import DistilSettings, distil
from transfer.distillation.proxy import Proxy, cut
from transfer.errors import ModelError, UsageError
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.tokens.batches import Line

WORDS = ("The", "film", "was", "great", "actors", "good", "It", "fun", "terrible", "plot", "bad", "boring")
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=14)) for number in range(60)]
QUICK = DistilSettings(steps=60, batch_tokens=512, sequence_tokens=24, learning_rate=5e-3, check_every=10)
LINES = [Line((7, 30, 41, 9), 3), Line((12, 5), 1)]


def as_model(target, cut_model):
    return LanguageModel(cut_model, target.tokenizer, target.ref, target.lm_head)


@pytest.fixture(scope="module", params=["causal", "masked", "gpt2"])
def distilled(request):
    """A target, its weights before, and a proxy of one layer distilled from it."""
    target = load(request.getfixturevalue(f"tiny_{request.param}"), name="target")
    with (
        torch.no_grad()
    ):  # fresh weights are so small that every layer is nearly an identity: nothing to learn
        for matrix in target.model.parameters():
            matrix.mul_(8 if matrix.ndim == 2 else 1)
    before = {name: value.clone() for name, value in target.model.state_dict().items()}
    knows_no_language = replace(QUICK, weights=(5.0, 0.0, 1.0))
    return target, before, distil(target, (0,), TEXTS, knows_no_language)


@pytest.mark.parametrize("kind", ["causal", "masked", "gpt2", "qwen2"])
def test_a_cut_keeps_the_chosen_layers_and_everything_else(kind, request):
    target = request.getfixturevalue(kind)
    total = target.model.config.num_hidden_layers
    layers = (0, total - 1) if total > 2 else (1,)
    kept = cut(target, layers)
    theirs, ours = target.model.state_dict(), kept.state_dict()
    marks = [(f".{old}.", f".{new}.") for new, old in enumerate(layers)]
    expected = {
        name.replace(*marks[-1]) if marks[-1][0] in name else name: value
        for name, value in theirs.items()
        if not any(f".{index}." in name for index in range(total) if index not in layers)
    }
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)
    assert kept.config.num_hidden_layers == len(layers)
    assert not {value.data_ptr() for value in ours.values()} & {value.data_ptr() for value in theirs.values()}


@pytest.mark.parametrize("kind", ["causal", "masked", "gpt2", "qwen2"])
def test_a_cut_of_all_layers_answers_like_the_target(kind, request):
    target = request.getfixturevalue(kind)
    whole = as_model(target, cut(target, range(target.model.config.num_hidden_layers)))
    assert torch.equal(whole.answer_logits(LINES), target.answer_logits(LINES))


def test_a_cut_layer_keeps_its_kind_of_attention(qwen2):
    assert cut(qwen2, (1, 3)).config.layer_types == ["full_attention", "sliding_attention"]
    assert qwen2.model.config.layer_types == ["full_attention"] * 2 + ["sliding_attention"] * 2


@pytest.mark.parametrize("kind", ["gpt2", "masked", "qwen2"])
def test_tied_weights_stay_tied_in_a_cut(kind, request):
    kept = cut(request.getfixturevalue(kind), (0,))
    assert kept.get_output_embeddings().weight is kept.get_input_embeddings().weight


def test_layers_that_are_not_all_alike_are_cut_with_the_first_or_refused_in_one_line(masked):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    tokens = dict.fromkeys(
        ("pad_token_id", "eos_token_id", "bos_token_id", "cls_token_id", "sep_token_id"), 0
    )
    config = ModernBertConfig(vocab_size=400, **sizes, **tokens)
    odd = LanguageModel(ModernBertForMaskedLM(config), masked.tokenizer, masked.ref, "masked")
    assert cut(odd, (0, 2)).config.num_hidden_layers == 2
    with pytest.raises(ModelError, match=r"do not fit where .* keep the first layer, as in \[0, 3\]$"):
        cut(odd, (1, 2))


@pytest.mark.parametrize("layers", [(), (2,), (-1,), (0, 0), (1, 0)])
def test_impossible_layers_are_refused(causal, layers):
    with pytest.raises(ModelError, match="0–1"):
        cut(causal, layers)


def test_distillation_brings_the_proxy_closer_on_text_it_has_not_seen(distilled):
    target, _, proxy = distilled
    undistilled = distil(target, (0,), TEXTS, replace(QUICK, steps=0))
    assert undistilled.steps == 0
    assert proxy.held_out_kl < 0.8 * undistilled.held_out_kl
    assert proxy.target_perplexity == undistilled.target_perplexity


def test_distillation_leaves_embeddings_and_head_alone_and_trains_the_rest(distilled):
    target, _, proxy = distilled
    raw, model = cut(target, (0,)), proxy.model.model
    for side in ("get_input_embeddings", "get_output_embeddings"):
        kept, before = getattr(model, side)().state_dict(), getattr(raw, side)().state_dict()
        assert all(torch.equal(kept[name], before[name]) for name in before)
    changed = [
        name for name, value in raw.state_dict().items() if not torch.equal(value, model.state_dict()[name])
    ]
    assert any("mlp" in name or "intermediate" in name for name in changed)
    tied = raw.get_output_embeddings().weight is raw.get_input_embeddings().weight
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_distillation_leaves_the_target_alone_and_freezes_the_proxy(distilled):
    target, before, proxy = distilled
    assert all(torch.equal(value, before[name]) for name, value in target.model.state_dict().items())
    for model in (target.model, proxy.model.model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (proxy.parent, proxy.layers) == (target.ref, (0,))


def test_the_target_answers_without_dropout_while_the_proxy_learns_with_it(masked):
    modes = []
    with register_module_forward_hook(
        lambda module, *_: (
            modes.append((len(module.layer), module.training)) if isinstance(module, BertEncoder) else None
        )
    ):
        distil(masked, (0,), TEXTS, replace(QUICK, steps=2))
    assert {mode for layers, mode in modes if layers == 2} == {False}
    assert {mode for layers, mode in modes if layers == 1} == {True, False}


def test_steps_0_give_the_undistilled_cut(causal):
    proxy = distil(causal, (1,), TEXTS, replace(QUICK, steps=0))
    raw = cut(causal, (1,)).state_dict()
    assert all(torch.equal(value, raw[name]) for name, value in proxy.model.model.state_dict().items())
    assert proxy.held_out_kl > 0


def test_a_cut_that_already_agrees_has_no_divergence(causal):
    whole = distil(causal, (0, 1), TEXTS, replace(QUICK, steps=0))
    assert whole.held_out_kl == pytest.approx(0, abs=1e-6)
    assert whole.held_out_perplexity == pytest.approx(whole.target_perplexity)


def test_distillation_ends_on_a_plateau_with_its_best_state(causal):
    seen = []
    hopeless = replace(QUICK, steps=1000, learning_rate=1e-12, check_every=2, patience=3)
    proxy = distil(causal, (0,), TEXTS, hopeless, lambda step, kl: seen.append((step, kl)))
    assert proxy.steps == 6
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert proxy.held_out_kl == pytest.approx(min(kl for _, kl in seen))


def test_distillation_that_only_harms_returns_the_cut(causal):
    harmful = replace(QUICK, steps=6, learning_rate=50.0, check_every=2)
    undistilled = distil(causal, (0,), TEXTS, replace(QUICK, steps=0))
    assert distil(causal, (0,), TEXTS, harmful).held_out_kl == undistilled.held_out_kl


def test_the_same_seed_gives_the_same_proxy(masked):
    once, again = (distil(masked, (0,), TEXTS, replace(QUICK, steps=3)) for _ in range(2))
    ours, theirs = once.model.model.state_dict(), again.model.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_too_little_text_is_refused(causal):
    with pytest.raises(ModelError, match="2 sequences of public text, 8 tokens or more, are too few"):
        distil(causal, (0,), [*TEXTS[:2], "short"], QUICK)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": -1},
        {"batch_tokens": 0},
        {"sequence_tokens": 4},
        {"temperature": 0.0},
        {"learning_rate": float("nan")},
        {"masked_share": 1.0},
        {"check_every": 0},
        {"patience": 0},
    ],
)
def test_impossible_settings_name_their_field(change):
    (name,) = change
    with pytest.raises(UsageError, match=f"distillation {name}"):
        replace(QUICK, **change)


def test_a_saved_proxy_comes_back_as_it_was(distilled, tmp_path):
    _, _, proxy = distilled
    stored = proxy.save(tmp_path / "proxy")
    read = Proxy.load(tmp_path / "proxy", name=stored.model.ref.name)
    assert read.model.ref == stored.model.ref == ModelRef.of_directory("target-proxy-1", tmp_path / "proxy")
    assert read.model.ref.digest != proxy.parent.digest
    fields = ("parent", "layers", "held_out_kl", "held_out_perplexity", "target_perplexity", "steps")
    assert all(getattr(read, name) == getattr(proxy, name) for name in fields)
    assert torch.equal(read.model.answer_logits(LINES), proxy.model.answer_logits(LINES))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: [], "not a proxy record"),
        (lambda record: 3, "not a proxy record"),
        (lambda record: record | {"more": 1}, "not a proxy record"),
        (lambda record: record | {"steps": 1.5}, "steps 1.5 is not a whole number of steps"),
        (
            lambda record: {key: value for key, value in record.items() if key != "layers"},
            "not a proxy record",
        ),
        (lambda record: record | {"layers": "01"}, "layers '01'"),
        (lambda record: record | {"layers": [0, "1"]}, "layers"),
        (lambda record: record | {"held_out_kl": "low"}, "held_out_kl 'low'"),
        (lambda record: record | {"parent": None}, "parent None"),
        (lambda record: record | {"parent_digest": "abc"}, "digest 'abc'"),
    ],
)
def test_a_malformed_record_is_refused_in_one_line(causal, tmp_path, change, says):
    distil(causal, (0,), TEXTS, replace(QUICK, steps=0)).save(tmp_path / "proxy")
    path = tmp_path / "proxy" / "proxy.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ModelError, match=says) as caught:
        Proxy.load(tmp_path / "proxy")
    assert "\n" not in str(caught.value)


def test_a_model_without_a_record_is_no_proxy(tiny_causal, tmp_path):
    with pytest.raises(ModelError, match=r"not a proxy: proxy\.json is missing"):
        Proxy.load(tiny_causal)
