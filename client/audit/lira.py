"""LiRA: the likelihood-ratio attack on membership (Carlini et al. 2022, https://arxiv.org/abs/2112.03570).

How much surer a model is of a unit than others were that did, and did not, learn from it. The means of both kinds
are the unit's own; the variances are shared by all units, as the paper does with few shadow models.

Letters: K shadow models, N units.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from client.audit.bounds import Flags, Scores


def likelihood_ratios(margins: NDArray[np.float64], member: Flags) -> Scores:
    """The log-likelihood ratio of "in" against "out" for each shadow model and unit, by the other models.

    Args:
        margins: [K, N] of each unit under each shadow model.
        member: [K, N], whether it was tuned on.

    Returns:
        [K, N]; NaN where the others were all in or all out.
    """
    found = [
        _ratio(margins[index], np.delete(margins, index, axis=0), np.delete(member, index, axis=0))
        for index in range(len(margins))
    ]
    return np.stack(found)


def _ratio(attacked: Scores, margins: NDArray[np.float64], member: Flags) -> Scores:
    """[N] of one attacked model, from the margins and memberships [K − 1, N] of the others."""
    inside, outside = _fit(margins, member), _fit(margins, ~member)
    ratio: Scores = norm.logpdf(attacked, *inside) - norm.logpdf(attacked, *outside)
    return ratio


def _fit(margins: NDArray[np.float64], chosen: Flags) -> tuple[Scores, float]:
    """Mean of each unit's chosen margins, NaN if it has none, and one standard deviation for all units."""
    counts = chosen.sum(axis=0).astype(np.float64)
    counts[counts == 0] = np.nan
    means = np.where(chosen, margins, 0.0).sum(axis=0) / counts
    squares = np.nansum(np.where(chosen, (margins - means) ** 2, 0.0))
    freedom = max(1.0, float(np.nansum(counts - 1)))
    return means, max(float(np.sqrt(squares / freedom)), 1e-6)
