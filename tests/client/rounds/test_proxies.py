import shutil
from pathlib import Path

import pytest

from client.rounds.proxies import Proxies
from transfer.errors import ModelError, NotFoundError, VerificationError
from transfer.model_ref import ModelRef


def refuse(name: str, into: Path) -> None:
    raise AssertionError(f"{name} was fetched into {into}")


@pytest.fixture
def ref(tiny_causal: Path) -> ModelRef:
    return ModelRef.of_directory("tiny", tiny_causal)


def test_a_proxy_is_found_by_digest_whatever_its_directory_is_called(
    tmp_path: Path, tiny_causal, ref
) -> None:
    shutil.copytree(tiny_causal, tmp_path / "made-here")
    model = Proxies(tmp_path, refuse).model(ref)
    assert model.ref == ref
    assert model.causal


def test_a_proxy_is_loaded_once_and_kept_until_another_is_asked_for(
    tmp_path: Path, tiny_causal, tiny_masked, ref
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_causal)
    (tmp_path / "other").symlink_to(tiny_masked)
    proxies = Proxies(tmp_path)
    first = proxies.model(ref)
    assert proxies.model(ref) is first
    assert proxies.model(ModelRef.of_directory("other", tiny_masked)).ref.name == "other"
    assert proxies.model(ref) is not first


def test_a_missing_proxy_is_fetched_under_its_name(tmp_path: Path, tiny_causal, ref) -> None:
    asked: list[tuple[str, Path]] = []

    def fetch(name: str, into: Path) -> None:
        asked.append((name, into))
        shutil.copytree(tiny_causal, into)

    proxies = Proxies(tmp_path / "proxies", fetch)
    assert proxies.model(ref).ref == ref
    assert proxies.model(ref).ref == ref
    assert asked == [("tiny", tmp_path / "proxies" / "tiny")]


def test_a_newer_proxy_of_the_same_name_does_not_replace_the_older(
    tmp_path: Path, tiny_causal, tiny_masked, ref
) -> None:
    shutil.copytree(tiny_masked, tmp_path / "tiny")
    proxies = Proxies(tmp_path, lambda _name, into: shutil.copytree(tiny_causal, into))
    assert proxies.model(ref).ref == ref
    assert [path.name for path in proxies.directories()] == ["tiny", f"tiny-{ref.digest[:12]}"]
    assert Proxies(tmp_path, refuse).model(ModelRef.of_directory("tiny", tiny_masked)).causal is False


def test_what_was_fetched_must_be_what_was_asked_for(tmp_path: Path, tiny_masked, ref) -> None:
    proxies = Proxies(tmp_path, lambda _name, into: shutil.copytree(tiny_masked, into))
    with pytest.raises(VerificationError, match=f"asked for {ref.digest[:16]}"):
        proxies.model(ref)


def test_without_a_way_to_fetch_a_missing_proxy_is_named(tmp_path: Path, ref) -> None:
    with pytest.raises(NotFoundError, match=f"proxy 'tiny' with digest {ref.digest[:16]}… is not in"):
        Proxies(tmp_path).model(ref)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/x", "", ".hidden", "a/b", "A"])
def test_a_name_from_the_network_never_leads_out_of_the_directory(tmp_path: Path, ref, name: str) -> None:
    with pytest.raises(ModelError, match="proxy name"):
        Proxies(tmp_path / "proxies", refuse).model(ModelRef(name, ref.digest))
    assert list(tmp_path.iterdir()) == []


def test_drafts_and_other_files_are_no_proxies(tmp_path: Path, tiny_causal) -> None:
    shutil.copytree(tiny_causal, tmp_path / ".tiny.part")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    assert Proxies(tmp_path).directories() == []
    assert Proxies(tmp_path / "absent").directories() == []
