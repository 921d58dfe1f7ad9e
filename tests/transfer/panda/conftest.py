"""What tests of this room share."""

from dataclasses import replace

import pytest
import torch

from tests.transfer.panda.libraries import PRIVATE, SETTINGS, TEXTS, args, noise, record
from transfer.distillation.proxy import cut
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.panda.library import TransferInput
from transfer.post.transfer import transfer


@pytest.fixture(scope="module")
def new(tiny_causal, tiny_task):
    causal = load(tiny_causal, name="tiny-causal")
    with torch.no_grad():  # fresh weights are so small that a prompt hardly moves an answer
        for matrix in causal.model.parameters():
            matrix.mul_(6 if matrix.ndim == 2 else 1)
    proxy = LanguageModel(cut(causal, (0,)), causal.tokenizer, replace(causal.ref, name="proxy"), "causal")
    return TransferInput(noise(proxy.ref, 0), proxy, causal, tiny_task, TEXTS, "first", PRIVATE)


@pytest.fixture(scope="module")
def good(new):
    """A library prompt that stands where the new one wants to go."""
    far = transfer(*args(new), replace(SETTINGS, steps=40, learning_rate=0.1, check_every=20))
    return record(new, "prompts/good/versions/1", prompt=far.prompt, proxy_prompt=new.prompt)
