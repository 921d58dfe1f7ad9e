"""The store's contract; every test that takes `store` runs on SQLite and on PostgreSQL."""

import multiprocessing
from contextlib import closing
from datetime import timedelta

import pytest

from coordinator.store.store import Store
from tests.coordinator.store.stores import (
    NOW,
    build,
    digest,
    proxy,
)
from transfer.errors import (
    UsageError,
)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "a" * 64, "é", "a\n"])
def test_impossible_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="client name"):
        store.invite(name, digest("t"), NOW)
    with pytest.raises(UsageError, match="prompt name"):
        store.publish(name, build)
    with pytest.raises(UsageError, match="campaign name"):
        store.add_campaign(name, "{}")


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
