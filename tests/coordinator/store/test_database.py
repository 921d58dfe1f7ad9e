"""One database, SQLite or PostgreSQL: durable, private, and refused in one line."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.runtime.migration import MigrationContext

from coordinator.store.database import Database
from coordinator.store.migrations import is_current
from coordinator.store.store import Store
from tests.coordinator.store.stores import (
    NOW,
)
from transfer.errors import (
    ConfigError,
    UnavailableError,
)


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


def test_databases_open_at_once_migrate_once(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for database in pool.map(lambda _: Database.open(url), range(4)):
            with closing(database), database.reading() as session:
                revisions = MigrationContext.configure(session.connection()).get_current_heads()
                assert len(revisions) == 1
                assert is_current(session.connection())
