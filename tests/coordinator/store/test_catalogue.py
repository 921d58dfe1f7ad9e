"""The catalogue: proxies, and versions of prompts that count from one."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.store.store import Store
from tests.coordinator.store.stores import build, proxy
from transfer.errors import (
    AlreadyExistsError,
    NotFoundError,
    UsageError,
)
from transfer.files.atomic import FileRef
from transfer.protocol.signing import Envelope


def test_a_proxy_comes_back_as_it_was_added(store: Store) -> None:
    store.add_proxy(proxy("first"))
    store.add_proxy(proxy("second"))

    assert store.proxy("first") == proxy("first")
    assert [found.name for found in store.proxies()] == ["second", "first"]
    with pytest.raises(AlreadyExistsError, match="proxy 'first' exists already"):
        store.add_proxy(proxy("first"))
    with pytest.raises(NotFoundError, match="no proxy 'third'"):
        store.proxy("third")


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
