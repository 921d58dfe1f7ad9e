"""Revisions of the database schema; opening a store applies them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from transfer.errors import ConfigError


def is_current(connection: Connection) -> bool:
    """Return whether the database is at the newest revision."""
    return _revision(connection) == _script(connection).get_current_head()


def upgrade(connection: Connection, shown: str) -> None:
    """Upgrade an empty or older database to the newest revision, inside the caller's transaction.

    Args:
        connection: connection in a transaction with the write lock.
        shown: name of the database for messages.

    Raises:
        ConfigError: this version does not know the revision, or the database belongs to another program.
    """
    revision = _revision(connection)
    tables = [name for name in inspect(connection).get_table_names() if name != "alembic_version"]
    if revision is None and tables:
        raise ConfigError(
            f"store {shown}: holds foreign tables ({', '.join(tables[:3])}): use an empty database"
        )
    known = {script.revision for script in _script(connection).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigError(
            f"store {shown}: schema revision {revision!r} is unknown to this version: upgrade promptferry"
        )
    command.upgrade(config(connection), "head")


def config(connection: Connection) -> Config:
    """Return Alembic's settings for one connection; the revisions are beside this file."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _script(connection: Connection) -> ScriptDirectory:
    return ScriptDirectory.from_config(config(connection))
