"""A module computes something else for a while, and then what it computed before."""

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

from transfer.placement.forward import forward_of


class Doubling(ModelHook):
    """A hook of accelerate that can be seen to act."""

    def post_forward(self, _module: nn.Module, output: torch.Tensor) -> torch.Tensor:
        return 2 * output


@pytest.mark.parametrize("hooked", [False, True])
def test_the_forward_before_is_put_back_even_after_an_error(hooked: bool) -> None:
    module: nn.Module = nn.Identity()
    if hooked:
        module = add_hook_to_module(module, Doubling())
    before, one = module(torch.ones(1)), torch.ones(1)
    with pytest.raises(ZeroDivisionError), forward_of(module, lambda _value: 1 / 0):
        module(one)
    with forward_of(module, lambda value: value + 41):
        assert module(one) == 42
    assert module(one) == before == (2 if hooked else 1)
    assert ("forward" in vars(module)) == hooked
