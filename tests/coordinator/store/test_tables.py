"""The schema is what the tables say, through every migration."""

from contextlib import closing

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from coordinator.store.columns import Base, UtcTime
from coordinator.store.migrations import config
from coordinator.store.store import Store
from tests.coordinator.store.stores import NOW, build, digest, proxy


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
