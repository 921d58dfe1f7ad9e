import math
import tomllib
from pathlib import Path

import pytest

from client.home import settings as config
from client.rounds.policy import Policy
from transfer.errors import ConfigError
from transfer.files.toml import filled
from transfer.privacy import Budget

MINIMAL = """
[client]
name = "hospital-a"
[data]
path = "train.jsonl"
declared_records = 1000
[policy]
max_epsilon = 8
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "client.toml").write_text(MINIMAL)
    return tmp_path


def test_the_shortest_settings_allow_nothing_and_default_to_a_small_delta(directory: Path) -> None:
    settings = config.read(directory)
    assert settings.data.path == directory / "train.jsonl"
    assert settings.ledger_file == directory / "ledger.db"
    assert settings.limits() == Policy(Budget(8.0, 1e-6), declared_units=1000, min_cohort=3)


def test_delta_falls_with_the_number_of_declared_records(directory: Path) -> None:
    text = MINIMAL.replace("1000", "10000000")
    (directory / "client.toml").write_text(text)
    assert config.read(directory).limits().budget.delta == 1e-8


def test_declaring_users_makes_them_the_unit_and_their_number_bounds_delta(directory: Path) -> None:
    text = MINIMAL.replace("declared_records = 1000", "declared_users = 10000000")
    (directory / "client.toml").write_text(text)
    settings = config.read(directory)
    assert settings.data.unit == "user"
    assert settings.limits() == Policy(Budget(8.0, 1e-8), 10_000_000, min_cohort=3, unit="user")


@pytest.mark.parametrize(
    ("declared", "has"), [("", "neither"), ("declared_records = 10\ndeclared_users = 5", "both")]
)
def test_exactly_one_unit_is_declared(directory: Path, declared: str, has: str) -> None:
    (directory / "client.toml").write_text(MINIMAL.replace("declared_records = 1000", declared))
    with pytest.raises(ConfigError, match=rf"\[data\] needs declared_records, or .*; it has {has}$"):
        config.read(directory)


def test_every_limit_reaches_the_policy(directory: Path) -> None:
    limits = """max_delta = 1e-5
tasks = ["reviews"]
proxies = ["*"]
min_noise_multiplier = 0.7
max_sample_rate = 0.5
max_steps = 100
max_rounds = 5
hours = [22, 6]
min_cohort = 2
"""
    (directory / "client.toml").write_text(MINIMAL + limits)
    expected = Policy(Budget(8.0, 1e-5), 1000, ("reviews",), ("*",), 0.7, 0.5, 100, 5, (22, 6), 2)
    assert config.read(directory).limits() == expected


def test_the_shipped_example_is_valid_and_says_every_default(tmp_path: Path) -> None:
    (tmp_path / "client.toml").write_text(config.example())
    said = tomllib.loads(config.example())
    settings = config.read(tmp_path)
    bare = {"client": said["client"], "data": said["data"], "policy": {"max_epsilon": 8.0}}
    (tmp_path / "client.toml").write_text(
        filled(
            '[client]\nname = ""\n[data]\npath = ""\ndeclared_records = 1\n[policy]\nmax_epsilon = 1\n',
            {
                (table, key): value
                for table, keys in bare.items()
                for key, value in keys.items()
                if key != "directory"
            },
        )
    )
    assert config.read(tmp_path) == settings


@pytest.mark.parametrize("table", ["client", "data", "policy", "daemon"])
def test_the_shipped_example_names_every_setting(table: str) -> None:
    models = {
        "client": config.ClientSettings,
        "data": config.DataSettings,
        "policy": config.PolicySettings,
        "daemon": config.DaemonSettings,
    }
    section = config.example().partition(f"[{table}]\n")[2].partition("\n[")[0]
    keys = {line.removeprefix("# ").partition(" = ")[0] for line in section.splitlines() if " = " in line}
    assert keys >= set(models[table].model_fields)


def test_filling_the_example_switches_commented_settings_on_and_keeps_the_comments() -> None:
    values = {("client", "name"): 'a "b"', ("policy", "max_epsilon"): math.inf, ("policy", "hours"): [1, 2]}
    text = filled(config.example(), values)
    said = tomllib.loads(text)
    assert said["client"]["name"] == 'a "b"'
    assert said["policy"]["max_epsilon"] == math.inf
    assert said["policy"]["hours"] == [1, 2]
    comments = [
        line for line in config.example().splitlines() if line.startswith("#") and "hours =" not in line
    ]
    assert [line for line in text.splitlines() if line.startswith("#")] == comments


def test_filling_with_none_leaves_a_setting_out() -> None:
    values = {("data", "declared_records"): None, ("data", "declared_users"): 50, ("policy", "hours"): None}
    text = filled(config.example(), values)
    said = tomllib.loads(text)
    assert set(said["data"]) == {"path", "declared_users"}
    assert "hours" not in said["policy"]
    assert "# declared_records = 1000" in text.splitlines()
    assert "# hours = [22, 6]" in text.splitlines()


def test_filling_what_the_example_does_not_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[policy\] max_epsilom is not in the example"):
        filled(config.example(), {("policy", "max_epsilom"): 1})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_epsilon", "max_epsilom", "unknown key 'max_epsilom' in [policy]; did you mean 'max_epsilon'?"),
        (
            "[policy]\nmax",
            "[policy]\ntaks = []\nmax",
            "unknown key 'taks' in [policy]; did you mean 'tasks'?",
        ),
        ("max_epsilon = 8", "max_epsilon = 0", "[policy] max_epsilon: input should be greater than 0, got 0"),
        (
            "max_epsilon = 8",
            "max_epsilon = nan",
            "[policy] max_epsilon: input should be greater than 0, got nan",
        ),
        ("= 1000", "= 0", "[data] declared_records: input should be greater than or equal to 1, got 0"),
        (
            "records = 1000",
            "users = 0",
            "[data] declared_users: input should be greater than or equal to 1, got 0",
        ),
        ("hospital-a", "Hospital A", "client name 'Hospital A' must be"),
        (
            "max_epsilon = 8",
            "max_epsilon = 8\nmax_delta = 0.5",
            "policy δ 0.5 is above 1/(10·declared_records)",
        ),
        ("max_epsilon = 8", "max_epsilon = 8\nmax_delta = 0", "budget δ 0.0 must be in (0, 1)"),
        (
            "max_epsilon = 8",
            "max_epsilon = 8\nhours = [3, 3]",
            "policy hours (3, 3) must be two different hours",
        ),
        ("max_epsilon = 8", "max_epsilon = 8\nmax_steps = 0", "max_steps 0 must be ≥ 1"),
        (
            "[policy]",
            "[daemon]\npoll_s = 100\n[policy]",
            "[daemon] poll_s: input should be less than or equal to 60",
        ),
        (
            "[policy]",
            "[daemon]\nlog_level = 'loud'\n[policy]",
            "[daemon] log_level: input should be 'debug', 'info'",
        ),
    ],
)
def test_impossible_settings_are_one_line_with_file_and_key(
    directory: Path, old: str, new: str, message: str
) -> None:
    path = directory / "client.toml"
    path.write_text(MINIMAL.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        config.read(directory)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_directory_without_settings_tells_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"`promptferry-client init {tmp_path}` makes one"):
        config.read(tmp_path)
