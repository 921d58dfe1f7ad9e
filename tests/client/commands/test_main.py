import json
import logging
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from client.home import settings as config
from tests.client.commands.command import Command
from transfer.privacy import Budget, Spend


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Commands that log send it to the stderr of their own test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_init_makes_settings_keys_and_ledger_that_others_cannot_read(client: Command) -> None:
    assert client.init("--task", "reviews", "--task", "news", "--proxy", "*", "--threads", 1) == 0
    settings = config.read(client.directory)
    assert settings.client.name == "hospital-a"
    assert settings.policy.tasks == ("reviews", "news")
    assert settings.daemon.threads == 1
    assert settings.data.path == client.directory.parent / "train.jsonl"
    assert (
        "# Greatest probability that a record (or user) takes part"
        in (client.directory / "client.toml").read_text()
    )
    for path in client.directory.rglob("*"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    with client.ledger() as ledger:
        assert ledger.entries() == []


def test_init_says_that_nothing_is_allowed_yet(client: Command) -> None:
    assert client.init() == 0
    assert "no round is allowed before you name tasks and proxies" in client.out


def test_init_never_touches_an_existing_client(ready: Command) -> None:
    before = {path: path.read_bytes() for path in ready.directory.rglob("*") if path.is_file()}
    assert ready.init() == 1
    assert "client.toml exists already" in ready.err
    assert before == {path: path.read_bytes() for path in ready.directory.rglob("*") if path.is_file()}


def test_init_finishes_what_a_crash_left_half_done_with_the_same_keys(ready: Command) -> None:
    before = (ready.directory / "keys" / "signing.pem").read_bytes()
    (ready.directory / "client.toml").unlink()
    assert ready.init() == 0
    assert (ready.directory / "keys" / "signing.pem").read_bytes() == before


def test_init_declares_records_or_users_and_not_both(client: Command) -> None:
    data = "--data", client.directory.parent / "train.jsonl"
    given = "init", client.directory, "--name", "hospital-a", *data, "--epsilon", 8
    for words in ((), ("--users", 10, "--records", 100)):
        assert client(*given, *words) == 2
        assert client.err == (
            "error: give --records N, or --users N to protect each user with all of their records\n"
        )
    assert client(*given, "--users", 10) == 0
    settings = config.read(client.directory)
    assert (settings.data.unit, settings.data.declared_units) == ("user", 10)
    assert "# declared_records = 1000" in (client.directory / "client.toml").read_text().splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epsilon", "-1"), "[policy] max_epsilon: input should be greater than 0, got -1.0"),
        (("--name", "Big Clinic"), "client name 'Big Clinic' must be 1 to 63 of a-z, 0-9 and -"),
        (("--records", "0"), "[data] declared_records: input should be greater than or equal to 1, got 0"),
        (("--data", "absent.jsonl"), "absent.jsonl: no such file: name the private text with --data"),
    ],
)
def test_a_wrong_value_makes_no_directory(client: Command, words: tuple[str, ...], message: str) -> None:
    assert client.init(*words) == 2
    assert message in client.err
    assert client.err.count("\n") == 1
    assert not client.directory.exists()


def test_a_command_outside_a_client_directory_says_where_it_looked(client: Command) -> None:
    assert client("ledger", "show") == 2
    assert client.err == (
        f"error: {client.directory / 'client.toml'}: no such file; "
        f"`promptferry-client init {client.directory}` makes one\n"
    )


def test_whoever_protects_users_is_shown_that_unit_everywhere(client: Command) -> None:
    rows = [{"text": f"film {n}", "label": "positive", "user": user} for n, user in enumerate("abbb")]
    data = client.directory.parent / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    init = (
        "init",
        client.directory,
        "--name",
        "a",
        "--data",
        data,
        "--users",
        2,
        "--epsilon",
        8,
        "--proxy",
        "*",
    )
    assert client(*init, "--task", "reviews") == 0
    counts = {"records": 4, "labels": {"good": 0, "positive": 4}, "users": 2, "most_records_of_a_user": 3}
    assert counts.items() <= client.json("data", "check", "--labels", "good,positive").items()
    assert client("data", "check", "--labels", "good,positive") == 0
    assert "4 records of 2 users, at most 3 of one" in " ".join(client.out.split())

    cost = "--noise", 1.0, "--sample-rate", 0.1, "--steps", 10
    assert client.json("plan", *cost)["unit"] == "user"
    asked = "policy", "check", "--task", "reviews", "--proxy", "p", *cost
    verdicts = {unit: client.json(*asked, *unit)["verdicts"] for unit in ((), ("--unit", "record"))}
    judged = [{v["rule"]: v["allowed"] for v in found}["unit"] for found in verdicts.values()]
    assert judged == [True, False]
    assert client(*asked, "--unit", "household") == 2
    assert client.err == "error: unit 'household' must be record or user\n"

    with client.ledger() as ledger:
        data_set = ledger.data_set([ledger.fingerprint("b", "user")])
        ledger.reserve(data_set, "campaigns/a/rounds/1", Spend(1.0, 0.1, 10, "user"), Budget(8.0, 1e-6))
    shown = client.json("ledger", "show")
    assert shown["data_sets"][0]["unit"] == shown["entries"][1]["spend"]["unit"] == "user"
    assert client("ledger", "show") == 0
    assert client.out.count("user") == 2


def test_doctor_finds_what_is_well_and_what_is_not(ready: Command) -> None:
    findings = {finding["check"]: finding for finding in ready.json("doctor")}
    assert ready.status == 1
    well = {name for name, finding in findings.items() if finding["healthy"]}
    assert well == {"settings", "policy", "keys", "encryption", "data", "ledger"}
    assert "not enrolled" in findings["delivery"]["detail"]
    (ready.directory / "keys" / "node.pem").chmod(0o644)
    (ready.directory.parent / "train.jsonl").unlink()
    findings = {finding["check"]: finding for finding in ready.json("doctor")}
    assert "chmod 600" in findings["keys"]["detail"]
    assert "is not a readable file" in findings["data"]["detail"]


def test_help_needs_no_pytorch() -> None:
    script = (
        "import sys\nfrom client.commands.main import app\nfrom transfer.terminal import console\n"
        "try: console.run(app, ['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ledger" in done.stdout
