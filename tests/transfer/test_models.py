import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertModel, PreTrainedTokenizerFast

from transfer.batches import FORWARD_TOKENS, Batch, Line
from transfer.errors import ModelError
from transfer.models import LanguageModel, load
from transfer.prompt import SoftPrompt
from transfer.reading import label_logits
from transfer.shortcuts import only_of

TEXTS = ("The film was great.", "A terrible plot and a boring evening, long and awful and slow.", "good")


@pytest.fixture
def lines(model, tiny_task):
    return model.encoder(tiny_task).encode(TEXTS)


def prompt_of(model, length=4, seed=0):
    return SoftPrompt(
        torch.randn(length, model.width, generator=torch.Generator().manual_seed(seed)) / 4, model.ref
    )


def rows_of(prompt, count):
    return prompt.vectors.expand(count, -1, -1)


@torch.no_grad()
def test_answer_logits_are_the_full_forward_passs_at_the_answer(model, lines):
    for line in lines:
        full = model.model(input_ids=torch.tensor([line.ids])).logits[0, line.answer]
        torch.testing.assert_close(model.answer_logits([line])[0], full, atol=1e-5, rtol=0)


@torch.no_grad()
def test_prompt_rows_stand_before_the_whole_line(model, lines):
    prompt = prompt_of(model)
    for line in lines:
        words = model.embedding[torch.tensor(line.ids)]
        embeds = torch.cat([prompt.vectors, words]).unsqueeze(0)
        full = model.model(inputs_embeds=embeds).logits[0, prompt.length + line.answer]
        torch.testing.assert_close(model.answer_logits([line], prompt)[0], full, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [0, 4])
def test_neither_company_nor_padding_changes_an_answer(model, lines, length):
    prompt = prompt_of(model, length) if length else None
    together = model.answer_logits(lines, prompt)
    alone = torch.cat([model.answer_logits([line], prompt) for line in lines])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    batch = model.collate(lines)
    fill = torch.full((len(lines), 7), 9)
    padded = Batch(torch.cat([batch.ids, fill], 1), torch.cat([batch.mask, fill * 0], 1), batch.answer)
    with torch.no_grad():
        wider = model.logits(padded, None if prompt is None else rows_of(prompt, len(lines)))
    torch.testing.assert_close(wider, together, atol=1e-5, rtol=0)


def test_answers_come_in_the_order_of_the_lines_across_batches(model):
    lines = [Line(tuple(range(5, 5 + 20 + 37 * index % 80)), 19) for index in range(200)]
    assert sum(len(line.ids) for line in lines) > FORWARD_TOKENS
    together = model.answer_logits(lines)
    for index in (0, 1, 77, 199):
        torch.testing.assert_close(together[[index]], model.answer_logits([lines[index]]), atol=1e-5, rtol=0)


def test_each_record_can_have_its_own_prompt_and_only_its_own_gradient(model, lines):
    rows = torch.stack([prompt_of(model, seed=seed).vectors for seed in range(len(lines))]).requires_grad_(
        True
    )
    model.logits(model.collate(lines), rows)[1].sum().backward()
    assert [bool(gradient.abs().sum() > 0) for gradient in rows.grad] == [False, True, False]


def test_no_weight_can_learn_and_nothing_is_dropped_out(model, lines):
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert not any(module.training for module in model.model.modules())
    assert torch.equal(model.answer_logits(lines), model.answer_logits(lines))


def test_no_hook_stays_behind_after_an_error(causal):
    with pytest.raises(IndexError):
        causal.logits(Batch(torch.tensor([[5, 6]]), torch.ones(1, 2, dtype=torch.long), torch.tensor([9])))
    assert causal.model(input_ids=torch.tensor([[5, 6]])).logits.shape[1] == 2


def test_a_line_beyond_the_models_positions_is_refused(model):
    line = Line(tuple([7] * 120), 119)
    model.answer_logits([line], prompt_of(model, 8))
    with pytest.raises(ModelError, match="128 positions, prompt and line need 129"):
        model.answer_logits([line], prompt_of(model, 9))


def test_no_lines_have_no_answers(causal):
    with pytest.raises(ModelError, match="no lines"):
        causal.answer_logits([])


def test_a_text_prompt_holds_the_texts_embeddings_repeated_or_cut(model):
    ids = model.tokenizer("a great film", add_special_tokens=False)["input_ids"]
    prompt = model.text_prompt("a great film", len(ids) + 1)
    assert torch.equal(prompt.vectors, model.embedding[torch.tensor([*ids, ids[0]])])
    assert torch.equal(model.text_prompt("a great film", 1).vectors, prompt.vectors[:1])
    prompt.vectors.zero_()
    assert model.embedding[torch.tensor(ids)].abs().sum() > 0
    with pytest.raises(ModelError, match="no tokens"):
        model.text_prompt("", 3)


def test_a_vocabulary_prompt_draws_different_words_from_its_seed(causal):
    first, again = (causal.vocabulary_prompt(50, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.vectors, again.vectors)
    assert len(first.vectors.unique(dim=0)) == 50
    assert first.model == causal.ref


def test_class_logits_are_the_mean_of_the_label_words():
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0], [4.0, 0.0, 2.0, 9.0]])
    assert label_logits(logits, [[0, 2], [1]]).tolist() == [[1.0, 1.0], [3.0, 0.0]]


def test_class_logits_need_no_other_row_of_the_head(model, lines):
    words = [[7, 11, 3], [5]]
    prompt = prompt_of(model, 3)
    full = model.answer_logits(lines, prompt)
    torch.testing.assert_close(
        model.answer_logits(lines, prompt, words), label_logits(full, words), atol=1e-5, rtol=0
    )
    with only_of(model.model, words):
        head = model.model.get_output_embeddings()
        assert head(torch.ones(1, model.width)).shape == (1, 4)
    assert torch.equal(model.answer_logits(lines, prompt), full)  # the head is whole again


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


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # PEFT reads a deprecated name
def test_a_peft_model_is_refused(causal):
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2)
    with pytest.raises(ModelError, match="PEFT"):
        replace(causal, model=get_peft_model(causal.model, config))


def test_a_model_knows_its_kind_name_and_files(tiny_causal, tiny_masked, tiny_gpt2):
    kinds = [load(path).lm_head for path in (tiny_causal, tiny_masked, tiny_gpt2)]
    assert kinds == ["causal", "masked", "causal"]
    assert load(tiny_causal).ref.name == "lm"
    named = load(tiny_causal, name="mine").ref
    assert (named.name, named.digest) == ("mine", load(tiny_causal).ref.digest)


def change_shape(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))


def drop_weights(directory, *beginnings):
    state = load_file(directory / "model.safetensors")
    kept = {name: value for name, value in state.items() if not name.startswith(beginnings)}
    assert len(kept) < len(state)
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})


def drop_head_and_more(directory):
    drop_weights(directory, "cls.", "bert.encoder.layer.1.output.dense.weight")


def drop_part_of_the_backbone(directory):
    BertModel.from_pretrained(directory).save_pretrained(directory)
    drop_weights(directory, "pooler.", "encoder.layer.0.output.dense.bias")


BREAKS = {
    "config.json is missing": lambda path: (path / "config.json").unlink(),
    "config.json' is not a valid JSON": lambda path: (path / "config.json").write_text("{"),
    "no file named model.safetensors": lambda path: (path / "model.safetensors").unlink(),
    "header too small": lambda path: (path / "model.safetensors").write_bytes(b""),
    "not fully covered": lambda path: (path / "model.safetensors").write_bytes(
        (path / "model.safetensors").read_bytes()[:-9]
    ),
    "cannot load": lambda path: (path / "tokenizer.json").write_text("{"),
    "mismatched_sizes": change_shape,
    "no weight 'bert.encoder.layer.1.output.dense.weight'": lambda path: drop_weights(
        path, "bert.encoder.layer.1.output.dense.weight"
    ),
    "no weight 'cls.predictions.transform.dense.weight'": lambda path: drop_weights(
        path, "cls.predictions.transform.dense.weight"
    ),
    "no weight 'bert.encoder.layer.1.output.dense.": drop_head_and_more,
    "no weight 'encoder.layer.0.output.dense.bias'": drop_part_of_the_backbone,
}


@pytest.mark.parametrize("reason", BREAKS)
def test_a_directory_that_is_no_whole_model_is_refused_in_one_line(tiny_masked, tmp_path, reason):
    copy = shutil.copytree(tiny_masked, tmp_path / "copy")
    BREAKS[reason](copy)
    with pytest.raises(ModelError) as caught:
        load(copy)
    assert str(caught.value).startswith(f"{copy}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("someone/not-cached", "cannot load"),
        ("no such path/at all/x", "no such directory"),
        ("/nowhere", "no such directory"),
        ("./nowhere", "no such directory"),
    ],
)
def test_a_model_that_is_nowhere_is_refused_in_one_line(source, reason):
    with pytest.raises(ModelError, match=f"^{source}: {reason}") as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_causal_model_cannot_be_read_as_a_masked_one(tiny_causal):
    with pytest.raises(ModelError, match="cannot load"):
        load(tiny_causal, lm_head="masked")


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "causal"), [("stories260K", True), ("minilm-l6-mlm", False), ("lab-llama-7m", True)]
)
def test_real_models_load_and_answer(assets, name, causal):
    model = load(assets / "models" / name)
    assert isinstance(model, LanguageModel)
    assert model.causal == causal
    ids = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    lines = [Line(tuple(part), len(part) - 1) for part in ids]
    logits = model.answer_logits(lines, model.text_prompt("A review", 5))
    assert logits.shape == (len(TEXTS), model.embedding.shape[0])
    assert torch.isfinite(logits).all()
    assert isinstance(model.tokenizer, PreTrainedTokenizerFast)
