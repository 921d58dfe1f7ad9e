"""`promptferry-coordinator round`: campaigns of rounds."""

import sys

import pytest

from coordinator.store.records import CampaignState
from transfer.protocol import tuning_table


def test_a_launched_campaign_waits_in_line_with_its_price(proxied, plan_file, store):
    answer = proxied.json("round", "launch", plan_file)
    assert (answer["campaign"], answer["noise_multiplier"]) == ("first", 2.0)
    assert 0 < answer["epsilon"] < 20
    serve = f"`promptferry-coordinator --dir {proxied.directory} serve`"
    assert f"no coordinator serves this store; start {serve}" in proxied.err
    assert store.campaign("first").state is CampaignState.PENDING
    assert proxied("round", "launch", plan_file) == 1
    assert "campaign 'first' exists already" in proxied.err


def test_a_dry_run_tells_price_and_needs_and_launches_nothing(proxied, plan_file, store):
    dry = proxied.json("round", "launch", plan_file, "--dry-run")
    assert proxied.status == 0, proxied.err
    assert store.campaigns() == []
    files = proxied.json("proxy", "show", "tiny")["files"]
    (download,) = (need["size"] for need in dry["needs"] if need["part"] == "proxy")
    assert download == sum(file["size"] for file in files)
    assert dry["total"]["transfer"] > 0
    assert dry["total"]["client's round"] > 0
    assert proxied("round", "launch", plan_file, "--dry-run") == 0
    assert "would launch first" in proxied.out
    launched = proxied.json("round", "launch", plan_file)
    assert {key: dry[key] for key in launched} == launched
    assert proxied("round", "launch", plan_file, "--dry-run") == 1
    assert "campaign 'first' exists already" in proxied.err
    assert proxied("round", "launch", plan_file, "--dry-run", "--wait") == 2


@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_campaign_says_what_it_protects_when_it_is_launched_and_shown(proxied, plan_file, unit):
    plan = plan_file.read_text()
    plan_file.write_text(plan.replace("[tuning]", f'[tuning]\nunit = "{unit}"', 1))
    assert proxied("round", "launch", plan_file) == 0
    assert f"for one {unit} of each client" in proxied.out
    assert proxied.json("round", "show", "first")["unit"] == unit
    assert proxied("round", "show", "first") == 0
    assert f"for one {unit} of each client" in " ".join(proxied.out.split())


def test_waiting_in_vain_ends_with_its_own_exit_status(proxied, plan_file, store):
    assert proxied("round", "launch", plan_file, "--wait", "--timeout-s", "0") == 3
    assert "first: pending" in proxied.err
    assert "still pending after 0 s" in proxied.err
    assert proxied.out == ""
    assert store.campaign("first").state is CampaignState.PENDING


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ('proxy = "tiny"', 'proxy = "huge"', 1, "no proxy 'huge'"),
        ("rounds = 2", "rouns = 2", 2, "unknown key 'rouns'; did you mean 'rounds'"),
        ('"public.txt"', '"private.txt"', 2, "private.txt: cannot read"),
        ('"task.toml"', '"tusk.toml"', 2, "tusk.toml"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_not_launched(
    proxied, plan_file, old, new, status, words, store
):
    plan_file.write_text(plan_file.read_text().replace(old, new))
    answer = proxied.json("round", "launch", plan_file)
    assert proxied.status == status
    assert words in answer["message"]
    assert proxied.err.count("\n") == 1
    assert store.campaigns() == []
    assert proxied.json("round", "launch", plan_file, "--dry-run") == answer
    assert proxied.status == status


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "first"', 'name = "taken"', "campaign 'taken' exists already"),
        ('proxy = "tiny"', 'proxy = "huge"', "no proxy 'huge'"),
        ('proxy = "tiny"', 'proxy = "../tiny"', "proxy name '../tiny'"),
        ('"public.txt"', '"private.txt"', "private.txt: cannot read"),
        ("steps = 4", "alpha = 2.0", "transfer alpha 2.0 must be in [0, 1]"),
        ("rounds = 2", 'rounds = 2\nstrategy = "best"', "strategy 'best'"),
    ],
)
def test_a_plan_is_refused_before_the_slow_calibration_of_its_noise(
    proxied, plan_file, old, new, words, store, monkeypatch
):
    monkeypatch.setattr(tuning_table, "calibrate", lambda *_: pytest.fail("the noise was calibrated"))
    store.add_campaign("taken", "{}")
    given = plan_file.read_text().replace("noise_multiplier = 2.0", "epsilon = 8.0")
    plan_file.write_text(given.replace(old, new))
    assert proxied("round", "launch", plan_file) in (1, 2)
    assert words in proxied.err


def test_a_campaign_is_aborted_resumed_and_shown(proxied, plan_file):
    proxied("round", "launch", plan_file)
    assert proxied.json("round", "abort", "first")["state"] == "aborted"
    assert proxied("round", "watch", "first") == 1
    assert "campaign 'first' aborted: aborted by the operator" in proxied.err
    resume = f"`promptferry-coordinator --dir {proxied.directory} round resume first`"
    assert resume in proxied.err
    assert proxied("round", "show", "first") == 0
    assert resume in proxied.out
    assert proxied.json("round", "resume", "first")["state"] == "pending"
    assert proxied("round", "resume", "first") == 0
    assert "no coordinator serves this store" in proxied.err
    assert proxied("round", "resume", "first", "--wait", "--timeout-s", 0) == 3
    assert "still pending after 0 s" in proxied.err
    shown = proxied.json("round", "show", "first")
    assert (shown["state"], shown["rounds"]) == ("pending", [])
    assert [item["campaign"] for item in proxied.json("round", "list")] == ["first"]
    for words in (("round", "list"), ("round", "show", "first")):
        assert proxied(*words) == 0
        assert "first" in proxied.out


@pytest.mark.parametrize("words", [("show",), ("abort",), ("resume",), ("watch",)])
def test_an_unknown_campaign_is_one_line(command, words):
    assert command("round", *words, "nowhere") == 1
    assert command.err == "error: no campaign 'nowhere'\n"


def test_a_plan_may_name_twins_where_they_can_be_made(proxied, plan_file, store, monkeypatch):
    plan = plan_file.read_text()
    plan_file.write_text(plan.replace("[publish]", '[publish]\ntwins = ["int8"]', 1))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    assert proxied("round", "launch", plan_file) == 2
    assert "int8 and nf4 need bitsandbytes" in proxied.err
    monkeypatch.undo()
    assert proxied("round", "launch", plan_file) == 0, proxied.err
    assert '"twins":["int8"]' in store.campaign("first").plan
