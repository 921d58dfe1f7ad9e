import pytest

from coordinator.home.settings import FILE, example, read
from transfer.errors import ConfigError
from transfer.files.toml import filled


def write(directory, **values):
    pairs = {tuple(key.split("__")): value for key, value in values.items()}
    (directory / FILE).write_text(filled(example(), pairs), encoding="utf-8")
    return directory


def test_the_example_is_a_whole_settings_file(tmp_path):
    config = read(write(tmp_path))
    assert config.flower.port == 9191
    assert config.serve.poll_s == 0.5


def test_relative_paths_start_at_the_file(tmp_path):
    (tmp_path / "target").mkdir()
    config = read(write(tmp_path))
    assert config.store.url == f"sqlite:///{tmp_path}/store.db"
    assert config.flower.database == tmp_path / "flower.db"
    assert config.pki.secret == tmp_path / "secret"
    assert config.target.source == str(tmp_path / "target")
    assert config.target.name == "target"


def test_a_target_that_is_no_directory_is_a_name_in_the_model_cache(tmp_path):
    config = read(write(tmp_path, target__source="openai/gpt2"))
    assert config.target.source == "openai/gpt2"
    assert config.target.name == "openai/gpt2"


def test_a_given_target_name_wins(tmp_path):
    assert read(write(tmp_path, target__name="mine")).target.name == "mine"


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me@host/db", "sqlite:////srv/store.db", "sqlite:///:memory:"]
)
def test_absolute_store_urls_are_left_alone(tmp_path, url):
    assert read(write(tmp_path, store__url=url)).store.url == url


def test_every_setting_is_explained_by_a_comment_above_its_group():
    lines = example().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("["):
            assert lines[number + 1].startswith("# "), line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("port = 9191", "prot = 9191", r"unknown key 'prot' in \[flower\]; did you mean 'port'"),
        ("port = 9191", "port = 70000", r"\[flower\] port: .* got 70000"),
        ("poll_s = 0.5", 'poll_s = "often"', r"\[serve\] poll_s"),
        ('secret = "secret"', "", r"\[pki\] secret: missing"),
        ("[serve]", "[server]", "unknown key 'server'; did you mean 'serve'"),
        ("[serve]", "[serve", "not TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_table_and_key(tmp_path, old, new, words):
    (tmp_path / FILE).write_text(example().replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as caught:
        read(tmp_path)
    assert FILE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_none_yet_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigError, match=r"promptferry-coordinator init"):
        read(tmp_path / "nowhere")
