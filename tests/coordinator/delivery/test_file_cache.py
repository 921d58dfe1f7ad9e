"""Files are read from the store once."""

import pytest

from coordinator.delivery.file_cache import FileCache
from tests.coordinator.delivery.calls import TARGET, VECTORS, received
from transfer.files.atomic import FileRef


def test_a_file_is_read_from_the_store_once_and_a_damaged_copy_is_mended(
    delivery, prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, inner = [], delivery.store.prompt_file
    monkeypatch.setattr(delivery.store, "prompt_file", lambda *given: read.append(given) or inner(*given))
    version = delivery.publish("sst2", TARGET, VECTORS)
    file = next(file for file in version.files if file.path == "adapter_config.json")
    for _ in range(3):
        content = b"".join(received(prompts.DownloadPromptFile, version.name, file.path))
        assert FileRef.of_bytes(file.path, content) == file
    assert len(read) == 1
    copy = delivery.directory / "served" / file.digest
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.write_bytes(b"{}")
    cache = FileCache(copy.parent)  # as a process that starts anew
    assert cache.path(file, lambda: content).read_bytes() == content
    copy.unlink()
    assert b"".join(received(prompts.DownloadPromptFile, version.name, file.path)) == content
