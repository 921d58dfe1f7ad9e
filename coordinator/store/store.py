"""The store: clients, proxies, campaigns, replies, published prompts and a heartbeat."""

from datetime import datetime

from coordinator.store.campaigns import CampaignStore
from coordinator.store.catalogue import CatalogueStore
from coordinator.store.clients import ClientStore
from coordinator.store.database import BUSY_TIMEOUT_S, Database
from coordinator.store.replies import ReplyStore
from coordinator.store.tables import HeartbeatRow


class Store(ClientStore, CatalogueStore, CampaignStore, ReplyStore):
    """The coordinator's persistent state; the four bases have its calls.

    The contract, the same on SQLite and PostgreSQL:

    - Each call is one transaction: when it returns, it has happened wholly and durably, or not at all.
    - Any thread and any process may call at any time; writers take turns.
    - Calls take and return values (`coordinator.store.records`); a returned value never changes.
    - A missing resource is a `NotFoundError`, a name in use an `AlreadyExistsError`, and a database that does
      not answer an `UnavailableError`. Any call may raise them; the calls' docstrings do not repeat it.
    - `enrol`, `open_round`, `record_reply` and `finish_round` are idempotent, because a crash may repeat them. A
      repeated call with other values is refused, with two exceptions: `record_reply` stores the other reply
      as one that does not count, and `finish_round` returns the closed round.
    """

    def __init__(self, database: Database) -> None:
        """Use `open`."""
        self._database = database

    @staticmethod
    def open(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> "Store":
        """Open the store at a database URL and upgrade it to the newest schema.

        Args:
            url: sqlite:///PATH (relative to the current directory, sqlite:////PATH absolute) or
                postgresql+psycopg://USER:PASSWORD@HOST/NAME.
            busy_timeout_s: longest wait of a writer for its turn, in seconds.

        Raises:
            ConfigError: see `Database.open`.
        """
        return Store(Database.open(url, busy_timeout_s))

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def beat(self, now: datetime) -> None:
        """Record that a process serves this store at `now`."""
        with self._database.writing() as session:
            session.merge(HeartbeatRow(id=1, time=now))

    def last_beat(self) -> datetime | None:
        """Return the time of the last heartbeat; None if no process ever served this store."""
        with self._database.reading() as session:
            row = session.get(HeartbeatRow, 1)
            return None if row is None else row.time
