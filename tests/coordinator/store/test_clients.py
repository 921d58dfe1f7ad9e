"""Clients in the store: invited, enrolled, revoked."""

from datetime import timedelta

import pytest

from coordinator.store.records import ClientState
from coordinator.store.store import Store
from tests.coordinator.store.stores import NOW, digest
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
)


def test_an_invited_client_becomes_enrolled_with_its_keys(store: Store) -> None:
    store.invite("clinic-a", digest("t"), NOW + timedelta(days=1))

    enrolled = store.enrol("clinic-a", "t", b"node", b"signing", NOW)
    store.set_node("clinic-a", 2**64 - 1)

    assert enrolled.state is ClientState.ENROLLED
    client = store.client("clinic-a")
    assert (client.node_key, client.signing_key, client.node_id) == (b"node", b"signing", 2**64 - 1)
    assert client.enrol_time == NOW
    assert store.clients() == [client]


@pytest.mark.parametrize("case", ["unknown", "wrong token", "used", "expired", "revoked"])
def test_every_refused_enrolment_reads_the_same_and_changes_nothing(store: Store, case: str) -> None:
    store.invite("clinic-a", digest("t"), NOW + timedelta(days=1))
    if case == "used":
        store.enrol("clinic-a", "t", b"other", b"keys", NOW)
    if case == "revoked":
        store.revoke("clinic-a")
    before = store.clients()

    name = "clinic-b" if case == "unknown" else "clinic-a"
    token = "x" if case == "wrong token" else "t"
    now = NOW + timedelta(days=1) if case == "expired" else NOW
    with pytest.raises(AuthenticationError, match=r"^enrolment refused: unknown client, or a wrong, used or"):
        store.enrol(name, token, b"node", b"signing", now)

    assert store.clients() == before


def test_the_same_keys_may_enrol_again_with_the_same_token(store: Store) -> None:
    store.invite("clinic-a", digest("t"), NOW + timedelta(days=1))
    first = store.enrol("clinic-a", "t", b"node", b"signing", NOW)

    assert store.enrol("clinic-a", "t", b"node", b"signing", NOW + timedelta(days=9)) == first


def test_a_key_belongs_to_one_client(store: Store) -> None:
    for name in ("clinic-a", "clinic-b"):
        store.invite(name, digest(name), NOW + timedelta(days=1))
    store.enrol("clinic-a", "clinic-a", b"node", b"signing", NOW)

    with pytest.raises(AlreadyExistsError, match="enrolled under another name"):
        store.enrol("clinic-b", "clinic-b", b"node 2", b"signing", NOW)
    assert store.client("clinic-b").state is ClientState.INVITED


def test_an_unused_invitation_is_replaced_and_a_used_one_is_not(store: Store) -> None:
    store.invite("clinic-a", digest("old"), NOW + timedelta(days=1))
    store.invite("clinic-a", digest("new"), NOW + timedelta(days=1))
    with pytest.raises(AuthenticationError):
        store.enrol("clinic-a", "old", b"node", b"signing", NOW)
    store.enrol("clinic-a", "new", b"node", b"signing", NOW)

    with pytest.raises(AlreadyExistsError, match="'clinic-a' is enrolled already"):
        store.invite("clinic-a", digest("newer"), NOW + timedelta(days=1))
