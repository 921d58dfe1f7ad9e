"""The losses, each with its equation.

Letters: B records, N positions, V vocabulary (or C classes: every function takes any last dimension), H hidden size.
KL(p ‖ q) has the reference p first. References are constants: gradients reach the other side only.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    kl_div,
    log_softmax,
    normalize,
)

from transfer.tokens.batches import NO_MORE, UNCOUNTED

LIKENESS = 0.05
"""τ of `relations`."""


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each record's cross-entropy [B] for logits [B, C] and labels [B], not averaged over the batch."""
    return cross_entropy(logits, labels, reduction="none")


def labels_loss(logits: torch.Tensor, truth: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Return each record's Σ_c w_c·BCE(σ(z_c), y_c) [B] for logits and truth (0 or 1) [B, C], and C weights.

    The sum, not the mean over classes: that would only shrink a record's gradient below the clipping norm, and so
    raise the share of noise, the more classes there are.
    """
    each = binary_cross_entropy_with_logits(logits, truth, logits.new_tensor(weights), reduction="none")
    return each.sum(dim=1)


def answer_loss(logits: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy [B] of each record's own answer tokens.

    A record with `UNCOUNTED` tokens only has loss 0.

    Args:
        logits: [N, V] at the answer tokens of all records, one record after the other.
        goal: the tokens [B, K]: `NO_MORE` has no logits, `UNCOUNTED` has logits that count for nothing.
    """
    read = goal != NO_MORE  # [B, K], N of them true
    losses = cross_entropy(logits, goal[read], reduction="none", ignore_index=UNCOUNTED)
    return _record_sums(losses, read.sum(dim=1)) / (goal >= 0).sum(dim=1).clamp(min=1)


def record_means(values: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    """Return means [B] of `values` [N] over each record's own positions: the first `reads[0]` ≥ 1, and so on."""
    return _record_sums(values, reads) / reads


def _record_sums(values: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    record = torch.arange(len(reads)).repeat_interleave(reads)  # [N], the record of each position
    return values.new_zeros(len(reads)).index_add(0, record, values)


def divergence(reference: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the mean over rows [N, V] of T²·KL(softmax(reference/T) ‖ softmax(logits/T)) (Hinton et al. 2015)."""
    return divergences(reference, logits, temperature).mean()


def divergences(
    reference: torch.Tensor, logits: torch.Tensor, temperature: float, *, many: bool = False
) -> torch.Tensor:
    """Return the `divergence` [N] of each row of logits [N, V].

    With `many`, each of C classes is a yes or no of its own: T²·Σ_c KL(Bern(σ(reference_c/T)) ‖ Bern(σ(logits_c/T))).
    """
    if many:
        return divergences(_yes_or_no(reference), _yes_or_no(logits), temperature).sum(dim=-1)
    goal = log_softmax(reference / temperature, dim=-1)
    ours = log_softmax(logits / temperature, dim=-1)
    return kl_div(ours, goal, reduction="none", log_target=True).sum(dim=-1) * temperature**2


def _yes_or_no(logits: torch.Tensor) -> torch.Tensor:
    """Return logits [N, C, 2] of two answers to each class of [N, C]: the softmax of (z, 0) is (σ(z), 1 − σ(z))."""
    return torch.stack([logits, torch.zeros_like(logits)], dim=-1)


def transfer_losses(
    prompted: torch.Tensor,
    bare: torch.Tensor,
    reference_prompted: torch.Tensor,
    reference_bare: torch.Tensor,
    *,
    alpha: float,
    temperature: float,
    summed: bool = False,
    many: bool = False,
) -> torch.Tensor:
    """Return (1−α)·L1 + α·L2 [B] of each text, for logits [B, V] at the answer (POST eq. 3–5).

    L1 makes the prompted target answer like the prompted proxy. L2 makes the prompt change the target's answer as
    it changed the proxy's, which keeps what the target knows better.

    Args:
        prompted: z_t^p, the only argument gradients flow into.
        bare: z_t^0, the target without a prompt.
        reference_prompted: z_s^p, the proxy with its prompt.
        reference_bare: z_s^0, the proxy without one.
        alpha: weight of L2 in [0, 1].
        temperature: T > 0.
        summed: L2 is the divergence from logit arithmetic instead, z_t^0 + z_s^p − z_s^0 (Liu et al. 2024,
            https://arxiv.org/abs/2401.08565). L1 + L2 is then that from a mixture of both teachers, up to a constant.
        many: a text may have several labels, see `divergences`.
    """
    change = reference_prompted - reference_bare
    imitate = divergences(reference_prompted, prompted, temperature, many=many)
    reference, ours = (bare + change, prompted) if summed else (change, prompted - bare)
    shift = divergences(reference, ours, temperature, many=many)
    return (1 - alpha) * imitate + alpha * shift


def cosine_distance(reference: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 − cos over rows of hidden states [N, H]."""
    return (1 - cosine_similarity(states, reference, dim=-1)).mean()


def relations(pooled: torch.Tensor) -> torch.Tensor:
    """Return logits [B, B − 1] of which other text in a batch is like each: cos(m_i, m_j)/τ, j ≠ i, of states [B, H].

    Their KL compares two models of any hidden sizes and vocabularies (probabilistic knowledge transfer:
    Passalis & Tefas 2018, https://arxiv.org/abs/1803.10837). τ = 0.05 is the value of contrastively trained
    sentence embedders (Gao et al. 2021, https://arxiv.org/abs/2104.08821). At τ = 1 all texts look alike.
    """
    unit = normalize(pooled, dim=-1)
    others = ~torch.eye(len(pooled), dtype=torch.bool, device=pooled.device)
    return (unit @ unit.T / LIKENESS)[others].view(len(pooled), -1)  # [B, B] without its diagonal
