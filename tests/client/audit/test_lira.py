"""LiRA's ratios tell members whose margins moved."""

import numpy as np

from client.audit.lira import likelihood_ratios


def test_ratios_tell_members_whose_margins_moved_and_nothing_where_one_kind_is_missing() -> None:
    draw = np.random.default_rng(6)
    member = draw.random((16, 200)) < 0.5
    member[:, 0] = True
    margins = draw.normal(size=200) + 4.0 * member + 0.5 * draw.normal(size=member.shape)
    scores = likelihood_ratios(margins, member)
    assert np.isnan(scores[:, 0]).all()
    assert (scores[:, 1:][member[:, 1:]] > 0).mean() > 0.99
    assert (scores[:, 1:][~member[:, 1:]] < 0).mean() > 0.99
