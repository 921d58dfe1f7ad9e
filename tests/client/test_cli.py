import json
import logging
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from client import config, custody
from client.cli import app
from client.entries import Declined
from client.ledger import Ledger
from client.release import DIGEST_BYTES
from transfer import console
from transfer.files import write_new
from transfer.model_ref import ModelRef
from transfer.privacy import Budget, Spend, epsilon

ROWS = '{"text": "the film was great", "label": "positive"}\n{"text": "a bad plot", "label": "negative"}\n'
TASK = """name = "reviews"
template = "{text} It was {answer}"
init_text = "A sentence about a review"
max_tokens = 64
[labels]
positive = ["great", "good"]
negative = ["terrible", "bad"]
"""


class Command:
    """`promptferry-client` in this process."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self.capsys = directory, capsys
        self.out = self.err = ""

    def __call__(self, *words: object) -> int:
        with pytest.raises(SystemExit) as caught:
            console.run(app, ["--dir", str(self.directory), *map(str, words)])
        captured = self.capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        assert isinstance(caught.value.code, int)
        return caught.value.code

    def json(self, *words: object) -> dict:
        self.status = self("--format", "json", *words)
        return json.loads(self.out)

    def ledger(self) -> Ledger:
        return Ledger.open(custody.load(config.read(self.directory)).ledger)

    def init(self, *words: object) -> int:
        data = self.directory.parent / "train.jsonl"
        given = "--name", "hospital-a", "--data", data, "--records", 100, "--epsilon", 8
        return self("init", self.directory, *given, *words)


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """Commands that log send it to the stderr of their own test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    (tmp_path / "train.jsonl").write_text(ROWS)
    (tmp_path / "task.toml").write_text(TASK)
    return Command(tmp_path / "client", capsys)


@pytest.fixture
def ready(client: Command) -> Command:
    assert client.init("--task", "reviews", "--proxy", "*", "--delta", "1e-4") == 0
    return client


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


def test_init_with_a_secret_starts_encrypted_and_encrypt_changes_the_secret(
    client: Command, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_new(tmp_path / name, f"the passphrase number {name}".encode())
    assert client.init("--secret", tmp_path / "one") == 0
    assert config.read(client.directory).client.secret == tmp_path / "one"
    assert b"PRIVATE KEY" not in (client.directory / "keys" / "signing.pem").read_bytes()
    spend(client, Spend(1.0, 0.1, 10), 1)
    assert client("encrypt") == 0
    assert client.out == "sealed keys and ledger with key 2\n"
    assert client("encrypt", "--secret", tmp_path / "two") == 0
    told = f'secret = "{tmp_path / "two"}"'
    assert f"now write {told} under [client] in" in client.out.replace("\n", " ")
    assert client("ledger", "verify") == 2
    assert "the secret does not open it" in client.err
    settings = client.directory / "client.toml"
    settings.write_text(settings.read_text().replace(f'secret = "{tmp_path / "one"}"', told))
    assert client.json("ledger", "verify")["entries"] == 3
    assert client.json("encrypt") == {"key": 4, "secret": str(tmp_path / "two")}


def test_an_existing_client_is_encrypted_by_a_secret_of_the_owners_choice(
    ready: Command, tmp_path: Path
) -> None:
    assert ready("encrypt") == 2
    assert ready.err == "error: encrypting needs a secret: name its file with --secret FILE\n"
    write_new(tmp_path / "secret", b"a passphrase of words", 0o644)
    assert ready("encrypt", "--secret", tmp_path / "secret") == 2
    assert "is open to others (mode 0644)" in ready.err
    (tmp_path / "secret").chmod(0o400)
    assert ready("encrypt", "--secret", tmp_path / "secret") == 0
    assert ready("ledger", "show") == 2
    assert "vault.json seals this client: name the file of its secret in [client] secret" in ready.err


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
            "error: say --records N, or --users N to protect each user with all records of theirs\n"
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
        (("--data", "absent.jsonl"), "absent.jsonl: no such file; --data names the private text"),
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


def test_data_check_counts_the_labels_by_names_or_by_task(ready: Command) -> None:
    found = ready.json("data", "check", "--labels", "positive, negative")
    assert (found["records"], found["labels"]) == (2, {"positive": 1, "negative": 1})
    assert (found["faults"], found["more_faults"], found["lengths"]) == ([], 0, None)
    assert ready.json("data", "check", "--task", ready.directory.parent / "task.toml") == found
    assert ready("data", "check", "--labels", "positive,negative") == 0
    assert "positive" in ready.out


def test_data_check_counts_answers_in_free_text(ready: Command) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    words = 'name = "slots"\ntemplate = "{text} It was {answer}"\ninit_text = "A sentence"\n'
    task.write_text(words + 'kind = "text"\n')
    assert ready("data", "check", "--task", task) == 2
    assert "train.jsonl:1: field 'answer': missing" in ready.err
    path.write_text('{"text": "fine", "answer": "a film"}\n' * 3)
    assert ready("data", "check", "--task", task) == 0
    assert ready.out.startswith(f"{path}: 3 records, each with its answer in free text\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", ROWS + "{oops\n", "train.jsonl:3: malformed JSON"),
        ("train.jsonl", ROWS + '{"text": 3, "label": 0}\n', "train.jsonl:3: field 'text': a number"),
        ("train.jsonl", ROWS + '{"text": "x"}\n', "train.jsonl:3: field 'label': missing"),
        (
            "train.jsonl",
            ROWS + '{"text": "x", "label": "neutral"}\n',
            "field 'label': unknown label 'neutral'",
        ),
        ("train.csv", "text,label\nfine,positive\nbad,negative,3\n", "train.csv:3: 3 columns"),
        ("train.csv", "words,label\nfine,positive\n", "train.csv:1: field 'text'"),
    ],
)
def test_malformed_data_is_one_line_with_file_line_and_field(
    ready: Command, name: str, content: str, message: str
) -> None:
    path = ready.directory.parent / name
    path.write_text(content)
    settings = ready.directory / "client.toml"
    settings.write_text(settings.read_text().replace("train.jsonl", name))
    assert ready("data", "check", "--labels", "positive,negative") == 2
    assert message in ready.err
    assert ready.err.count("\n") == 1


def test_data_check_tells_every_fault_and_still_counts_the_good_records(ready: Command) -> None:
    path = ready.directory.parent / "train.jsonl"
    path.write_text(ROWS + '{"text": ""}\n' * 12 + '{"text": "x", "label": "neutral"}\n')
    assert ready("data", "check", "--labels", "positive,negative") == 2
    told = ready.err.splitlines()
    assert len(told) == 21
    assert told[:2] == [
        f"error: {path}:3: field 'text': empty",
        f"error: {path}:3: field 'label': missing",
    ]
    assert told[-1] == "error: and 5 more faults"
    found = ready.json("data", "check", "--labels", "positive,negative")
    assert (ready.status, found["records"], found["labels"]) == (2, 2, {"positive": 1, "negative": 1})
    assert (len(found["faults"]), found["more_faults"]) == (20, 5)


def test_data_check_counts_what_a_task_would_cut(ready: Command, tiny_causal: Path) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    long = json.dumps({"text": "the film was great " * 40, "label": "positive"}) + "\n"
    path.write_text(ROWS + long)
    task.write_text(TASK.replace("max_tokens = 64", "max_tokens = 32"))
    asked = "data", "check", "--task", task
    assert ready.json(*asked)["lengths"] is None
    assert ready(*asked) == 0
    assert "what max_tokens = 32 cuts is counted with --proxy" in " ".join(ready.out.split())
    cut = ready.json(*asked, "--proxy", tiny_causal)["lengths"]
    assert (cut["max_tokens"], cut["cut_records"], cut["cut_answers"]) == (32, 1, 0)
    assert cut["cut_tokens"] == cut["longest"] - 32 > 100
    assert cut["median"] < 32
    assert ready(*asked, "--proxy", tiny_causal) == 0
    assert "1 of 3 records lose the end of their text" in " ".join(ready.out.split())


def test_data_check_counts_answers_that_are_cut(ready: Command, tiny_causal: Path) -> None:
    path, task = ready.directory.parent / "train.jsonl", ready.directory.parent / "task.toml"
    task.write_text(TASK.partition("[labels]")[0] + 'kind = "text"\nanswer_tokens = 3\n')
    answers = "great", "a great film and a bad plot"
    path.write_text("".join(json.dumps({"text": "a film", "answer": answer}) + "\n" for answer in answers))
    cut = ready.json("data", "check", "--task", task, "--proxy", tiny_causal)["lengths"]
    assert (cut["cut_records"], cut["cut_answers"]) == (0, 1)


def test_data_check_wants_the_class_names_in_exactly_one_way(ready: Command) -> None:
    assert ready("data", "check") == 2
    assert ready("data", "check", "--labels", "a,b", "--task", ready.directory.parent / "task.toml") == 2
    assert "--labels a,b,c or with --task" in ready.err


def test_data_check_tries_the_label_words_on_a_proxy(ready: Command, tiny_causal: Path) -> None:
    task = ready.directory.parent / "task.toml"
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 0
    task.write_text(TASK.replace('"great", "good"', '"unbelievable"'))
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 2
    assert "label word 'unbelievable' of 'positive' is" in ready.err
    task.write_text(TASK.replace('"great", "good"', '"bad"'))
    assert ready("data", "check", "--task", task, "--proxy", tiny_causal) == 2
    assert "label word 'bad' stands for both 'positive' and 'negative'" in ready.err
    assert ready("data", "check", "--task", ready.directory.parent / "x.toml", "--proxy", tiny_causal) == 2


def test_a_directory_without_a_model_is_named(ready: Command) -> None:
    words = "data", "check", "--task", ready.directory.parent / "task.toml", "--proxy", ready.directory
    assert ready(*words) == 2
    assert ready.err == f"error: {ready.directory}: not a model directory: config.json is missing\n"


def spend(ready: Command, each: Spend, rounds: int) -> None:
    with ready.ledger() as ledger:
        data_set = ledger.data_set([b"f" * 32])
        for index in range(1, rounds + 1):
            name = f"campaigns/a/rounds/{index}"
            ledger.reserve(data_set, name, each, Budget(100.0, 1e-4))
            ledger.store_reply(name, b"q" * DIGEST_BYTES + b"reply")


def test_ledger_show_tells_the_cost_of_each_data_set_and_every_entry(ready: Command) -> None:
    each = Spend(1.0, 0.1, 10)
    spend(ready, each, 2)
    shown = ready.json("ledger", "show")
    [data_set] = shown["data_sets"]
    assert data_set["epsilon"] == epsilon([each, each], 1e-4)
    assert data_set["budget"] == 8.0
    assert [entry["kind"] for entry in shown["entries"]] == ["records", "spend", "reply", "spend", "reply"]
    assert shown["entries"][1]["spend"] == asdict(each)
    assert shown["declines"] == []
    assert ready("ledger", "show") == 0
    assert "data-" in ready.out
    assert "declined" not in ready.out


def test_ledger_show_tells_each_round_that_was_declined_and_why(ready: Command) -> None:
    said = Declined.of("campaigns/a/rounds/1", "policy", "[/b] asked")
    with ready.ledger() as ledger:
        ledger.decline(said)
    [entry] = ready.json("ledger", "show")["declines"]
    assert entry["declined"] == asdict(said)
    assert ready("ledger", "show") == 0
    assert ready.out.splitlines()[-2].split("│")[3:6] == [
        " campaigns/a/rounds/1 ",
        " policy  ",
        " [/b] asked ",
    ]


def test_ledger_verify_counts_entries_and_finds_a_changed_one(ready: Command) -> None:
    spend(ready, Spend(1.0, 0.1, 10), 1)
    assert ready.json("ledger", "verify")["entries"] == 3
    content = (ready.directory / "ledger.db").read_bytes()
    (ready.directory / "ledger.db").write_bytes(content.replace(b'"steps":10', b'"steps":11'))
    failed = ready.json("ledger", "verify")
    assert ready.status == 1
    assert failed["error"] == "ledger"


def test_a_declared_loss_is_charged_and_the_ledger_goes_on(ready: Command) -> None:
    old = ready.directory / "ledger.db"
    spend(ready, Spend(1.0, 0.1, 10), 1)
    kept = old.read_bytes()
    spend(ready, Spend(1.0, 0.1, 20), 0)
    with ready.ledger() as ledger:
        ledger.reserve(
            ledger.data_sets()[0], "campaigns/b/rounds/1", Spend(1.0, 0.1, 20), Budget(100.0, 1e-4)
        )
    for leftover in ready.directory.glob("ledger.db-*"):
        leftover.unlink()
    old.write_bytes(kept)
    assert ready("ledger", "show") == 1
    assert "declare-loss" in ready.err
    words = "ledger", "declare-loss", "--noise", 1.0, "--sample-rate", 0.1, "--steps", 20
    assert ready(*words) == 0
    shown = ready.json("ledger", "show")
    assert shown["data_sets"][0]["epsilon"] == epsilon([Spend(1.0, 0.1, 30)], 1e-4)


def test_a_directory_restored_from_a_backup_is_noticed_by_a_head_on_another_disk(
    ready: Command, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (ready.directory / "ledger.db.head").rename(tmp_path / "disk" / "head")
    settings = ready.directory / "client.toml"
    settings.write_text(
        settings.read_text().replace(
            '# ledger_head = "/mnt/other/ledger.db.head"', 'ledger_head = "../disk/head"'
        )
    )
    shutil.copytree(ready.directory, tmp_path / "backup")
    spend(ready, Spend(1.0, 0.1, 10), 1)
    assert ready("ledger", "verify") == 0
    shutil.rmtree(ready.directory)
    (tmp_path / "backup").rename(ready.directory)
    for words in (
        ("ledger", "verify"),
        ("ledger", "show"),
        ("plan", "--noise", 1, "--sample-rate", 0.1, "--steps", 1),
    ):
        assert ready(*words) == 1
        assert "was rolled back or cut: it holds 0 entries" in ready.err
        assert "disk/head remembers 3" in ready.err


def test_plan_tells_epsilon_after_each_round_and_where_the_budget_ends(ready: Command) -> None:
    each = Spend(1.0, 0.3, 20)
    spend(ready, each, 1)
    words = "plan", "--noise", 1.0, "--sample-rate", 0.3, "--steps", 20, "--rounds", 4
    planned = ready.json(*words)
    assert planned["spent"] == epsilon([each], 1e-4)
    expected = [epsilon([each] * count, 1e-4) for count in (2, 3, 4, 5)]
    assert [row["epsilon"] for row in planned["rounds"]] == expected
    assert [row["covered"] for row in planned["rounds"]] == [cost <= 8.0 for cost in expected]
    assert planned["refused_from"] == next(i for i, cost in enumerate(expected, 1) if cost > 8.0)
    assert planned["refused_from"] == 1
    assert ready(*words) == 5
    assert "the budget ends before round 1" in ready.out


def test_a_plan_without_noise_costs_everything(ready: Command) -> None:
    planned = ready.json("plan", "--noise", 0, "--sample-rate", 1, "--steps", 1)
    assert planned["rounds"] == [{"round": 1, "epsilon": "inf", "covered": False}]
    assert (ready.status, ready.err) == (5, "error: the budget does not cover round 1\n")


def test_policy_check_names_the_refusing_rule_and_ends_with_its_status(ready: Command) -> None:
    asked = "--proxy", "0" * 64, "--noise", 4, "--sample-rate", 0.5, "--steps", 10, "--cohort", 3
    assert ready("policy", "check", "--task", "reviews", *asked) == 0
    assert ready("policy", "check", "--task", "diagnoses", *asked) == 4
    assert ready.err == "error: refused by tasks\n"
    found = ready.json("policy", "check", "--task", "diagnoses", *asked)
    assert found["allowed"] is False
    assert {verdict["rule"] for verdict in found["verdicts"] if not verdict["allowed"]} == {"tasks"}


PLAN = """name = "first"
task = "task.toml"
proxy = "lab"
public_text = "public.jsonl"
rounds = 2
[tuning]
noise_multiplier = 2.0
sample_rate = 0.3
steps = 20
[publish]
prompt = "reviews"
"""


@pytest.fixture
def operators_plan(ready: Command) -> Path:
    path = ready.directory.parent / "plan.toml"
    path.write_text(PLAN)
    return path


def test_the_operators_plan_is_foreseen_and_judged_as_it_is(ready: Command, operators_plan: Path) -> None:
    each = Spend(2.0, 0.3, 20)
    assert [row["epsilon"] for row in ready.json("plan", operators_plan)["rounds"]] == [
        epsilon([each] * count, 1e-4) for count in (1, 2)
    ]
    found = ready.json("policy", "check", operators_plan)
    assert ready.status == 0
    told = {verdict["rule"]: verdict["why"] for verdict in found["verdicts"]}
    assert told["tasks"] == "'reviews' asked, reviews allowed"
    assert told["min_cohort"] == "3 asked, at least 3 allowed"
    assert told["max_epsilon"] == f"ε {epsilon([each] * 2, 1e-4):.4g} after 0 so far asked, 8 allowed"


def test_what_is_given_beside_a_plan_comes_first(ready: Command, operators_plan: Path) -> None:
    planned = ready.json("plan", operators_plan, "--noise", 3.0, "--rounds", 1)
    assert [row["epsilon"] for row in planned["rounds"]] == [epsilon([Spend(3.0, 0.3, 20)], 1e-4)]
    assert ready("policy", "check", operators_plan, "--cohort", 1, "--steps", 10) == 4
    assert ready.err == "error: refused by min_cohort\n"


def test_a_plan_beyond_the_budget_is_refused_with_the_round_it_ends_before(
    ready: Command, operators_plan: Path
) -> None:
    assert ready("policy", "check", operators_plan, "--rounds", 8) == 5
    assert ready.err == "error: refused by max_epsilon\n"
    ends = ready.json("plan", operators_plan, "--rounds", 8)["refused_from"]
    assert (ends > 1, ready.status) == (True, 0)
    told = ready.json("policy", "check", operators_plan, "--rounds", 8)["verdicts"][-1]["why"]
    assert told.endswith(f"8 allowed, the budget ends before round {ends}")


def test_a_proxy_that_is_here_is_judged_by_its_digest(
    ready: Command, operators_plan: Path, tiny_causal: Path
) -> None:
    digest = ModelRef.of_directory("lab", tiny_causal).digest
    settings = ready.directory / "client.toml"
    settings.write_text(settings.read_text().replace('"*",', f'"{digest}",'))
    assert ready("policy", "check", operators_plan) == 4
    assert ready.err == "error: refused by proxies\n"
    shutil.copytree(tiny_causal, ready.directory / "proxies" / "lab")
    assert ready("policy", "check", operators_plan) == 0


def test_the_cost_of_a_plan_is_drawn_as_bars(ready: Command, operators_plan: Path) -> None:
    assert ready("plan", operators_plan, "--rounds", 3) == 0
    drawn = [line.count("█") for line in ready.out.splitlines()]
    assert sorted(filter(None, drawn)) == [count for count in drawn if count]
    assert len([count for count in drawn if count]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plan",), "give a plan file, or --noise, --sample-rate, --steps as well"),
        (("plan", "--noise", 1, "--steps", 5), "give a plan file, or --sample-rate as well"),
        (
            ("policy", "check", "--noise", 1, "--sample-rate", 0.1, "--steps", 5),
            "give a plan file, or --task and --proxy",
        ),
        (("plan", "PLAN", "--rounds", 0), "rounds 0 must be ≥ 1"),
        (("plan", "absent.toml"), "absent.toml: cannot read the plan: No such file or directory"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused_in_one_line(
    ready: Command, operators_plan: Path, words: tuple[object, ...], message: str
) -> None:
    assert ready(*(operators_plan if word == "PLAN" else word for word in words)) == 2
    assert ready.err == f"error: {message}\n"


def test_a_misspelt_key_of_a_plan_is_named(ready: Command, operators_plan: Path) -> None:
    operators_plan.write_text(PLAN.replace("sample_rate", "sample_rte"))
    assert ready("policy", "check", operators_plan) == 2
    assert ready.err == (
        f"error: {operators_plan}: unknown key 'sample_rte' in [tuning]; did you mean 'sample_rate'?\n"
    )


def test_a_distilled_proxy_is_registered_with_its_digest(ready: Command, tiny_causal: Path) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("\n".join(f"the film number {i} was great and the plot was slow" for i in range(60)))
    words = "proxy", "distil", "--target", tiny_causal, "--layers", 1, "--text", text, "--name", "cut"
    made = ready.json(*words, "--steps", 3)
    assert ready.status == 0
    assert made["digest"] == ModelRef.of_directory("cut", ready.directory / "proxies" / "cut").digest
    assert made["layers"] == [0]
    (listed,) = ready.json("proxy", "list")
    assert made.items() <= listed.items()
    assert listed["parent"] == tiny_causal.name
    assert listed["held_out_kl"] >= 0
    assert listed["parent_digest"] == ModelRef.of_directory("", tiny_causal).digest
    assert ready("proxy", "list") == 0
    assert f"KL {listed['held_out_kl']:.3f}" in " ".join(ready.out.replace("│", " ").split())
    assert ready(*words) == 1
    assert "cut exists already" in ready.err
    assert [path.name for path in (ready.directory / "proxies").iterdir()] == ["cut"]


def test_a_client_distils_with_the_coordinators_options(ready: Command, tiny_causal: Path) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("\n".join(f"the film number {i} was great and the plot was slow" for i in range(60)))
    words = "proxy", "distil", "--target", tiny_causal, "--layers", "0,1", "--text", text, "--name", "cut"
    assert ready(*words, "--freeze", "body") == 2
    assert "freeze 'body' is none of embeddings, head" in ready.err
    made = ready.json(*words, "--steps", 0, "--resume")
    assert (made["layers"], made["steps"]) == ([0, 1], 0)
    assert made["held_out_kl"] == pytest.approx(0, abs=1e-6)


def test_a_wrong_target_leaves_nothing_half_made(ready: Command) -> None:
    text = ready.directory.parent / "public.txt"
    text.write_text("some text\n")
    words = "proxy", "distil", "--target", ready.directory, "--layers", 1, "--text", text, "--name", "cut"
    assert ready(*words) == 2
    assert "not a model directory" in ready.err
    assert not (ready.directory / "proxies").exists()


def test_an_unenrolled_client_is_told_to_enrol(ready: Command) -> None:
    for words in (("run",), ("proxy", "fetch", "cut")):
        assert ready(*words) == 2
        enrol = f"`promptferry-client --dir {ready.directory} enrol INVITATION`"
        assert f"this client is not enrolled; run {enrol}" in ready.err


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
        "import sys\nfrom client.cli import app\nfrom transfer import console\n"
        "try: console.run(app, ['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ledger" in done.stdout
