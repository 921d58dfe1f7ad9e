"""A checkpoint is loaded whole, or refused in one line."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertModel

from tests.transfer.models.lines import TEXTS
from transfer.errors import ModelError
from transfer.models.loading import load


@pytest.fixture
def lines(model, tiny_task):
    return model.encoder(tiny_task).encode(TEXTS)


def test_no_weight_can_learn_and_nothing_is_dropped_out(model, lines):
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert not any(module.training for module in model.model.modules())
    assert torch.equal(model.answer_logits(lines), model.answer_logits(lines))


@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # PEFT reads a deprecated name
def test_a_peft_model_is_refused(causal):
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=2)
    with pytest.raises(ModelError, match="PEFT"):
        replace(causal, model=get_peft_model(causal.model, config))


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


def test_a_causal_model_cannot_be_read_as_a_masked_one(tiny_causal):
    with pytest.raises(ModelError, match="cannot load"):
        load(tiny_causal, lm_head="masked")
