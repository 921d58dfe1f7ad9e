"""One SQL database, SQLite or PostgreSQL, with the same rules on both.

Writers take turns: SQLite uses BEGIN IMMEDIATE, PostgreSQL one advisory lock until the end of the transaction.
What a writer reads therefore stays true until it commits, no transaction needs a retry, and both databases behave
alike. Readers see one consistent snapshot and wait for nobody.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from coordinator.store.migrations import is_current, upgrade
from transfer.errors import ConfigError, UnavailableError

BUSY_TIMEOUT_S = 10.0
"""Longest wait of a writer for its turn, and on PostgreSQL of any statement, in seconds."""
WRITE_LOCK = 0x70726F6D
"""Number of the advisory lock on PostgreSQL: a constant that nothing else in the database uses."""
KINDS = ("sqlite", "postgresql+psycopg")


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file with any path; a relative path starts at the process's directory."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """An open database at the newest revision of our schema. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        """Use `open`."""
        self._readers = engine
        self._writers = engine.execution_options(writing=True)
        if engine.dialect.name == "postgresql":
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ")
            # a snapshot from before the lock was granted would be stale, so each statement takes its own
            self._writers = engine.execution_options(isolation_level="READ COMMITTED", writing=True)

    @staticmethod
    def open(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> "Database":
        """Connect, and upgrade an empty or older database to the newest revision.

        Raises:
            ConfigError: the URL's kind is not supported, the database does not open, or this version does not
                know its revision.
        """
        parsed = _parse(url)
        shown = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite":
            _create_file(parsed, shown)
        database = Database(_engine(parsed, round(busy_timeout_s * 1000)))
        try:
            with database._transaction(database._readers) as session:
                current = is_current(session.connection())
            if not current:
                with database._transaction(database._writers) as session:
                    upgrade(session.connection(), shown)
        except ConfigError:
            database.close()
            raise
        except SQLAlchemyError as error:
            database.close()
            raise ConfigError(
                f"store {shown}: cannot be opened: {_reason(error)}; check [store] url"
            ) from error
        return database

    def close(self) -> None:
        """Close every connection."""
        self._readers.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session on one snapshot.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self._reporting(), self._transaction(self._readers) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a session with the write lock; it commits at the end, or changes nothing if the body raises.

        Raises:
            UnavailableError: the database does not answer, or another writer does not end in time.
        """
        with self._reporting(), self._transaction(self._writers) as session:
            yield session

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Session]:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            if engine.dialect.name == "postgresql" and engine.get_execution_options().get("writing"):
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITE_LOCK})
            yield session

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise UnavailableError(f"the store does not answer: {_reason(error)}") from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"[store] url {url!r} is not a database URL such as sqlite:///store.db") from error
    if parsed.drivername not in KINDS:
        raise ConfigError(f"[store] url: {parsed.drivername!r} is not supported: use {' or '.join(KINDS)}")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError(
            f"[store] url {url!r} names no file, but several processes share the store: write sqlite:///store.db"
        )
    return parsed


def _create_file(url: URL, shown: str) -> None:
    """Create the file for its owner alone before SQLite writes the first reply to it."""
    try:
        os.close(os.open(Path(str(url.database)), os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(f"store {shown}: cannot be opened: {error.strerror}; check [store] url") from error


def _engine(url: URL, busy_timeout_ms: int) -> Engine:
    try:
        if url.get_backend_name() == "postgresql":
            options = f"-c statement_timeout={busy_timeout_ms} -c timezone=UTC"
            return create_engine(
                url, pool_pre_ping=True, connect_args={"options": options, "connect_timeout": 5}
            )
        engine = create_engine(url)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(f"[store] url: the driver of {url.drivername!r} is not installed") from error

    def configure(connection: Any, _record: object) -> None:
        """Make commits durable, let readers work beside one writer, and bound the wait for locks."""
        connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()
        if mode != "wal":
            raise ConfigError(f"[store] url: SQLite cannot write ahead there (mode {mode}): use a local disk")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _reason(error: SQLAlchemyError) -> str:
    """Return the first line of the driver's message, without SQL, parameters and links."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
