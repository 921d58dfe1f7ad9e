"""What tests of this room share."""

import pytest
import torch

from transfer.prompt import SoftPrompt


@pytest.fixture
def prompt(proxy):
    return SoftPrompt(torch.randn(4, proxy.width, generator=torch.Generator().manual_seed(0)), proxy.ref)
