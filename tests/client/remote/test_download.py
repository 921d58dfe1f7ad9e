"""Files come whole or not at all, and go on where they broke off."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.remote.coordinator import Remote
from client.remote.download import ATTEMPTS, PartialFile, resumed, staged
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from promptferry.v1 import service_pb2
from tests.client.remote.network import Cable, Hostile
from transfer.errors import (
    DeadlineError,
    PromptferryError,
    UnavailableError,
    UsageError,
    VerificationError,
)
from transfer.files.atomic import FileRef

CONTENT = random.Random(0).randbytes(700_000)


@pytest.fixture
def weights(delivery, tmp_path: Path) -> FileRef:
    """The one file of a proxy `tiny`."""
    directory = tmp_path / "offered"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(CONTENT)
    return delivery.add_proxy("tiny", directory).files[0]


def test_a_file_comes_whole_and_is_told_about(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = remote.download("proxies/tiny", weights, tmp_path, lambda done, total: told.append((done, total)))

    assert path == tmp_path / "model.safetensors"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_download_goes_on_wherever_it_was_cut(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    generator = random.Random(1)
    for number in range(40):
        into = tmp_path / str(number)
        into.mkdir()
        offset = generator.choice([0, 1, len(CONTENT) - 1, len(CONTENT), generator.randrange(len(CONTENT))])
        if offset:
            PartialFile(into, weights).append(CONTENT[:offset])
        told: list[int] = []
        path = remote.download("proxies/tiny", weights, into, lambda done, _, told=told: told.append(done))
        assert path.read_bytes() == CONTENT
        assert [item.name for item in into.iterdir()] == ["model.safetensors"]
        assert offset == len(CONTENT) or offset < told[0] <= offset + 65_536


def test_a_cable_that_keeps_breaking_delays_and_nothing_else(
    delivery, weights: FileRef, tmp_path: Path
) -> None:
    generator = random.Random(2)
    cuts: list[int | None] = [generator.randrange(80_000, 300_000) for _ in range(4)]
    cable = Cable(delivery.port, cuts)
    told: list[int] = []
    with Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=20) as remote:
        path = remote.download("proxies/tiny", weights, tmp_path, lambda done, _: told.append(done))
    cable.close()

    assert path.read_bytes() == CONTENT
    assert len(cuts) < 4
    assert told == sorted(set(told))


def test_a_broken_connection_leaves_a_part_and_no_file(delivery, weights: FileRef, tmp_path: Path) -> None:
    cable = Cable(delivery.port, [200_000])
    into = tmp_path / "into"
    into.mkdir()

    def close(_done: int, _total: int) -> None:
        cable.close()

    with (
        Remote(cable.address, delivery.paths.ca.read_bytes(), timeout_s=5) as remote,
        pytest.raises(UnavailableError, match="no coordinator answers at"),
    ):
        remote.download("proxies/tiny", weights, into, close)
    assert [path.suffix for path in into.iterdir()] == [".part"]
    with Remote(delivery.address, delivery.paths.ca.read_bytes()) as remote:
        assert remote.download("proxies/tiny", weights, into).read_bytes() == CONTENT


def test_other_bytes_than_announced_are_thrown_away(
    delivery, remote: Remote, weights: FileRef, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (delivery.directory / "offered" / weights.path).write_bytes(b"x" + CONTENT[1:])

    with pytest.raises(
        VerificationError, match=r"model\.safetensors: received 700000 bytes with SHA-256 .* were announced"
    ):
        remote.download("proxies/tiny", weights, into)
    assert list(into.iterdir()) == []


def test_a_part_that_went_bad_is_thrown_away(remote: Remote, weights: FileRef, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    PartialFile(into, weights).append(b"y" * 1000)
    with pytest.raises(VerificationError):
        remote.download("proxies/tiny", weights, into)
    assert remote.download("proxies/tiny", weights, into).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(UnavailableError("gone"), ATTEMPTS), (DeadlineError("late"), 1)],
    ids=["unavailable", "late"],
)
def test_attempts_in_a_row_that_bring_nothing_end_a_download(
    tmp_path: Path, error: PromptferryError, attempts: int
) -> None:
    content, offsets = b"12345", list[int]()

    def chunks(offset: int) -> Iterator[bytes]:
        offsets.append(offset)
        if offset < 3:
            yield content[offset : offset + 1]
        raise error

    with pytest.raises(type(error), match=str(error)):
        resumed(chunks, FileRef.of_bytes("f", content), tmp_path)
    assert offsets == [0, 1, 2, *[3] * attempts]
    finished = resumed(lambda offset: [content[offset:]], FileRef.of_bytes("f", content), tmp_path)
    assert finished.read_bytes() == content


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_way_to_cut_a_file_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("cut")
    bounds = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    for start, end in pairwise(bounds):
        PartialFile(directory, FileRef.of_bytes("f", content)).append(content[start:end])
    assert PartialFile(directory, FileRef.of_bytes("f", content)).finish().read_bytes() == content


def test_more_bytes_than_announced_are_refused_at_once(tmp_path: Path) -> None:
    part = PartialFile(tmp_path, FileRef.of_bytes("f", b"1234"))
    part.append(b"123")
    with pytest.raises(VerificationError, match="received more than the announced 4 bytes"):
        part.append(b"45")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_ca_is_told_apart_from_silence(delivery, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    with (
        Remote(delivery.address, other.ca.read_bytes()) as remote,
        pytest.raises(VerificationError, match=r"is not signed by the given CA$"),
    ):
        remote.proxy("tiny")


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/b", "..", ".hidden", "", "a\0b", "x" * 300])
def test_a_file_name_that_leads_elsewhere_is_refused(hostile: tuple[Hostile, Remote], path: str) -> None:
    service, remote = hostile
    file = service_pb2.FileRef(path=path, size=1, digest="a" * 64)
    service.version = service_pb2.PromptVersion(name="prompts/x/versions/1", files=[file])
    with pytest.raises(VerificationError, match="is not a plain file name"):
        remote.prompt_version("x")


def test_two_processes_do_not_mix_their_downloads(tmp_path: Path) -> None:
    with (
        staged(tmp_path / "got", "abc"),
        pytest.raises(UnavailableError, match="another process is downloading this"),
        staged(tmp_path / "got", "abc"),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file"), staged(tmp_path / "file" / "got", "abc"):
        pass
