"""The book-keeping of an exchange, without Flower."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.flower.exchange import Awaited, Exchange, Presence
from coordinator.rounds.fleet import Outcome

HERE, BACK = Presence(1, "10:00"), Presence(1, "10:05")
REPLY = Outcome(reply=b"yes")


def test_a_request_goes_out_once_for_every_sign_on_until_it_is_answered():
    exchange = Exchange({"a": b"?"})
    assert exchange.due({"a": HERE, "stranger": Presence(2, "10:00")}) == {"a": HERE}
    exchange.sent("m1", "a", HERE)
    assert exchange.due({"a": HERE}) == {}
    assert exchange.due({}) == {}
    assert exchange.due({"a": BACK}) == {"a": BACK}
    exchange.sent("m2", "a", BACK)
    assert exchange.settle("m1", 1, REPLY) == "a"
    assert exchange.due({"a": Presence(1, "10:09")}) == {}


def test_a_lost_message_makes_its_node_due_again():
    exchange = Exchange({"a": b"?"})
    exchange.sent("m1", "a", HERE)
    assert exchange.lost("m1") == "a"
    assert exchange.due({"a": HERE}) == {"a": HERE}
    assert exchange.lost("m1") is None


def test_messages_of_others_and_second_replies_do_not_count():
    exchange = Exchange({"a": b"?"})
    exchange.sent("m1", "a", HERE)
    exchange.sent("m2", "a", BACK)
    assert exchange.settle("of an earlier exchange", 1, REPLY) is None
    assert exchange.settle("m2", 1, REPLY) == "a"
    assert exchange.settle("m1", 1, Outcome(reply=b"no")) is None
    assert exchange.lost("m1") is None
    assert exchange.outcomes == {"a": REPLY}


def test_a_reply_under_another_id_is_malformed():
    exchange = Exchange({"a": b"?"})
    exchange.sent("m1", "a", HERE)
    assert exchange.settle("m1", 2, REPLY) == "a"
    assert exchange.outcomes == {"a": Outcome(error="malformed_reply")}


def test_every_silence_has_its_own_word():
    exchange = Exchange(dict.fromkeys(("absent", "asked", "lost", "again"), b"?"))
    for number, name in enumerate(("asked", "lost", "again")):
        exchange.sent(f"m{number}", name, HERE)
    exchange.lost("m1")
    exchange.lost("m2")
    exchange.sent("m3", "again", BACK)
    assert list(exchange.end(in_time=False)) == ["absent", "again", "asked", "lost"]
    assert {name: outcome.error for name, outcome in exchange.outcomes.items()} == {
        "absent": "offline",
        "asked": "timeout",
        "again": "timeout",
        "lost": "node_unavailable",
    }
    closed = Exchange({"a": b"?"})
    assert list(closed.end(in_time=True)) == ["a"]
    assert closed.outcomes == {"a": Outcome(error="not_awaited")}


def test_what_is_overdue_takes_the_replies_of_nodes_at_work_and_of_no_others():
    exchange = Exchange(dict.fromkeys(("quick", "at work", "unasked", "absent"), b"?"))
    for number, name in enumerate(("quick", "at work", "unasked")):
        exchange.sent(f"m{number}", name, Presence(number, "10:00"))
    exchange.settle("m0", 0, REPLY)
    assert exchange.node_ids == {1, 2}
    rest = exchange.overdue({"m2"})
    assert list(exchange.end(in_time=False)) == ["absent", "at work", "unasked"]
    told = {}
    awaited = Awaited(rest, told.__setitem__)
    assert awaited.is_alive
    assert not Awaited(rest, told.__setitem__, until=0.0).is_alive
    awaited.note("m0", 0, Outcome(reply=b"again"))
    awaited.note("m2", 2, REPLY)
    awaited.note("m1", 1, REPLY)
    assert told == {"at work": REPLY}
    assert exchange.outcomes["at work"] == Outcome(error="timeout")
    assert not awaited.is_alive


def test_a_lost_message_is_no_news_and_nothing_to_wait_for():
    exchange, told = Exchange({"a": b"?"}), {}
    exchange.sent("m1", "a", HERE)
    awaited = Awaited(exchange, told.__setitem__)
    awaited.note("m1", 1, None)
    assert (told, awaited.is_alive) == ({}, False)


def test_forgetting_makes_everybody_unanswered_due():
    exchange = Exchange({"a": b"?", "b": b"?"})
    exchange.sent("m1", "a", HERE)
    exchange.sent("m2", "b", Presence(2, "10:00"))
    exchange.settle("m1", 1, REPLY)
    exchange.forget()
    assert exchange.message_ids == set()
    assert exchange.due({"a": HERE, "b": Presence(2, "10:00")}) == {"b": Presence(2, "10:00")}


@pytest.mark.parametrize("fields", [{}, {"reply": b"", "error": "timeout"}])
def test_an_outcome_is_a_reply_or_an_error(fields):
    with pytest.raises(ValueError, match="either a reply or an error"):
        Outcome(**fields)


MESSAGES = st.integers(0, 20)
STEPS = st.one_of(
    st.tuples(st.just("online"), st.integers(1, 3), st.integers(0, 3)),
    st.tuples(st.just("settle"), MESSAGES, st.integers(1, 3)),
    st.tuples(st.just("lost"), MESSAGES, st.none()),
    st.tuples(st.just("forget"), st.none(), st.none()),
)


@given(st.lists(STEPS, max_size=40), st.booleans())
def test_whatever_happens_each_node_gets_exactly_one_outcome_and_it_never_changes(steps, in_time):
    exchange = Exchange({"node 1": b"?", "node 2": b"?", "node 3": b"?"})
    sent: list[tuple[str, str]] = []
    told: list[tuple[str | None, Outcome]] = []

    def online(node_id: int, since: int) -> None:
        for name, presence in exchange.due({f"node {node_id}": Presence(node_id, str(since))}).items():
            sent.append((f"message {len(sent)}", name))
            exchange.sent(*sent[-1], presence)

    def settle(number: int, source: int) -> None:
        name = exchange.settle(f"message {number}", source, REPLY)
        if name is not None:
            assert (f"message {number}", name) in sent
            told.append((name, exchange.outcomes[name]))

    moves = {
        "online": online,
        "settle": settle,
        "lost": lambda number, _: exchange.lost(f"message {number}"),
        "forget": lambda *_: exchange.forget(),
    }
    for kind, *details in steps:
        moves[kind](*details)
        assert dict(told) == exchange.outcomes
    told += [(name, exchange.outcomes[name]) for name in exchange.end(in_time=in_time)]
    assert sorted(name for name, _ in told) == ["node 1", "node 2", "node 3"]
    assert dict(told) == exchange.outcomes
