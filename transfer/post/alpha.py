"""The choice of POST's α: a plan's number, or "agreement", measured on public text.

The default, and what a plan may say, are in `transfer.post.settings`.
"""

import torch

from transfer.post.settings import AGREEMENT, Agreement


def chosen_alpha(alpha: float | Agreement, prompted_proxy: torch.Tensor, bare_target: torch.Tensor) -> float:
    """Return the number α in [0, 1] for the `alpha` of a plan, given the logits [N, V] of two models."""
    return agreement(prompted_proxy, bare_target) if alpha == AGREEMENT else alpha


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return Cohen's κ in [0, 1] (negative values become 0) between the answers of two models, given logits [N, V].

    POST's rule for α (eq. 6) is (ZS − RG)/(C − RG), at most 1. It compares the accuracies of the bare target (ZS) and
    the prompted proxy (C), both above guessing (RG). These accuracies cost private labels. If the prompted proxy's
    answers replace the labels, C is 1, ZS is the share of equal answers, and RG is that share by chance. The rule
    is then κ. If all answers are one class, κ is undefined and the result is 0.
    """
    answers = [logits.argmax(dim=-1) for logits in (first, second)]  # two of [N]
    equal = (answers[0] == answers[1]).double().mean().item()
    shares = [torch.bincount(answer, minlength=first.shape[-1]).double() / len(answer) for answer in answers]
    chance = (shares[0] @ shares[1]).item()
    return max(0.0, (equal - chance) / (1 - chance)) if chance < 1 else 0.0
