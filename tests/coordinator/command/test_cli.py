"""The coordinator's commands on a real directory, store and keys; nothing serves here."""

import stat
import tomllib

import pytest
import torch

from coordinator.config import read
from coordinator.identity import identity
from coordinator.records import CampaignState, ClientState
from coordinator.store import Store
from transfer.checkpoint import Checkpoint, Checkpoints
from transfer.model_ref import ModelRef
from transfer.signing import PROXY_PREDICATE, Statement


@pytest.fixture
def store(command):
    opened = Store.open(read(command.directory).store.url)
    yield opened
    opened.close()


def test_init_makes_a_directory_whose_secrets_are_its_owners_alone(command):
    made = {
        str(path.relative_to(command.directory)) for path in command.directory.rglob("*") if path.is_file()
    }
    assert {"coordinator.toml", "publisher.key", "publisher.pub", "secret", "store.db", "pki/ca.pem"} <= made
    for name in ("publisher.key", "secret", "pki/ca.key", "pki/server.key", "store.db"):
        assert stat.S_IMODE((command.directory / name).stat().st_mode) == 0o600, name
    config = read(command.directory)
    assert (config.target.name, config.delivery.port, config.flower.port) == ("tiny-target", 29292, 29191)


def test_init_never_touches_a_directory_that_is_one_already(command, tiny_causal):
    before = (command.directory / "secret").read_bytes()
    assert command("init", command.directory, "--target", tiny_causal) == 1
    assert "coordinator.toml exists already" in command.err
    assert (command.directory / "secret").read_bytes() == before


def test_an_impossible_setting_makes_nothing(command, tmp_path, tiny_causal):
    answer = command.json("init", tmp_path / "new", "--target", tiny_causal, "--port", 70000)
    assert (command.status, answer["error"]) == (2, "config")
    assert "[delivery] port" in answer["message"]
    assert not (tmp_path / "new").exists()


def test_an_init_that_was_interrupted_is_finished_with_the_same_keys(command, tiny_causal):
    (command.directory / "coordinator.toml").unlink()
    before = (command.directory / "secret").read_bytes()
    assert command("init", command.directory, "--target", tiny_causal) == 0
    assert (command.directory / "secret").read_bytes() == before


def test_an_invitation_holds_what_a_client_needs_and_is_its_readers_alone(command, tmp_path, store):
    out = tmp_path / "ada.toml"
    answer = command.json("client", "invite", "ada", "--out", out)
    invitation = tomllib.loads(out.read_text())
    assert set(invitation) == {"client", "token", "coordinator", "ca", "publisher_key", "expire_time"}
    assert invitation["coordinator"] == answer["coordinator"] == "127.0.0.1:29292"
    assert invitation["publisher_key"] == (command.directory / "publisher.pub").read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert store.client("ada").state is ClientState.INVITED


def test_an_invitation_is_never_overwritten_and_a_bad_name_writes_none(command, tmp_path, store):
    assert command("client", "invite", "ada", "--out", tmp_path / "a.toml") == 0
    before = (tmp_path / "a.toml").read_bytes()
    assert command("client", "invite", "ben", "--out", tmp_path / "a.toml") == 1
    assert (tmp_path / "a.toml").read_bytes() == before
    assert command("client", "invite", "Ada Lovelace", "--out", tmp_path / "b.toml") == 2
    assert not (tmp_path / "b.toml").exists()
    assert [client.name for client in store.clients()] == ["ada"]


def test_a_coordinator_that_listens_everywhere_needs_a_public_address_to_invite(command, tmp_path):
    path = command.directory / "coordinator.toml"
    path.write_text(path.read_text().replace('host = "127.0.0.1"', 'host = "0.0.0.0"'))
    assert command("client", "invite", "ada", "--out", tmp_path / "a.toml") == 2
    assert "public_address" in command.err
    assert not (tmp_path / "a.toml").exists()


def test_clients_are_listed_and_revoked(command, tmp_path):
    command("client", "invite", "ada", "--out", tmp_path / "a.toml")
    assert command.json("client", "revoke", "ada")["state"] == "revoked"
    assert [item["state"] for item in command.json("client", "list")] == ["revoked"]
    assert command.json("client", "revoke", "eve") == {"error": "not_found", "message": "no client 'eve'"}
    assert command.status == 1


def test_a_proxy_is_made_signed_and_offered(proxied, store):
    record = store.proxy("tiny")
    key = identity(read(proxied.directory)).publisher.public_key()
    statement = Statement.verified(record.statement, key, PROXY_PREDICATE)
    assert statement.predicate["proxy"] == {"name": "tiny", "digest": record.model.digest}
    assert statement.predicate["layers"] == [0]
    assert {file.path: file.digest for file in record.files} == statement.digests
    for file in record.files:
        statement.check(file.path, (record.directory / file.path).read_bytes())
    assert [item["name"] for item in proxied.json("proxy", "list")] == ["tiny"]
    assert proxied.json("proxy", "show", "tiny")["parent"] == "tiny-target"
    assert proxied("proxy", "show", "tiny") == 0
    assert "model.safetensors" in proxied.out


def test_proxies_are_listed_with_their_held_out_measurements(proxied):
    (listed,) = proxied.json("proxy", "list")
    assert (listed["layers"], listed["steps"], listed["parent"]) == ([0], 0, "tiny-target")
    assert listed["held_out_kl"] > 0
    assert listed["held_out_perplexity"] != listed["target_perplexity"] > 1
    assert proxied("proxy", "list") == 0
    assert all(word in proxied.out for word in ("KL", "perplexity", f"{listed['held_out_kl']:.3f}"))


def test_a_proxy_that_tells_no_tokens_has_no_perplexity(command, public_text, tiny_encoder):
    words = ("proxy", "distil", "--text", public_text, "--layers", "1", "--steps", "1")
    made = command.json(*words, "--name", "bare", "--target", tiny_encoder)
    (listed,) = command.json("proxy", "list")
    for told in (made, listed, command.json("proxy", "show", "bare")):
        assert told["held_out_kl"] > 0
        assert (told["held_out_perplexity"], told["target_perplexity"]) == (None, None)
    assert command("proxy", "list") == 0
    row = next(line for line in command.out.splitlines() if " bare " in line)
    assert row.replace("│", " ").split()[-3:] == [f"{listed['held_out_kl']:.3f}", "–", "–"]
    assert command("proxy", "show", "bare") == 0
    assert "perplexity – (target –)" in " ".join(command.out.split())


def test_a_proxy_is_distilled_with_chosen_layers_and_settings(command, public_text):
    words = ("proxy", "distil", "--text", public_text, "--name", "both", "--layers", "0,1", "--steps", "2")
    options = ("--freeze", "none", "--precision", "bf16", "--accumulate", "2", "--prompted-share", "0.5")
    made = command.json(*words, *options, "--resume")
    assert (command.status, made["layers"], made["steps"]) == (0, [0, 1], 2)


def test_an_unfinished_distillation_is_resumed_and_only_with_its_recipe(command, public_text):
    place = command.directory / "proxies" / ".half.unfinished"
    Checkpoints(place, {"steps": 2}).save(Checkpoint(1, 1.0, 0, {"proxy/x": torch.zeros(1)}))
    words = ("proxy", "distil", "--text", public_text, "--name", "half", "--layers", "1", "--steps", "2")
    assert command(*words) == 1
    assert "--resume" in command.err
    assert command(*words, "--resume") == 2
    assert "is of recipe" in command.err
    assert command("proxy", "list") == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--freeze", "body"),
        ("--precision", "fp16"),
        ("--kl-at", "some"),
        ("--accumulate", "0"),
        ("--steps", "-1"),
    ],
)
def test_an_impossible_recipe_is_told_before_anything_is_read(command, option, value):
    words = ("proxy", "distil", "--text", "nowhere.txt", "--name", "half", "--layers", "1")
    assert command(*words, option, value) == 2
    assert value in command.err
    assert "nowhere" not in command.err


def test_a_proxys_name_is_used_once_and_its_layers_are_checked(proxied, public_text):
    words = ("--text", public_text, "--steps", "0")
    assert proxied("proxy", "distil", "--name", "tiny", "--layers", "1", *words) == 1
    assert "exists already" in proxied.err
    assert proxied("proxy", "distil", "--name", "other", "--layers", "first", *words) == 2
    assert proxied("proxy", "distil", "--name", "other", "--layers", "3", *words) == 2
    assert "3 layers cannot be cut from a target of 2" in proxied.err
    assert [path.name for path in (proxied.directory / "proxies").iterdir()] == ["tiny"]


def test_a_proxy_made_elsewhere_is_copied_signed_and_offered(command, tiny_proxy, store):
    assert command.json("proxy", "register", tiny_proxy, "--name", "brought")["layers"] == [0]
    record = store.proxy("brought")
    assert record.directory == command.directory.resolve() / "proxies" / "brought"
    assert record.model.digest == ModelRef.of_directory("brought", tiny_proxy).digest
    assert command("proxy", "register", tiny_proxy.parent, "--name", "nothing") == 2
    assert not (command.directory / "proxies" / "nothing").exists()


def test_a_launched_campaign_waits_in_line_with_its_price(proxied, plan_file, store):
    answer = proxied.json("round", "launch", plan_file)
    assert (answer["campaign"], answer["noise_multiplier"]) == ("first", 2.0)
    assert 0 < answer["epsilon"] < 20
    serve = f"`promptferry-coordinator --dir {proxied.directory} serve`"
    assert f"nobody serves this store; start {serve}" in proxied.err
    assert store.campaign("first").state is CampaignState.PENDING
    assert proxied("round", "launch", plan_file) == 1
    assert "campaign 'first' exists already" in proxied.err


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
    assert "nobody serves this store" in proxied.err
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


def test_doctor_finds_what_is_broken_and_what_is_not(proxied):
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert proxied.status == 1
    assert [name for name, item in found.items() if not item["healthy"]] == ["serving"]
    (proxied.directory / "secret").chmod(0o644)
    weights = proxied.directory / "proxies" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert "chmod 600" in found["keys"]["detail"]
    assert "tiny: the files are not those registered" in found["proxies"]["detail"]


def test_a_directory_that_is_no_coordinators_is_told_how_to_become_one(command, tmp_path):
    command.directory = tmp_path / "nowhere"
    assert command("round", "list") == 2
    assert "promptferry-coordinator init" in command.err
