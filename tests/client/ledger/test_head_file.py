"""The signed head beside a ledger: missing, old, torn, moved, or signed by another."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.head_file import HeadFile
from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from tests.client.ledger.forgeries import FREE, NAME, UNLIMITED, edit, fill, flipped, head_file
from tests.client.ledgers import KEY, at
from transfer.errors import LedgerError


def test_a_missing_head_file_is_noticed(path: Path):
    at(path).head.unlink()
    with pytest.raises(LedgerError, match=r"ledger\.sqlite\.head is missing .*: mount its disk, or restore"):
        Ledger.open(at(path))


@pytest.mark.parametrize("content", ["", "\n", f"\n23 {'0' * 64}\n", "nonsense"])
def test_a_head_file_without_a_signed_head_is_noticed(path: Path, content: str):
    at(path).head.write_text(content)
    with pytest.raises(LedgerError, match=r"has no signed head: .*ledger declare-loss") as noticed:
        Ledger.open(at(path))
    assert "\n" not in str(noticed.value)


def moved(path: Path) -> None:
    """The newest head's signature under another number."""
    newest = head_file(path).heads()[-1]
    at(path).head.write_text(f"\n24 {newest.digest} {newest.signature}\n")


def of_another_ledger(path: Path) -> None:
    """The head of a ledger of the same owner, as long and with the same newest digest."""
    newest = head_file(path).heads()[-1]
    replace(head_file(path), genesis="0" * 64).start(newest.number, newest.digest)


def of_another_owner(path: Path) -> None:
    newest = head_file(path).heads()[-1]
    head_file(path, Ed25519PrivateKey.generate()).start(newest.number, newest.digest)


@pytest.mark.parametrize("forge", [moved, of_another_ledger, of_another_owner, flipped])
def test_a_head_that_the_owner_did_not_sign_for_this_ledger_is_noticed(
    path: Path, forge: Callable[[Path], None]
):
    forge(path)
    with pytest.raises(LedgerError, match="not signed by this client's key for this ledger: ") as noticed:
        Ledger.open(at(path))
    assert "\n" not in str(noticed.value)


def test_a_restored_directory_is_noticed_by_a_head_on_another_disk_and_by_no_other(tmp_path: Path):
    disk, apart = tmp_path / "disk", tmp_path / "apart"
    apart.mkdir()
    for away, noticed in (
        (apart / "ledger.head", pytest.raises(LedgerError, match="cut")),
        (None, nullcontext()),
    ):
        disk.mkdir()
        place = LedgerPlace(disk / NAME, KEY, away)
        with Ledger.create(place) as ledger:
            fill(ledger, range(3))
        shutil.copytree(disk, tmp_path / "backup")
        with Ledger.open(place) as ledger:
            fill(ledger, range(3, 4))
        shutil.rmtree(disk)
        (tmp_path / "backup").rename(disk)
        with noticed:
            Ledger.open(place).close()
        shutil.rmtree(disk)


def test_a_head_can_be_moved_to_another_disk_which_must_then_be_mounted(path: Path, tmp_path: Path):
    (tmp_path / "apart").mkdir()
    place = LedgerPlace(path, KEY, tmp_path / "apart" / "head")
    with pytest.raises(LedgerError, match=r"apart/head is missing .*: mount its disk"):
        Ledger.open(place)
    at(path).head.rename(place.head)
    with Ledger.open(place) as ledger:
        fill(ledger, range(10, 11))
    assert not at(path).head.exists()
    assert head_file(path).heads() == []
    assert HeadFile(place.head, "", KEY).heads()[-1].number == 25


@pytest.mark.parametrize("torn", ["", "\n24", "\n24 abcd", "\nnonsense \xff\n"])
def test_a_head_file_left_behind_or_torn_by_a_crash_is_caught_up(path: Path, torn: str):
    head = at(path).head
    behind = "".join(head.read_text().splitlines(keepends=True)[:-2])
    head.write_bytes(behind.encode() + torn.encode("latin-1"))
    for _ in range(2):
        with Ledger.open(at(path)) as ledger:
            assert ledger.verify() == 23
    edit(path, "DELETE FROM chain WHERE number = 23", "DELETE FROM replies WHERE entry = 23")
    with pytest.raises(LedgerError, match=r"has 22 entries, .* records 23"):
        Ledger.open(at(path))


def test_a_crash_between_the_first_head_and_its_ledger_is_made_good_by_creating_again(path: Path):
    Ledger.create(at(path.with_name("new"))).close()
    path.with_name("new").unlink()
    with Ledger.create(at(path.with_name("new"))) as ledger:
        assert ledger.verify() == 0


def test_an_empty_ledger_without_its_head_is_noticed(tmp_path: Path):
    Ledger.create(at(tmp_path / NAME)).close()
    at(tmp_path / NAME).head.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        Ledger.open(at(tmp_path / NAME))


def test_nothing_is_granted_while_the_head_cannot_be_written(path: Path):
    with Ledger.open(at(path)) as ledger:
        [data_set] = ledger.data_sets()
        at(path).head.unlink()
        at(path).head.mkdir()
        with pytest.raises(LedgerError, match="the ledger cannot be used: Is a directory"):
            ledger.reserve(data_set, "r99", FREE, UNLIMITED)
