"""The losses, each with its equation. All are sums over records divided by their number unless said.

Letters: B records, N positions, V vocabulary (or C classes: every function takes any last dimension).
KL(p ‖ q) has the reference p first; references are constants, gradients reach only the other side.
"""

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, normalize

from transfer.tokens.batches import NO_MORE, UNCOUNTED

LIKENESS = 0.05
"""τ of `relations`."""


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each record: logits [B, C], labels [B] → [B]. Never averaged over the batch here."""
    return cross_entropy(logits, labels, reduction="none")


def answer_loss(logits: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each record's own answer tokens → [B]; at least one token a record.

    Args:
        logits: [N, V] at the answer tokens of all records, one record after the other.
        goal: the tokens [B, K], `NO_MORE` where a record has no more, `UNCOUNTED` where it has logits all the same.
    """
    read = goal != NO_MORE
    losses = cross_entropy(logits, goal[read], reduction="none", ignore_index=UNCOUNTED)
    return _record_sums(losses, read.sum(dim=1)) / (goal >= 0).sum(dim=1).clamp(min=1)


def record_means(values: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    """Means [B] of `values` [N] over each record's own positions: the first `reads[0]` ≥ 1, and so on."""
    return _record_sums(values, reads) / reads


def _record_sums(values: torch.Tensor, reads: torch.Tensor) -> torch.Tensor:
    record = torch.arange(len(reads)).repeat_interleave(reads)
    return values.new_zeros(len(reads)).index_add(0, record, values)


def divergence(reference: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """T²·KL(softmax(reference/T) ‖ softmax(logits/T)), mean of rows [N, V] → scalar (Hinton et al. 2015)."""
    return divergences(reference, logits, temperature).mean()


def divergences(reference: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """The same of each row: [N, V] → [N]."""
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
    """POST eq. 3–5: (1−α)·L1 + α·L2 of each text, for logits [B, V] at the answer → [B].

    L1 makes the prompted target answer like the prompted proxy; L2 makes the prompt change the target's
    answer as it changed the proxy's, so that what the target knows better is kept.

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


def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
    """How far two models give the same answers [N, V] more often than by chance, in [0, 1] (Cohen's κ, not below 0).

    POST's rule for α (eq. 6) is (ZS − RG)/(C − RG), at most 1: how much of what the prompted proxy knows (C) the bare
    target knows already (ZS), both above guessing (RG). Its accuracies cost private labels. With the prompted proxy's
    answers in place of the labels C is 1, ZS the share of equal answers, and RG their share by chance: κ.
    """
    answers = [logits.argmax(dim=-1) for logits in (first, second)]
    equal = (answers[0] == answers[1]).double().mean().item()
    shares = [torch.bincount(answer, minlength=first.shape[-1]).double() / len(answer) for answer in answers]
    chance = (shares[0] @ shares[1]).item()
    return max(0.0, (equal - chance) / (1 - chance)) if chance < 1 else 0.0


def cosine_distance(reference: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Mean of 1 − cos over rows of hidden states [N, H] → scalar."""
    return (1 - cosine_similarity(states, reference, dim=-1)).mean()


def relations(pooled: torch.Tensor) -> torch.Tensor:
    """Logits [B, B − 1] of which other text of a batch is like each: cos(m_i, m_j) / τ, j ≠ i, of states [B, H].

    Their KL compares two models whatever their hidden sizes, and asks no vocabulary (probabilistic knowledge
    transfer: Passalis & Tefas 2018, https://arxiv.org/abs/1803.10837). τ = 0.05 is that of contrastively trained
    sentence embedders (Gao et al. 2021, https://arxiv.org/abs/2104.08821): at 1, cosines say next to nothing.
    """
    unit = normalize(pooled, dim=-1)
    others = ~torch.eye(len(pooled), dtype=torch.bool)
    return (unit @ unit.T / LIKENESS)[others].view(len(pooled), -1)
