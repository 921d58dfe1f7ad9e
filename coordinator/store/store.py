"""Everything the coordinator remembers: clients, proxies, campaigns, published prompts, a heartbeat."""

from datetime import datetime

from coordinator.store.campaigns import CampaignStore
from coordinator.store.catalogue import CatalogueStore
from coordinator.store.clients import ClientStore
from coordinator.store.database import BUSY_TIMEOUT_S, Database
from coordinator.store.replies import ReplyStore
from coordinator.store.tables import HeartbeatRow


class Store(ClientStore, CatalogueStore, CampaignStore, ReplyStore):
    """The coordinator's memory; its calls are in the four bases.

    The contract, the same on SQLite and PostgreSQL:

    - Each call is one transaction: it happened whole and durably when the call returns, or not at all.
    - Any thread and any process may call at any time; writers take turns.
    - Values go in and come out (`coordinator.store.records`); nothing returned changes later.
    - A missing resource is a `NotFoundError`, a taken name an `AlreadyExistsError`, and a database that does
      not answer an `UnavailableError`. Any call may raise them; the calls do not repeat it.
    - Calls that a crash may repeat (`enrol`, `open_round`, `record_reply`, `finish_round`) may be repeated:
      the same again changes nothing. Something else is refused, but for a reply, which is kept beside the
      one that stands, and for the end of a round that has ended.
    """

    def __init__(self, database: Database) -> None:
        """Use `open`."""
        self._database = database

    @staticmethod
    def open(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> "Store":
        """Open the store behind a database URL and bring it to the newest schema.

        Args:
            url: sqlite:///PATH (relative to the current directory, sqlite:////PATH absolute) or
                postgresql+psycopg://USER:PASSWORD@HOST/NAME.
            busy_timeout_s: how long a writer waits for its turn.

        Raises:
            ConfigError: see `Database.open`.
        """
        return Store(Database.open(url, busy_timeout_s))

    def close(self) -> None:
        """Give every connection back."""
        self._database.close()

    def beat(self, now: datetime) -> None:
        """Say that a process serves this store at `now`."""
        with self._database.writing() as session:
            session.merge(HeartbeatRow(id=1, time=now))

    def last_beat(self) -> datetime | None:
        """When a process last served this store; None if never."""
        with self._database.reading() as session:
            row = session.get(HeartbeatRow, 1)
            return None if row is None else row.time
