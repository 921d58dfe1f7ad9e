import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from transfer.errors import ConfigError, UsageError
from transfer.files.toml import Located, Settings, load


class Policy(Settings):
    max_epsilon: float = Field(gt=0)
    tuning: int = 1
    tasks: tuple[str, ...] = ()


class Peer(Settings):
    host: str
    mode: Literal["fast", "slow"] = "fast"


class Everything(Settings):
    policy: Policy
    name: str = "x"
    data: Located = Path("data.jsonl")
    peers: tuple[Peer, ...] = ()
    named: dict[str, Peer] = Field(default_factory=dict)
    extra: Peer | None = None


@pytest.fixture
def refused(tmp_path: Path):
    def refuse(text: str) -> str:
        path = tmp_path / "client.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path, Everything)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    return refuse


def test_a_file_becomes_a_frozen_model_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text('name = "hospital"\n[policy]\nmax_epsilon = 8\ntasks = ["reviews"]\n')
    settings = load(path, Everything)
    assert settings.name == "hospital"
    assert settings.policy == Policy(max_epsilon=8.0, tasks=("reviews",))
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other"


def test_epsilon_may_be_infinite(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text("[policy]\nmax_epsilon = inf\n")
    assert math.isinf(load(path, Everything).policy.max_epsilon)


def test_a_relative_path_starts_at_the_file_and_an_absolute_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text('data = "shard/train.jsonl"\n[policy]\nmax_epsilon = 1\n')
    assert load(path, Everything).data == tmp_path / "shard/train.jsonl"
    path.write_text('data = "/srv/train.jsonl"\n[policy]\nmax_epsilon = 1\n')
    assert load(path, Everything).data == Path("/srv/train.jsonl")


def test_a_relative_default_starts_at_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text("[policy]\nmax_epsilon = 1\n")
    assert load(path, Everything).data == tmp_path / "data.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[policy]\nmax_epsilon = 1\ntunning = 2\n",
            "unknown key 'tunning' in [policy]; did you mean 'tuning'?",
        ),
        (
            "[policy]\nmax_epsilom = 1\n",
            "unknown key 'max_epsilom' in [policy]; did you mean 'max_epsilon'? (and 1 more)",
        ),
        ("nmae = 'a'\n[policy]\nmax_epsilon = 1\n", "unknown key 'nmae'; did you mean 'name'?"),
        ("[polcy]\nmax_epsilon = 1\n", "unknown key 'polcy'; did you mean 'policy'? (and 1 more)"),
        (
            "[policy]\nmax_epsilon = 1\n[[peers]]\nhost = 'a'\n[[peers]]\nhots = 'b'\nhost = 'c'\n",
            "unknown key 'hots' in [peers.1]; did you mean 'host'?",
        ),
        (
            "[policy]\nmax_epsilon = 1\n[named.first]\nhost = 'a'\nmoed = 'fast'\n",
            "unknown key 'moed' in [named.first]; did you mean 'mode'?",
        ),
        (
            "[policy]\nmax_epsilon = 1\n[extra]\nhost = 'a'\nmoed = 'fast'\n",
            "unknown key 'moed' in [extra]; did you mean 'mode'?",
        ),
        (
            "[policy]\nmax_epsilon = 1\nzzz = 2\n",
            "unknown key 'zzz' in [policy] (keys: max_epsilon, tasks, tuning)",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(refused, text: str, message: str) -> None:
    assert refused(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[policy]\nmax_epsilon = -1\n", "[policy] max_epsilon: input should be greater than 0, got -1"),
        ("[policy]\nmax_epsilon = '8'\n", "[policy] max_epsilon: input should be a valid number, got '8'"),
        ("[policy]\nmax_epsilon = true\n", "[policy] max_epsilon: input should be a valid number, got True"),
        ("name = 3\n[policy]\nmax_epsilon = 1\n", "name: input should be a valid string, got 3"),
        ("data = 3\n[policy]\nmax_epsilon = 1\n", "data: input should be a valid string, got 3"),
        ("", "policy: missing; this key is required"),
        ("[policy]\n", "[policy] max_epsilon: missing; this key is required"),
        ("policy = 3\n", "policy: input should be an object, got 3"),
    ],
)
def test_a_wrong_value_names_file_table_key_and_value(refused, text: str, message: str) -> None:
    assert refused(text) == message


def test_a_file_that_is_not_toml_names_the_line(refused) -> None:
    assert refused("[policy]\nmax_epsilon 8\n").startswith("not TOML: ")
    assert "line 2" in refused("[policy]\nmax_epsilon 8\n")


def test_a_missing_file_and_a_binary_file_are_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    with pytest.raises(ConfigError) as caught:
        load(path, Everything)
    assert str(caught.value) == f"{path}: cannot read the settings file: No such file or directory"
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError) as caught:
        load(path, Everything)
    assert str(caught.value) == f"{path}:1: not UTF-8: save the file as UTF-8"


def test_a_rule_of_a_value_behind_the_file_is_told_with_the_file(tmp_path: Path) -> None:
    class Ruled(Settings):
        name: str

        def model_post_init(self, _context: object) -> None:
            raise UsageError(f"name {self.name!r} breaks a rule")

    path = tmp_path / "client.toml"
    path.write_text("name = 'a'\n")
    with pytest.raises(ConfigError) as caught:
        load(path, Ruled)
    assert str(caught.value) == f"{path}: name 'a' breaks a rule"


@given(key=st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda key: key not in Policy.model_fields))
def test_no_unknown_key_is_ever_accepted(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("settings") / "client.toml"
    path.write_text(f"[policy]\nmax_epsilon = 1\n{key} = 1\n")
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        load(path, Everything)
