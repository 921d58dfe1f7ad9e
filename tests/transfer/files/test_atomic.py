"""Files are there whole or not at all, and known by size and digest."""

import hashlib
import stat
from pathlib import Path

import pytest

from transfer.errors import AlreadyExistsError, VerificationError
from transfer.files.atomic import FileRef, appearing, replace, write_new


def test_a_file_is_known_by_its_digest_wherever_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    ref = FileRef.of_file(tmp_path / "a")
    assert ref == FileRef.of_bytes("a", b"content")
    assert (ref.size, ref.digest) == (7, hashlib.sha256(b"content").hexdigest())


@pytest.mark.parametrize("path", ["", "../a", "a/b", "/a", "."])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(VerificationError, match="is not a plain file name"):
        FileRef.of_bytes(path, b"")


def test_a_new_file_is_its_owners_and_never_written_over(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"first")
    with pytest.raises(AlreadyExistsError):
        write_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_replacing_leaves_one_file(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        replace(tmp_path / "state", content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("state", b"second")]


def test_a_directory_that_was_not_finished_does_not_appear(tmp_path: Path) -> None:
    def broken_off() -> None:
        with appearing(tmp_path / "made") as draft:
            (draft / "a").write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_off()
    assert not (tmp_path / "made").exists()
    with appearing(tmp_path / "made") as draft:
        (draft / "a").write_bytes(b"whole")
    assert (tmp_path / "made" / "a").read_bytes() == b"whole"
