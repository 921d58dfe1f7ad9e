"""What tests of this room share."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from coordinator.store.store import Store
from tests.coordinator.store.stores import NOW, POSTGRES, digest, needs_postgres


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


@pytest.fixture
def opened(store: Store) -> Store:
    """The store with an open round of two clients."""
    for name in ("clinic-a", "clinic-b"):
        store.invite(name, digest(name), NOW + timedelta(days=1))
        store.enrol(name, name, name.encode(), b"signing " + name.encode(), NOW)
    store.add_campaign("one", "{}")
    store.open_round("one", 1, b"start", b"roster")
    return store
