"""A data owner's cost is the sum over all campaigns behind a prompt, each counted once."""

import math

import pytest

from coordinator.publication.contributions import Contribution, composed
from transfer.errors import UsageError
from transfer.privacy import Guarantee


@pytest.mark.promise("statement")
def test_a_data_owner_in_several_campaigns_pays_their_sum_and_each_campaign_counts_once():
    one = Contribution("one", {"ada": Guarantee(1.0, 1e-6), "ben": Guarantee(4.0, 1e-6)})
    two = Contribution("two", {"ada": Guarantee(2.0, 1e-7)})
    assert composed([one]) == Guarantee(4.0, 1e-6)
    assert composed([one, two, two]) == Guarantee(4.0, 1.1e-6)
    user = Contribution("user", {"cleo": Guarantee(1.0, 1e-6, "user")})
    assert composed([user]) == Guarantee(1.0, 1e-6, "user")
    with pytest.raises(UsageError, match=r"different units .*: their costs have no sum"):
        composed([one, user])
    assert composed([one, Contribution("free", {"ada": Guarantee(math.inf, 1e-6, "user")})]).unit == "user"
    free = Contribution("one", {"ada": Guarantee(math.inf, 1e-6)})
    users = Contribution("user", {"cleo": Guarantee(math.inf, 1e-6, "user")})
    assert (
        composed([free, users, free]).unit == "record"
    )  # the release's own stands last, whoever learnt from it
    three = Contribution("three", {"ada": Guarantee(math.inf, 1e-6)})
    assert composed([one, three]).epsilon == math.inf
