"""What is computed again is the same, and is not kept."""

from pathlib import Path

import pytest
import torch

from tests.families.subject import TASK, write
from tests.families.tiny import kinds
from tests.families.tokenizers import tokenizer_of
from tests.transfer.placement.test_devices import gradient
from transfer.errors import ModelError
from transfer.models.generation import greedy
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.placement.settings import Placement
from transfer.tasks import Task


def kept(model: LanguageModel, task: Task) -> int:
    """Bytes that autograd keeps for the backward pass of `gradient`, each storage counted once."""
    storages: dict[int, int] = {}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_leaf:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        gradient(model, task)
    return sum(storages.values())


def test_activations_are_not_kept_and_the_gradient_has_the_same_bits(
    tiny_gpt2: Path, tiny_task: Task
) -> None:
    plain = load(tiny_gpt2)
    again = load(tiny_gpt2, placement=Placement(checkpointing=True))
    assert torch.equal(gradient(again, tiny_task), gradient(plain, tiny_task))
    assert kept(again, tiny_task) < 0.6 * kept(plain, tiny_task)  # of four layers, the last keeps its own
    assert not any(module.training for module in again.model.modules())
    assert not any("forward" in vars(module) for module in again.model.modules())


def test_every_family_computes_the_same_gradient_again(family, lines, prompt):
    gradients = []
    for checkpointing in (False, True):
        model = LanguageModel(family.model, family.tokenizer, family.ref, family.lm_head, checkpointing)
        rows = prompt.vectors.expand(len(lines), -1, -1).clone().requires_grad_(True)
        model.logits(model.collate(lines), rows).sin().sum().backward()
        gradients.append(rows.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", ["granitemoe causal", "granitemoehybrid causal"])
def test_a_model_whose_backbone_alone_names_its_cache_computes_the_same_gradient_again(
    name: str, tmp_path: Path
) -> None:
    kind = next(kind for kind in kinds() if kind.name == name)
    assert not write(kind, tokenizer_of("causal"), tmp_path / "lm")
    plain = load(tmp_path / "lm")
    again = load(tmp_path / "lm", placement=Placement(checkpointing=True))
    assert torch.equal(gradient(again, TASK), gradient(plain, TASK))


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_answers_are_still_written_from_a_cache(family, lines, prompt):
    again = LanguageModel(family.model, family.tokenizer, family.ref, family.lm_head, checkpointing=True)
    assert greedy(again, lines, prompt, 4, end=()) == greedy(family, lines, prompt, 4, end=())


def test_a_model_without_a_list_of_layers_is_refused(tiny_causal: Path) -> None:
    model = load(tiny_causal)
    model.model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="has no single list of layers"):
        LanguageModel(model.model, model.tokenizer, model.ref, model.lm_head, checkpointing=True)
