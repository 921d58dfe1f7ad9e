"""LiRA: the likelihood-ratio attack on membership (Carlini et al. 2022, https://arxiv.org/abs/2112.03570).

The attack compares how sure a model is of a unit with how sure other models are that were, or were not, tuned on it.
Each unit has its own two means; all units share the variances, as in the paper for few shadow models.

Letters: K shadow models, N units.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from client.audit.bounds import Flags, Scores


def likelihood_ratios(margins: NDArray[np.float64], member: Flags) -> Scores:
    """Return the log-likelihood ratio of "in" against "out" for each shadow model and unit, from the other models.

    Args:
        margins: [K, N], of each unit under each shadow model.
        member: [K, N], whether the model was tuned on the unit.

    Returns:
        [K, N]; NaN where the other models were all tuned on the unit, or none was.
    """
    ratios = [
        _ratio(margins[index], np.delete(margins, index, axis=0), np.delete(member, index, axis=0))
        for index in range(len(margins))
    ]
    return np.stack(ratios)


def _ratio(attacked: Scores, margins: NDArray[np.float64], member: Flags) -> Scores:
    """Return the ratios [N] of one attacked model from the margins and memberships [K − 1, N] of the others."""
    inside, outside = _fit(margins, member), _fit(margins, ~member)
    ratio: Scores = norm.logpdf(attacked, *inside) - norm.logpdf(attacked, *outside)
    return ratio


def _fit(margins: NDArray[np.float64], chosen: Flags) -> tuple[Scores, float]:
    """Return the mean of each unit's chosen margins, NaN without any, and one standard deviation for all units."""
    counts = chosen.sum(axis=0).astype(np.float64)
    counts[counts == 0] = np.nan
    means = np.where(chosen, margins, 0.0).sum(axis=0) / counts
    squares = np.nansum(np.where(chosen, (margins - means) ** 2, 0.0))
    freedom = max(1.0, float(np.nansum(counts - 1)))
    return means, max(float(np.sqrt(squares / freedom)), 1e-6)
