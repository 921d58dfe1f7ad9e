"""Layers divided among processes: here among one, as a test process is alone. `test_processes.py` has several."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from tests.transfer.distillation.lessons import SHORT, TEXTS, proxy_of, same, stirred
from transfer.distillation.distil import distil
from transfer.distillation.divided_layers import clip_gradients, divided_layers, gathered, kinds, like, local
from transfer.distillation.processes import ALONE, Processes
from transfer.errors import ModelError

ONE = Processes(1, 0, divided=True)


@pytest.fixture(scope="module", autouse=True)
def group():
    """This process alone, as a group, on no network."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_layers_are_divided_within_the_block_and_the_proxys_are_whole_behind_it(model):
    target, proxy = stirred(model), proxy_of(model)
    before = {name: weight.clone() for name, weight in proxy.model.state_dict().items()}
    with divided_layers(target.model, proxy.model, ONE):
        for each in (target, proxy):
            divided = {name for name, weight in each.model.named_parameters() if isinstance(weight, DTensor)}
            assert divided
            assert not isinstance(each.embedding, DTensor)
    after = proxy.model.state_dict()
    assert not any(isinstance(weight, DTensor) for weight in proxy.model.parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_one_process_that_divides_its_layers_distils_as_one_that_does_not(causal):
    whole = distil(stirred(causal), (0,), TEXTS, SHORT)
    assert same(distil(causal, (0,), TEXTS, SHORT, processes=ONE), whole)


def test_without_division_nothing_happens(causal):
    with divided_layers(causal.model, causal.model, ALONE):
        assert not any(isinstance(weight, DTensor) for weight in causal.model.parameters())


def test_layers_that_share_a_weight_are_refused(causal):
    first, second = causal.model.model.layers
    second.mlp.up_proj.weight = first.mlp.up_proj.weight
    with (
        pytest.raises(ModelError, match="LlamaForCausalLM has layers that share weights"),
        divided_layers(causal.model, proxy_of(causal).model, ONE),
    ):
        pass


def test_a_whole_tensor_comes_back_from_its_parts(causal):
    with divided_layers(causal.model, proxy_of(causal).model, ONE):
        weight = causal.model.model.layers[0].mlp.up_proj.weight
        whole = torch.randn(weight.shape)
        part = like(weight, whole)
        assert isinstance(part, DTensor)
        assert torch.equal(gathered(local(part), weight), whole)
        assert torch.equal(gathered(part, weight), whole)
        step = torch.tensor(3.0)
        assert like(weight, step) is step
        assert gathered(step, weight) is step
        assert [len(kind) for kind in kinds([weight, causal.embedding])] == [1, 1]


def test_gradients_are_clipped_as_pytorch_clips_whole_ones():
    one, other = ([nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(5))] for _ in range(2))
    for weight in (*one, *other):
        weight.grad = torch.full_like(weight, 2.5)
    clip_gradients(one, 5.0)
    nn.utils.clip_grad_norm_(other, 5.0)
    assert all(torch.equal(ours.grad, theirs.grad) for ours, theirs in zip(one, other, strict=True))
