import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import PolicyRefusedError, UsageError
from transfer.protocol.roster import KEY_BYTES, Roster

ADA, BEN, CLEO, DAN = (bytes([number]) * KEY_BYTES for number in range(1, 5))
ROSTER = Roster.of([CLEO, ADA, BEN])
KEYS = st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), unique=True, max_size=8)


@given(KEYS)
def test_a_roster_does_not_depend_on_the_order_and_survives_as_bytes(keys):
    roster = Roster.of(keys)
    assert sorted(roster.keys) == sorted(keys)
    assert Roster.of(reversed(keys)).digest == roster.digest
    assert Roster.from_bytes(roster.to_bytes()) == roster


@pytest.mark.promise("cohort")
@pytest.mark.parametrize("keys", [(ADA, ADA), (BEN, ADA), (ADA, BEN, BEN, CLEO)])
def test_a_key_is_one_vote(keys):
    with pytest.raises(UsageError, match="not in ascending order, each once"):
        Roster(keys)


@pytest.mark.parametrize("keys", [(b"",), (ADA[:-1],), (ADA, BEN + b"x")])
def test_what_is_no_key_is_refused(keys):
    with pytest.raises(UsageError, match="not 32 bytes long"):
        Roster(keys)
    with pytest.raises(UsageError, match="not 32 bytes long"):
        Roster.from_bytes(ROSTER.to_bytes() + b"x")


def test_a_roster_must_hold_our_key_and_the_cohort_promised():
    ROSTER.require(BEN, 3)
    with pytest.raises(PolicyRefusedError, match="does not hold our key"):
        ROSTER.require(DAN, 3)
    with pytest.raises(PolicyRefusedError, match="holds 3 keys, fewer than the cohort of 4 promised"):
        ROSTER.require(BEN, 4)


def test_another_roster_has_another_digest():
    assert len({ROSTER.digest, Roster((ADA, BEN)).digest, Roster((ADA, BEN, CLEO, DAN)).digest}) == 3
