"""The store's contract; every test that takes `store` runs on SQLite and on PostgreSQL."""

import hashlib
import multiprocessing
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from coordinator.columns import Base, UtcTime
from coordinator.database import Database
from coordinator.migrations import config, is_current
from coordinator.records import CampaignState, ClientState, ProxyRecord, ReplyRecord, RoundState
from coordinator.store import Store
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ConfigError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from transfer.files import FileRef
from transfer.model_ref import ModelRef
from transfer.signing import STATEMENT_TYPE, Envelope, sign

POSTGRES = os.environ.get("PROMPTFERRY_TEST_POSTGRES", "")
NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="PROMPTFERRY_TEST_POSTGRES is not set: the store is NOT tested on PostgreSQL"
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
        return
    name = f"test_{uuid.uuid4().hex}"
    admin = make_url(POSTGRES).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(Store.open(url)) as store:
        yield store


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def build(version: int) -> tuple[Envelope, dict[str, bytes]]:
    return sign(b"version %d" % version, STATEMENT_TYPE, KEY), {"a.bin": b"weights", "b.json": b"{}"}


def proxy(name: str) -> ProxyRecord:
    model, parent = ModelRef(name, "a" * 64), ModelRef("target", "b" * 64)
    files = (FileRef.of_bytes("config.json", b"{}"), FileRef.of_bytes("model.safetensors", b"w" * 2**16))
    return ProxyRecord(name, model, parent, (0, 5), files, Path("/srv") / name, build(1)[0], NOW)


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


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "a" * 64, "é", "a\n"])
def test_impossible_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="client name"):
        store.invite(name, digest("t"), NOW)
    with pytest.raises(UsageError, match="prompt name"):
        store.publish(name, build)
    with pytest.raises(UsageError, match="campaign name"):
        store.add_campaign(name, "{}")


def test_a_proxy_comes_back_as_it_was_added(store: Store) -> None:
    store.add_proxy(proxy("first"))
    store.add_proxy(proxy("second"))

    assert store.proxy("first") == proxy("first")
    assert [found.name for found in store.proxies()] == ["second", "first"]
    with pytest.raises(AlreadyExistsError, match="proxy 'first' exists already"):
        store.add_proxy(proxy("first"))
    with pytest.raises(NotFoundError, match="no proxy 'third'"):
        store.proxy("third")


def test_campaigns_are_claimed_once_and_oldest_first(store: Store) -> None:
    for name in ("one", "two"):
        store.add_campaign(name, '{"rounds": 3}')
    with pytest.raises(AlreadyExistsError):
        store.add_campaign("one", "{}")

    claimed = [store.claim_campaign() for _ in range(3)]

    assert [campaign and (campaign.name, campaign.state) for campaign in claimed] == [
        ("one", CampaignState.RUNNING),
        ("two", CampaignState.RUNNING),
        None,
    ]


def test_of_many_threads_one_claims_a_campaign(store: Store) -> None:
    for index in range(4):
        store.add_campaign(f"campaign-{index}", "{}")
    with ThreadPoolExecutor(12) as pool:
        claimed = list(pool.map(lambda _: store.claim_campaign(), range(12)))

    assert sorted(campaign.name for campaign in claimed if campaign) == [f"campaign-{i}" for i in range(4)]


def test_a_campaign_remembers_state_and_detail(store: Store) -> None:
    store.add_campaign("one", "{}")
    store.set_campaign_state("one", CampaignState.FAILED, "quorum: 1 of 3")

    campaign = store.campaign("one")
    assert (campaign.state, campaign.detail, campaign.plan) == (CampaignState.FAILED, "quorum: 1 of 3", "{}")
    assert campaign.update_time >= campaign.create_time
    assert store.campaigns() == [campaign]
    with pytest.raises(NotFoundError, match="no campaign 'two'"):
        store.set_campaign_state("two", CampaignState.ABORTED)


def test_a_round_that_is_opened_or_closed_again_stays_as_it_was(store: Store) -> None:
    store.add_campaign("one", "{}")
    opened = store.open_round("one", 1, b"start", b"roster", b"directions")
    assert (opened.roster, opened.subspace) == (b"roster", b"directions")
    assert store.open_round("one", 1, b"start", b"other roster", b"other directions") == opened
    with pytest.raises(AlreadyExistsError, match="opened on another prompt"):
        store.open_round("one", 1, b"other", b"roster")

    closed = store.finish_round("one", 1, lambda replies: (b"end", {}))
    assert closed.state is RoundState.CLOSED
    assert store.finish_round("one", 1, lambda replies: (b"other", {})) == closed
    assert store.rounds("one") == [closed]
    with pytest.raises(NotFoundError, match="no campaign 'two'"):
        store.open_round("two", 1, b"start", b"roster")
    with pytest.raises(NotFoundError, match="has no round 2"):
        store.finish_round("one", 2, lambda replies: (b"end", {}))


@pytest.fixture
def opened(store: Store) -> Store:
    """The store with an open round of two clients."""
    for name in ("clinic-a", "clinic-b"):
        store.invite(name, digest(name), NOW + timedelta(days=1))
        store.enrol(name, name, name.encode(), b"signing " + name.encode(), NOW)
    store.add_campaign("one", "{}")
    store.open_round("one", 1, b"start", b"roster")
    return store


def hear(store: Store, outcome: str, envelope: bytes | None) -> str:
    return store.record_reply("one", 1, "clinic-a", outcome, envelope).reason


def stands(store: Store) -> list[tuple[str, str, bytes | None]]:
    return [(reply.client, reply.outcome, reply.envelope) for reply in store.replies("one", 1)]


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


def test_a_round_closes_with_exactly_what_stands_at_that_moment(opened: Store) -> None:
    hear(opened, "released", b"release")
    seen: list[str] = []
    reasons: list[str] = []

    def late() -> None:
        reasons.append(opened.record_reply("one", 1, "clinic-b", "released", b"release of b").reason)

    writer = threading.Thread(target=late)

    def close(replies: Sequence[ReplyRecord]) -> tuple[bytes, dict[str, str]]:
        writer.start()
        writer.join(0.3)
        seen.extend(reply.client for reply in replies)
        return b"end", {}

    opened.finish_round("one", 1, close)
    writer.join()
    assert (seen, reasons) == (["clinic-a"], ["the round was closed"])
    assert stands(opened) == [("clinic-a", "released", b"release")]


def test_a_round_that_cannot_be_closed_stays_open(opened: Store) -> None:
    def fail(replies: object) -> tuple[bytes, dict[str, str]]:
        raise UsageError("too few")

    with pytest.raises(UsageError, match="too few"):
        opened.finish_round("one", 1, fail)
    assert opened.rounds("one")[0].state is RoundState.OPEN
    assert hear(opened, "released", b"release") == ""


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


def test_versions_count_from_one_and_each_statement_carries_its_number(store: Store) -> None:
    versions = [store.publish("sst2", build) for _ in range(3)]
    store.publish("agnews", build)

    assert [version.version for version in versions] == [1, 2, 3]
    assert [version.statement.payload for version in versions] == [b"version 1", b"version 2", b"version 3"]
    assert store.prompt_version("sst2") == versions[2]
    assert store.prompt_version("sst2", 1) == versions[0]
    assert versions[0].files == (FileRef.of_bytes("a.bin", b"weights"), FileRef.of_bytes("b.json", b"{}"))
    assert store.prompt_file("sst2", 1, "a.bin") == b"weights"
    with pytest.raises(NotFoundError, match="no file 'c'"):
        store.prompt_file("sst2", 1, "c")


def test_a_failed_build_publishes_nothing_and_uses_no_number(store: Store) -> None:
    def fail(version: int) -> tuple[Envelope, dict[str, bytes]]:
        raise UsageError(f"version {version} cannot be built")

    with pytest.raises(UsageError, match="version 1 cannot be built"):
        store.publish("sst2", fail)
    assert store.prompt_versions() == []
    assert store.publish("sst2", build).version == 1


def test_versions_published_at_once_get_different_numbers(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: store.publish("sst2", build).version, range(8)))

    assert sorted(versions) == list(range(1, 9))


def test_a_revoked_version_is_not_the_latest_and_keeps_its_number(store: Store) -> None:
    for _ in range(2):
        store.publish("sst2", build)
    store.set_prompt_state("sst2", 2, "revoked")

    assert store.prompt_version("sst2").version == 1
    assert store.prompt_version("sst2", 2).state == "revoked"
    assert store.publish("sst2", build).version == 3
    with pytest.raises(NotFoundError, match="no version 9 of prompt 'sst2'"):
        store.set_prompt_state("sst2", 9, "revoked")
    with pytest.raises(NotFoundError, match="no prompt 'other'"):
        store.prompt_version("other")


def test_a_listing_goes_on_where_it_stopped_though_more_is_published(store: Store) -> None:
    for index in range(5):
        store.publish("sst2" if index % 2 else "agnews", build)
    store.set_prompt_state("agnews", 2, "revoked")

    page = store.prompt_versions(limit=2)
    store.publish("later", build)
    rest = store.prompt_versions(after=page[-1].sequence, limit=10)

    assert [version.name for version in page + rest] == [
        f"prompts/{name}" for name in ("agnews/versions/3", "sst2/versions/2", "agnews/versions/2")
    ] + ["prompts/sst2/versions/1", "prompts/agnews/versions/1"]
    assert [version.version for version in store.prompt_versions("agnews", published_only=True)] == [3, 1]


def test_the_heartbeat_is_the_last_one(store: Store) -> None:
    assert store.last_beat() is None
    store.beat(NOW)
    store.beat(NOW + timedelta(seconds=5))
    assert store.last_beat() == NOW + timedelta(seconds=5)


def test_what_was_stored_is_there_after_opening_again(store: Store, url: str) -> None:
    store.add_proxy(proxy("first"))
    published = store.publish("sst2", build)
    store.close()

    with closing(Store.open(url)) as again:
        assert again.proxy("first") == proxy("first")
        assert again.prompt_version("sst2") == published


def publish_in_a_process(url: str, count: int) -> None:
    with closing(Store.open(url)) as store:
        for _ in range(count):
            store.publish("sst2", build)


@pytest.mark.slow
def test_processes_share_a_store(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=publish_in_a_process, args=(url, 5)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0]
    with closing(Store.open(url)) as store:
        assert [version.version for version in store.prompt_versions()] == list(range(10, 0, -1))


def test_the_schema_is_what_the_tables_say(store: Store) -> None:
    with store._database.reading() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": same_type})
        assert compare_metadata(context, Base.metadata) == []


def same_type(
    _context: object, _inspected: object, _column: object, found: object, wanted: object
) -> bool | None:
    """UtcTime is DateTime to the database; everything else is alembic's to compare."""
    return False if isinstance(wanted, UtcTime) and "DATETIME" in repr(found).upper() else None


def test_a_populated_store_goes_down_and_up_again(store: Store, url: str) -> None:
    store.invite("clinic-a", digest("t"), NOW)
    store.add_proxy(proxy("first"))
    store.publish("sst2", build)
    store.add_campaign("one", "{}")
    store.open_round("one", 1, b"start", b"roster")
    store.record_reply("one", 1, "clinic-a", "released", b"envelope")
    store.record_reply("one", 1, "clinic-a", "released", b"another")
    store.beat(NOW)
    with store._database.writing() as session:
        command.downgrade(config(session.connection()), "base")
    with store._database.reading() as session:
        left = set(session.connection().dialect.get_table_names(session.connection()))
    store.close()

    assert left == {"alembic_version"}
    with closing(Store.open(url)) as again:
        assert again.clients() == []
        assert again.publish("sst2", build).version == 1


def test_an_unknown_revision_is_refused_in_one_line(store: Store, url: str) -> None:
    with store._database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()

    with pytest.raises(
        ConfigError, match=r"schema revision '9999' is unknown to this version: upgrade"
    ) as caught:
        Store.open(url)
    assert "\n" not in str(caught.value)


def test_a_database_with_foreign_tables_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()

    with pytest.raises(ConfigError, match=r"holds foreign tables \(recipes\)"):
        Store.open(f"sqlite:///{tmp_path}/other.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://localhost/x", "'mysql' is not supported: use sqlite or postgresql"),
        ("sqlite://", "names no file"),
        ("sqlite:///{tmp}/absent/store.db", "cannot be opened: No such file or directory"),
        ("sqlite:///{tmp}", "cannot be opened: Is a directory"),
        ("sqlite:///{tmp}/text.db", "cannot be opened: file is not a database"),
        ("postgresql+psycopg://me:hunter2@127.0.0.1:1/x", "cannot be opened: connection"),
    ],
)
def test_a_wrong_store_url_is_one_clear_line_without_password(tmp_path: Path, url: str, message: str) -> None:
    (tmp_path / "text.db").write_text("not a database at all\n" * 100)

    with pytest.raises(ConfigError, match=message) as caught:
        Store.open(url.format(tmp=tmp_path))
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_sqlite_is_durable_and_private(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Store.open(f"sqlite:///{path}")) as store, store._database.reading() as session:
        pragmas = [
            session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 1, 10_000]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_writer_that_waits_too_long_says_so(tmp_path: Path) -> None:
    with closing(Store.open(f"sqlite:///{tmp_path}/store.db", busy_timeout_s=0.01)) as store:
        with closing(sqlite3.connect(tmp_path / "store.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert store.last_beat() is None  # readers wait for nobody
            with pytest.raises(UnavailableError, match="the store does not answer: database is locked"):
                store.beat(NOW)
        store.beat(NOW)


def test_a_reader_sees_one_moment(store: Store) -> None:
    store.add_campaign("one", "{}")
    with store._database.reading() as session:
        count = session.connection().exec_driver_sql("SELECT count(*) FROM campaigns")
        assert count.scalar() == 1
        writer = threading.Thread(target=store.add_campaign, args=("two", "{}"))
        writer.start()
        writer.join()
        assert session.connection().exec_driver_sql("SELECT count(*) FROM campaigns").scalar() == 1
    assert len(store.campaigns()) == 2


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_keeps_its_instant_where_the_database_forgets_zones(moment: datetime) -> None:
    column = UtcTime()
    try:
        bound = column.process_bind_param(moment, None)
    except OverflowError:
        return  # the first or last hours of the calendar have no UTC
    assert bound is not None
    found = column.process_result_value(bound.replace(tzinfo=None), None)
    assert found is not None
    assert found.timestamp() == moment.timestamp()


def test_a_time_without_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        UtcTime().process_bind_param(datetime(2030, 1, 1), None)  # noqa: DTZ001


def test_a_round_from_before_rosters_has_nobody_on_its_own(url: str) -> None:
    with closing(Store.open(url)) as store:
        store.add_campaign("one", "{}")
        store.open_round("one", 1, b"start", b"roster")
        with store._database.writing() as session:
            command.downgrade(config(session.connection()), "0002")
    with closing(Store.open(url)) as store:
        assert [item.roster for item in store.rounds("one")] == [b""]


def test_databases_open_at_once_migrate_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: Database.open(url), range(4)):
            with closing(database), database.reading() as session:
                revisions = MigrationContext.configure(session.connection()).get_current_heads()
                assert len(revisions) == 1
                assert is_current(session.connection())
