"""Layers divided among processes: each keeps a slice of every weight, and all put a layer together while it runs.

This is PyTorch's FSDP2 (`fully_shard`; Zhao et al. 2023, https://arxiv.org/abs/2304.11277), layer by layer. What is
before and behind the layers stays whole in every process: a distillation embeds tokens by itself, and reads the head
in blocks of rows, of which processes have different numbers.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, share_comm_ctx
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from transfer.distillation.processes import Processes
from transfer.errors import ModelError
from transfer.families.layout import layer_lists
from transfer.placement.devices import device_of


@contextmanager
def divided_layers(target: PreTrainedModel, proxy: PreTrainedModel, processes: Processes) -> Iterator[None]:
    """Within the block, the layers of a target and of its cut are divided if `processes` say so.

    Behind it the proxy is whole again in every process; the target remains divided.

    Raises:
        ModelError: layers of the target share weights, or are on several devices.
    """
    if not processes.divided:
        yield
        return
    (name,) = layer_lists(target)  # a target that can be cut has one
    stack = proxy.get_submodule(name)
    blanks = [_blank(layer) for layer in stack.children()]
    for model in (target, proxy):
        _divide(model, list(model.get_submodule(name).children()), processes)
    yield
    for place, (blank, layer) in enumerate(zip(blanks, list(stack.children()), strict=True)):
        whole = {key: weight.full_tensor() for key, weight in layer.named_parameters()}  # type: ignore[attr-defined]
        blank.load_state_dict({**blank.state_dict(), **whole}, assign=True)
        stack.register_module(str(place), blank)


def _blank(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer without its weights' memory."""
    empty = {
        id(weight): nn.Parameter(weight.to("meta"), weight.requires_grad) for weight in layer.parameters()
    }
    return copy.deepcopy(layer, empty)


def _divide(model: PreTrainedModel, layers: Sequence[nn.Module], processes: Processes) -> None:
    weights = [weight for layer in layers for weight in layer.parameters()]
    device = device_of(model)
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    if any(uses[id(weight)] > 1 or weight.device != device for weight in weights):
        raise ModelError(
            f"{type(model).__name__} has layers that share weights, or are not all on {device}, so they cannot be "
            "divided among processes; distil without --shard, or without --max-memory"
        )
    mesh = init_device_mesh(device.type, (processes.count,))
    # by default a module that stands alone keeps what it has put together
    parts: list[FSDPModule] = [fully_shard(layer, mesh=mesh, reshard_after_forward=True) for layer in layers]
    for part in parts:
        part.set_gradient_divide_factor(1.0)  # a sum, not a mean, which gloo cannot form either
        part.set_force_sum_reduction_for_comms(True)
    share_comm_ctx(parts)


def kinds(weights: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return whole weights and divided ones apart, without empty lists: PyTorch's kernels take no mix of them."""
    both: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for weight in weights:
        both[isinstance(weight, DTensor)].append(weight)
    return [kind for kind in both if kind]


def clip_gradients(weights: Iterable[nn.Parameter], longest: float) -> None:
    """Shorten the gradient of all weights together to `longest`, as `nn.utils.clip_grad_norm_` does."""
    apart = kinds(weights)
    norms = [nn.utils.get_total_norm([w.grad for w in kind if w.grad is not None]) for kind in apart]
    lengths = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    length = lengths[0] if len(lengths) == 1 else torch.linalg.vector_norm(torch.stack(lengths))
    for kind in apart:
        nn.utils.clip_grads_with_norm_(kind, longest, length)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor; the tensor itself if it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(weight: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor divided as `weight` is; single numbers stay whole."""
    whole = whole.to(weight.device)
    if not isinstance(weight, DTensor) or not whole.ndim:
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def gathered(part: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the whole of which `part` is this process's, divided as `weight` is: on the CPU of the first process.

    The other processes, which have to take part, get an empty tensor.
    """
    if not isinstance(weight, DTensor) or not part.ndim:
        return part
    mesh = weight.device_mesh
    divided = DTensor.from_local(
        local(part).to(weight.device), mesh, weight.placements, shape=weight.shape, stride=weight.stride()
    )
    whole = divided.full_tensor()
    return whole.cpu() if mesh.get_rank() == 0 else whole.new_empty(0)
