"""Target and proxy compared in blocks: the numbers of whole logits, which are never made."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.transfer.distillation.lessons import SHORT, drawn, proxy_of, stirred
from transfer.distillation import comparison
from transfer.distillation.distil import DistilSettings, _Distillation


@pytest.mark.parametrize(("block", "strip"), [(1, 1), (5 * 400, 2 * 400), (10**9, 10**9)])
def test_the_loss_is_five_parts_kl_two_language_model_and_one_cosine(model, block, strip, monkeypatch):
    """POST eq. 1 at temperature 2, by plain forward passes of the whole models; gradients too, in any blocks."""
    monkeypatch.setattr(comparison, "CPU_BLOCK", block)
    monkeypatch.setattr(comparison, "CPU_STRIP", strip)
    settings = DistilSettings(batch_tokens=10_000, sequence_tokens=24)
    target, proxy = stirred(model), proxy_of(model)
    (part,) = drawn(target, settings)
    learnt = list(proxy.model.requires_grad_(True).parameters())
    terms = _Distillation(target, proxy, settings).learn([part])
    gradient = [weight.grad for weight in learnt]
    passes = [
        each.model(input_ids=part.ids, attention_mask=part.mask, output_hidden_states=True)
        for each in (target, proxy)
    ]
    theirs, ours = (out.logits[part.rows, part.columns] for out in passes)
    p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
    kl = 4 * (p * (p / q).log()).sum(-1).mean()
    chances = ours.softmax(-1).gather(1, part.goal.unsqueeze(1))
    states = [out.hidden_states[-1][part.mask.bool()] for out in passes]
    apart = 1 - torch.cosine_similarity(*states, dim=-1)
    expected = torch.stack([kl, -chances.log().mean(), apart.mean()])
    torch.testing.assert_close(terms, expected.detach(), rtol=1e-4, atol=1e-5)
    plain = torch.autograd.grad(expected @ torch.tensor([5.0, 2.0, 1.0]), learnt, allow_unused=True)
    pairs = [(one, other) for one, other in zip(gradient, plain, strict=True) if other is not None]
    longest = max(float(other.abs().max()) for _, other in pairs)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * longest)


def test_logits_are_never_whole(causal):
    """No tensor is as large as the logits of a batch, forwards or backwards."""
    settings = replace(SHORT, batch_tokens=10_000)
    target, proxy = stirred(causal), proxy_of(causal)
    proxy.model.requires_grad_(True)
    (part,) = drawn(target, settings)
    with pytest.MonkeyPatch.context() as patch, Largest() as seen:
        patch.setattr(comparison, "CPU_BLOCK", 50 * 400)
        _Distillation(target, proxy, settings).learn([part])
    assert len(part.rows) > 500
    assert 40 * 400 <= seen.numbers <= 60 * 400


class Largest(TorchDispatchMode):
    """Notes the largest tensor over the vocabulary that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor) and each.shape[-1:] == (400,):
                self.numbers = max(self.numbers, each.numel())
        return result
