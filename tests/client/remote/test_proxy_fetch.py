"""A proxy is fetched whole and verified, or not at all."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.remote.coordinator import Remote
from client.remote.proxy_fetch import fetch_proxy
from coordinator.home import pki
from tests.client.remote.network import Cable
from transfer.errors import (
    AlreadyExistsError,
    UnavailableError,
    VerificationError,
)
from transfer.model_ref import ModelRef


def test_a_proxy_is_fetched_verified_and_whole(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    record = delivery.add_proxy("tiny", tiny_causal)
    told: list[tuple[int, int]] = []
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()

    path = fetch_proxy(remote, "tiny", key, tmp_path / "got", lambda done, total: told.append((done, total)))

    assert ModelRef.of_directory("tiny", path) == record.model
    total = sum(file.size for file in record.files)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(AlreadyExistsError, match="got exists already"):
        fetch_proxy(remote, "tiny", key, path)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"proxy": {"name": "other", "digest": "a" * 64}}, "is about 'other'"),
        ({"proxy": {"name": "tiny", "digest": "a" * 64}}, "signed is aaaaaaaaaaaaaaaa"),
        ({"proxy": None}, "proxy 'tiny': signed statement cannot be read: proxy: "),
        ({"proxy": {"name": "tiny", "digest": "short"}}, "proxy.digest: .*, got 'short'"),
    ],
)
def test_a_proxy_that_is_not_what_was_signed_is_not_kept(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path, told: dict[str, object], message: str
) -> None:
    delivery.add_proxy("tiny", tiny_causal, **told)
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    into = tmp_path / "into" / "got"

    with pytest.raises(VerificationError, match=message):
        fetch_proxy(remote, "tiny", key, into)
    assert not into.parent.exists() or list(into.parent.iterdir()) == []


def test_a_proxy_of_another_publisher_is_not_downloaded(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    delivery.add_proxy("tiny", tiny_causal)
    with pytest.raises(VerificationError, match="signed by key"):
        fetch_proxy(remote, "tiny", Ed25519PrivateKey.generate().public_key(), tmp_path / "into" / "got")
    assert not (tmp_path / "into").exists()


def test_every_tampered_file_of_a_proxy_is_found(
    delivery, remote: Remote, tiny_causal: Path, tmp_path: Path
) -> None:
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    for index, original in enumerate(sorted(tiny_causal.iterdir())):
        copy = tmp_path / f"copy-{index}"
        copy.mkdir()
        for path in tiny_causal.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        delivery.add_proxy(f"tiny-{index}", copy)
        content = bytearray(original.read_bytes())
        content[len(content) // 2] ^= 1
        (copy / original.name).write_bytes(content)

        into = tmp_path / f"into-{index}"
        with pytest.raises(VerificationError, match=re.escape(original.name)):
            fetch_proxy(remote, f"tiny-{index}", key, into / "got")
        assert list(into.iterdir()) == []


def test_an_interrupted_fetch_is_invisible_and_goes_on(delivery, tiny_causal: Path, tmp_path: Path) -> None:
    delivery.add_proxy("tiny", tiny_causal)
    key = pki.load_publisher(delivery.paths.publisher_key).public_key()
    cable = Cable(delivery.port, [60_000])
    into = tmp_path / "into" / "got"
    with (
        Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=5) as remote,
        pytest.raises(UnavailableError),
    ):
        fetch_proxy(remote, "tiny", key, into, lambda _done, _total: cable.close())
    assert not into.exists()
    (stage,) = into.parent.iterdir()
    assert any(path.stat().st_size for path in stage.iterdir())

    told: list[int] = []
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        fetch_proxy(remote, "tiny", key, into, lambda done, _: told.append(done))
    assert list(into.parent.iterdir()) == [into]
