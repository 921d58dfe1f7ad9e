"""A directory's name is not a URL: store and Flower's database lie in it, whatever its characters."""

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from coordinator.flower.federation import Federation
from coordinator.home import settings as config
from coordinator.home.directory import make
from coordinator.home.pki import PkiPaths
from coordinator.network.https_server import LinkSettings
from coordinator.store.database import sqlite_url
from coordinator.store.store import Store

ODD = "-what? now%41#[0-9]*'\"\\ä\u3000&?mode=memory"


def test_a_coordinator_keeps_everything_in_its_directory(tmp_path: Path) -> None:
    home = tmp_path / ODD
    make(home, {("target", "source"): str(tmp_path / f"target {ODD}")}, [])
    read = config.read(home)
    with closing(Store.open(read.store.url)) as store:
        assert store.clients() == []
    assert (home / "store.db").is_file()
    paths = PkiPaths(**read.pki.model_dump())
    link = LinkSettings("127.0.0.1", 0, paths.certificate, paths.key, paths.ca, read.flower.database)
    with Federation(link) as federation:
        assert federation.online() == {}
    assert (home / "flower.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [ODD]


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20))
def test_the_url_of_a_file_names_that_file(name: str) -> None:
    path = f"/srv/{name}/store.db"
    assert make_url(sqlite_url(Path(path))).database == str(Path(path))
    assert make_url(config.StoreSettings(url=sqlite_url(Path(path))).url).query == {}


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("sqlite:///store.db", "store.db", {}),
        ("sqlite:///what%3Fnow/100%25.db", "what?now/100%.db", {}),
        ("sqlite:///store.db?timeout=3", "store.db", {"timeout": "3"}),
        ("sqlite:////srv/store.db", "/srv/store.db", {}),
    ],
)
def test_a_url_in_the_settings_starts_at_its_directory(
    tmp_path: Path, url: str, path: str, query: dict[str, str]
) -> None:
    home = tmp_path / "c?d"
    make(home, {("target", "source"): "x"}, [])
    file = home / config.FILE
    file.write_text(file.read_text().replace("sqlite:///store.db", url))
    found = make_url(config.read(home).store.url)
    assert (found.database, dict(found.query)) == (str((home / path).resolve()), query)
