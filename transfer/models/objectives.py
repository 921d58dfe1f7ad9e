"""The losses, each with its equation.

Letters: B records, N positions, V vocabulary (or C classes: every function takes any last dimension), H hidden size.
KL(p ‖ q) has the reference p first. References are constants: gradients reach the other side only.
"""

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, normalize

from transfer.tokens.batches import NO_MORE, UNCOUNTED

LIKENESS = 0.05
"""τ of `relations`."""


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each record's cross-entropy [B] for logits [B, C] and labels [B], not averaged over the batch."""
    return cross_entropy(logits, labels, reduction="none")


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


def divergences(reference: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the `divergence` [N] of each row of logits [N, V]."""
    goal = log_softmax(reference / temperature, dim=-1)
    ours = log_softmax(logits / temperature, dim=-1)
    return kl_div(ours, goal, reduction="none", log_target=True).sum(dim=-1) * temperature**2


def transfer_losses(
    prompted: torch.Tensor,
    bare: torch.Tensor,
    reference_prompted: torch.Tensor,
    reference_bare: torch.Tensor,
    *,
    alpha: float,
    temperature: float,
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
    """
    imitate = divergences(reference_prompted, prompted, temperature)
    shift = divergences(reference_prompted - reference_bare, prompted - bare, temperature)
    return (1 - alpha) * imitate + alpha * shift


def summed_losses(
    prompted: torch.Tensor,
    bare: torch.Tensor,
    reference_prompted: torch.Tensor,
    reference_bare: torch.Tensor,
    *,
    alpha: float,
    temperature: float,
) -> torch.Tensor:
    """Return (1−α)·L1 + α·L [B], where L is the divergence from logit arithmetic, z_t^0 + z_s^p − z_s^0.

    Both have the same argument, so this is the divergence from the mixture of the two teachers, up to a constant.
    Arguments are those of `transfer_losses`; logit arithmetic is Liu et al. 2024, https://arxiv.org/abs/2401.08565.
    """
    imitate = divergences(reference_prompted, prompted, temperature)
    added = divergences(bare + reference_prompted - reference_bare, prompted, temperature)
    return (1 - alpha) * imitate + alpha * added


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
