"""Replies in the store: which one stands, and what is kept beside it."""

from contextlib import closing

import pytest
from alembic import command

from coordinator.store.migrations import config
from coordinator.store.store import Store
from tests.coordinator.store.stores import hear, stands


def beside(store: Store) -> list[tuple[str, str, bytes | None, str]]:
    found = store.uncounted("one", 1)
    return [(reply.client, reply.outcome, reply.envelope, reply.reason) for reply in found]


@pytest.mark.parametrize("first", ["timeout", "declined: policy", "invalid: nonce"])
def test_a_release_takes_the_place_of_whatever_was_heard_before_it(opened: Store, first: str) -> None:
    opened.record_reply("one", 1, "clinic-b", "timeout", None)
    assert hear(opened, first, None if first == "timeout" else b"first") == ""
    assert hear(opened, "declined: spent", b"decline") == ""
    assert hear(opened, "released", b"release") == ""
    assert stands(opened) == [("clinic-a", "released", b"release"), ("clinic-b", "timeout", None)]
    assert beside(opened) == []


def test_the_first_release_stays_and_what_else_is_answered_is_kept_beside(opened: Store) -> None:
    hear(opened, "released", b"release")
    first = opened.replies("one", 1)[0]
    assert opened.record_reply("one", 1, "clinic-a", "released", b"release") == first
    for _ in range(2):  # as often as it is said
        for outcome, envelope in (("released", b"another"), ("declined: spent", b"no"), ("invalid: x", b"?")):
            assert hear(opened, outcome, envelope) == "its first release stands"
    assert opened.replies("one", 1) == [first]
    assert beside(opened) == [
        ("clinic-a", "released", b"another", "its first release stands"),
        ("clinic-a", "declined: spent", b"no", "its first release stands"),
        ("clinic-a", "invalid: x", b"?", "its first release stands"),
    ]


@pytest.mark.parametrize("reply", ["released", "declined: policy"])
def test_a_silence_takes_no_replys_place_and_leaves_no_trace(opened: Store, reply: str) -> None:
    hear(opened, reply, b"reply")
    assert hear(opened, "offline", None) in {"its first release stands", "it has answered"}
    assert stands(opened) == [("clinic-a", reply, b"reply")]
    assert beside(opened) == []


def test_what_comes_after_the_end_of_a_round_is_kept_and_changes_nothing(opened: Store) -> None:
    hear(opened, "timeout", None)
    opened.record_reply("one", 1, "clinic-b", "released", b"release")
    opened.finish_round("one", 1, lambda replies: (b"end", {"clinic-b": "too long"}))
    before = stands(opened)
    assert hear(opened, "released", b"late") == "the round was closed"
    assert hear(opened, "offline", None) == "the round was closed"
    assert opened.record_reply("one", 1, "clinic-b", "released", b"release").reason == ""
    assert stands(opened) == before
    assert beside(opened) == [
        ("clinic-b", "released", None, "too long"),
        ("clinic-a", "released", b"late", "the round was closed"),
    ]


def test_a_revoked_clients_release_is_taken_out_of_the_open_round_and_no_other(opened: Store) -> None:
    hear(opened, "released", b"in time")
    opened.finish_round("one", 1, lambda replies: (b"end", {}))
    opened.open_round("one", 2, b"end", b"roster")
    opened.record_reply("one", 2, "clinic-a", "released", b"release")
    opened.record_reply("one", 2, "clinic-b", "released", b"release of b")

    opened.revoke("clinic-a")
    again = opened.record_reply("one", 2, "clinic-a", "released", b"release")

    assert again.reason == "the client was revoked"
    assert stands(opened) == [("clinic-a", "released", b"in time")]
    assert [(reply.client, reply.outcome) for reply in opened.replies("one", 2)] == [
        ("clinic-a", "revoked"),
        ("clinic-b", "released"),
    ]
    assert [(reply.envelope, reply.reason) for reply in opened.uncounted("one", 2)] == [
        (b"release", "the client was revoked")
    ]


def test_replies_outlive_a_downgrade_and_the_upgrade_after_it(opened: Store, url: str) -> None:
    hear(opened, "released", b"release")
    hear(opened, "released", b"another")
    with opened._database.writing() as session:
        command.downgrade(config(session.connection()), "0003")
    with closing(Store.open(url)) as again:
        assert stands(again) == [("clinic-a", "released", b"release")]
        assert beside(again) == []
        assert hear(again, "released", b"another") == "its first release stands"
