"""The `promptferry` command against a real delivery server: what it prints, writes and refuses."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import artifact, publisher_key, user
from client.artifact import STATEMENT_FILE, from_json, to_json
from client.claim import Claim
from client.versions import SeenVersions
from coordinator import pki
from coordinator.pki import PkiPaths
from transfer import console
from transfer.artifact import CONFIG_FILE, HEAD_FILE, WEIGHTS_FILE
from transfer.decoding import answers
from transfer.errors import VerificationError
from transfer.evaluation import class_logits
from transfer.model_ref import ModelRef
from transfer.models import load
from transfer.prompt import SoftPrompt
from transfer.reading import label_logits
from transfer.signing import Envelope, Statement, key_id
from transfer.tasks import Label, Task

VECTORS = torch.linspace(-1, 1, 4 * 32).reshape(4, 32)
TARGET = ModelRef("target", "a" * 64)


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(
    delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    monkeypatch.setenv("PROMPTFERRY_SERVER", delivery.address)
    monkeypatch.setenv("PROMPTFERRY_CA", str(delivery.paths.ca))
    monkeypatch.setenv("PROMPTFERRY_KEY", str(delivery.paths.publisher_public_key))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as caught:
            console.run(user.app, [str(word) for word in words])
        printed = capsys.readouterr()
        return Outcome(int(caught.value.code or 0), printed.out, printed.err)

    return run


def seen(tmp_path: Path) -> Any:
    path = tmp_path / "state" / "promptferry" / "versions.json"
    return json.loads(path.read_text()) if path.exists() else None


def assert_refused(outcome: Outcome, message: str, status: int = 6) -> None:
    """One line on stderr, nothing on stdout, the right exit status."""
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", outcome.err), outcome.err


def test_prompts_are_listed_with_the_privacy_they_claim(delivery, run) -> None:
    for prompt in ("sst2", "agnews", "sst2"):
        delivery.publish(prompt, TARGET, VECTORS)

    text, latest, every = (
        run("list"),
        run("list", "--format", "json"),
        run("list", "--all", "--format", "json"),
    )
    assert text.status == latest.status == 0
    assert re.search(r"sst2 +2 .* yes +reviews +target +3\.9 +1e-06", text.out)
    assert [(row["name"], row["version"], row["verified"]) for row in latest.json] == [
        ("sst2", 2, True),
        ("agnews", 1, True),
    ]
    assert [row["version"] for row in every.json] == [2, 1, 1]
    assert latest.json[0]["epsilon"] == 3.9


def test_a_prompt_of_another_signer_is_listed_and_not_believed(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS, key=Ed25519PrivateKey.generate())
    assert run("list", "--format", "json").json[0]["verified"] is False
    assert "epsilon" not in run("list", "--format", "json").json[0]
    assert " NO " in run("list").out


def test_an_empty_catalogue_is_told(run) -> None:
    assert run("list").out == "no prompt is published\n"
    assert run("list", "--format", "json").json == []


def test_show_gives_the_verified_statement(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    shown = run("show", "sst2", "--format", "json").json
    assert (shown["name"], shown["version"], shown["verified"]) == ("sst2", 1, True)
    assert shown["statement"]["privacy"]["unit"] == "record"
    told = run("show", "sst2").out
    assert "ε 3.9 at δ 1e-06 for one record (add/remove one), worst client" in told
    assert "clinic-a: ε 3.9 at δ 1e-06; b: ε 2.5 at δ 1e-07" in told
    assert "great, good" in told
    assert "{" not in told.replace("{text}", "").replace("{answer}", "")
    assert len(told.splitlines()) < 20


def test_a_fetched_prompt_is_a_peft_directory_with_its_statement(delivery, run, tmp_path: Path) -> None:
    version = delivery.publish("sst2", TARGET, VECTORS)
    outcome = run("fetch", "sst2", "--out", tmp_path / "got", "--format", "json")

    assert outcome.status == 0, outcome
    assert (outcome.json["name"], outcome.json["version"], outcome.json["verified"]) == ("sst2", 1, True)
    assert {path.name for path in (tmp_path / "got").iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, STATEMENT_FILE}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "got" / name).read_bytes() == delivery.store.prompt_file("sst2", 1, name)
    assert artifact.envelope(tmp_path / "got") == version.statement
    assert run("verify", tmp_path / "got").status == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".got")]


def test_the_same_version_again_is_welcome_and_another_is_not(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    out = tmp_path / "got"
    assert run("fetch", "sst2", "--out", out).status == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run("fetch", "sst2", "--out", out).status == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    delivery.publish("sst2", TARGET, VECTORS * 2)
    assert_refused(run("fetch", "sst2", "--out", out), "holds version 1 of 'sst2' already", 1)
    (tmp_path / "mine").mkdir()
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "mine"), "is no fetched prompt", 1)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_directory_that_changed_since_is_not_taken_for_the_same(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    out = tmp_path / "got"
    run("fetch", "sst2", "--out", out)
    (out / CONFIG_FILE).write_text("{}")
    assert_refused(run("fetch", "sst2", "--out", out), "adapter_config.json: SHA-256")


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_tampered_with_on_the_server_is_never_written(
    delivery, run, tmp_path: Path, name: str
) -> None:
    def flip(files: dict[str, bytes]) -> None:
        files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]

    delivery.publish("sst2", TARGET, VECTORS, tamper=flip)
    before = set(tmp_path.iterdir())
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "not the ones in the signed statement")
    assert set(tmp_path.iterdir()) == before
    assert seen(tmp_path) is None


def tampered(envelope: Envelope, at: int) -> bytes:
    """The envelope as JSON with one bit of payload or signature flipped."""
    payload, signature = bytearray(envelope.payload), bytearray(envelope.signature)
    part = payload if at < len(payload) else signature
    part[at % len(payload) % len(part)] ^= 1 << at % 8
    return to_json(Envelope(envelope.payload_type, bytes(payload), envelope.key_id, bytes(signature)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_flipped_bit_of_a_fetched_prompt_is_found(fetched: Path, data: st.DataObject) -> None:
    key = publisher_key.load(fetched.parent / "publisher.pub")
    original = {path.name: path.read_bytes() for path in fetched.iterdir()}
    name = data.draw(st.sampled_from(sorted(original)))
    if name == STATEMENT_FILE:
        envelope = from_json(original[name])
        changed = tampered(envelope, data.draw(st.integers(0, len(envelope.payload) + 63)))
    else:
        at = data.draw(st.integers(0, len(original[name]) - 1))
        changed = original[name][:at] + bytes([original[name][at] ^ 1 << data.draw(st.integers(0, 7))])
        changed += original[name][at + 1 :]
    (fetched / name).write_bytes(changed)
    try:
        with pytest.raises(VerificationError):
            artifact.verified(fetched, key)
    finally:
        (fetched / name).write_bytes(original[name])
    artifact.verified(fetched, key)


@pytest.fixture
def fetched(delivery, run, tmp_path: Path) -> Path:
    delivery.publish("sst2", TARGET, VECTORS)
    assert run("fetch", "sst2", "--out", tmp_path / "fetched").status == 0
    (tmp_path / "publisher.pub").write_bytes(delivery.paths.publisher_public_key.read_bytes())
    return tmp_path / "fetched"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda out: (out / WEIGHTS_FILE).unlink(),
            "adapter_model.safetensors: missing, though it was signed",
        ),
        (
            lambda out: (out / "adapter_model.bin").write_bytes(b"x"),
            "adapter_model.bin: not named in the signed",
        ),
        (lambda out: (out / "sub").mkdir(), "sub: not a file of at most"),
        (lambda out: (out / STATEMENT_FILE).unlink(), "cannot read the signed statement: No such file"),
        (lambda out: (out / STATEMENT_FILE).write_text("{}"), "not a DSSE envelope: KeyError"),
        (lambda out: (out / STATEMENT_FILE).write_text("x"), "not a DSSE envelope: JSONDecodeError"),
        (lambda out: (out / STATEMENT_FILE).write_text("[" * 10**6), "not a DSSE envelope: RecursionError"),
        (lambda out: (out / STATEMENT_FILE).write_bytes(b" " * (17 * 2**20)), "larger than 16777216 bytes"),
    ],
)
def test_a_damaged_directory_does_not_verify(
    fetched: Path, run, damage: Callable[[Path], Any], message: str
) -> None:
    damage(fetched)
    assert_refused(run("verify", fetched), re.escape(message))


def test_verify_works_offline(delivery, fetched: Path, run) -> None:
    delivery.server.stop(0)
    outcome = run("verify", fetched, "--max-epsilon", 4, "--format", "json")
    assert (outcome.status, outcome.json["version"], outcome.json["target"]["name"]) == (0, 1, "target")


def test_a_limit_is_compared_with_the_worst_client(delivery, run, tmp_path: Path) -> None:
    def worse(told: dict[str, Any]) -> None:
        told["privacy"]["clients"][1]["epsilon"] = 7.5

    delivery.publish("sst2", TARGET, VECTORS, forge=worse)
    refused = run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 7)
    assert_refused(refused, r"the prompt claims ε 7\.5, accepted is at most 7")
    assert not (tmp_path / "got").exists()
    assert seen(tmp_path) is None
    assert (
        run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 7.5, "--max-delta", 1e-6).status == 0
    )
    assert_refused(
        run("verify", tmp_path / "got", "--max-delta", 1e-7), "claims δ 1e-06, accepted is at most 1e-07"
    )


@pytest.mark.parametrize("value", ["inf", "nan", -1, None, "much"])
def test_no_privacy_is_more_than_any_limit_and_nonsense_is_refused(
    delivery, run, tmp_path: Path, value: object
) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["privacy"].update(epsilon=value))
    outcome = run("fetch", "sst2", "--out", tmp_path / "got", "--max-epsilon", 1e9)
    assert_refused(outcome, "claims ε inf" if value == "inf" else "signed statement cannot be read")
    if value == "inf":
        assert run("fetch", "sst2", "--out", tmp_path / "got", "--format", "json").json["epsilon"] == "inf"


@pytest.mark.parametrize(
    "forge",
    [
        lambda told: told.update(prompt="other"),
        lambda told: told.update(version=7),
    ],
)
def test_a_statement_about_something_else_is_refused(delivery, run, tmp_path: Path, forge) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=forge)
    assert_refused(
        run("fetch", "sst2", "--out", tmp_path / "got"), "version 1 of prompt 'sst2' was asked for"
    )
    assert_refused(run("show", "sst2"), "was asked for")
    assert not (tmp_path / "got").exists()


def test_a_prompt_of_another_publisher_is_refused(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS, key=Ed25519PrivateKey.generate())
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "signed by key")
    assert_refused(run("show", "sst2"), "signed by key")
    assert not (tmp_path / "got").exists()


def test_an_older_latest_is_refused_and_an_explicit_version_is_warned_about(
    delivery, run, tmp_path: Path
) -> None:
    for factor in (1, 2):
        delivery.publish("sst2", TARGET, VECTORS * factor)
    assert run("fetch", "sst2", "--out", tmp_path / "two").status == 0
    assert seen(tmp_path) == {
        key_id(pki.load_publisher(delivery.paths.publisher_key).public_key()): {"sst2": 2}
    }
    delivery.store.set_prompt_state("sst2", 2, "revoked")

    refused = run("fetch", "sst2", "--out", tmp_path / "one")
    assert_refused(refused, "version 1 is offered as the latest, but 2 was seen before; if .* --version 1")
    assert not (tmp_path / "one").exists()
    chosen = run("fetch", "sst2", "--out", tmp_path / "one", "--version", 1)
    assert chosen.status == 0
    assert chosen.err == "warning: version 1 of 'sst2' is older than 2, seen before\n"
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "again"), "but 2 was seen before")


def test_a_version_counts_as_seen_only_after_every_check(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    run("fetch", "sst2", "--out", tmp_path / "one")
    delivery.publish("sst2", TARGET, VECTORS, tamper=lambda files: files.update({CONFIG_FILE: b"{}"}))
    before = seen(tmp_path)
    assert run("fetch", "sst2", "--out", tmp_path / "two").status == 6
    assert run("fetch", "sst2", "--out", tmp_path / "one", "--version", 2).status == 6
    assert seen(tmp_path) == before


def test_a_damaged_state_file_is_refused_and_kept(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    state = tmp_path / "mine.json"
    for content in ("{", "[]", '{"k": 1}', '{"k": {"sst2": "x"}}'):
        state.write_text(content)
        assert_refused(
            run("fetch", "sst2", "--out", tmp_path / "got", "--state", state), "mine.json: damaged"
        )
        assert state.read_text() == content
    assert not (tmp_path / "got").exists()


@settings(max_examples=25, deadline=None)  # each version seen is synced to the disk
@given(st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from("pq"), st.integers(1, 99)), max_size=12))
def test_the_highest_version_seen_never_goes_down(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, str, int]]
) -> None:
    path = tmp_path_factory.mktemp("seen") / "versions.json"
    highest: dict[tuple[str, str], int] = {}
    for key, prompt, version in history:
        SeenVersions(path).remember(key, prompt, version)
        highest[key, prompt] = max(version, highest.get((key, prompt), 0))
    for (key, prompt), version in highest.items():
        assert SeenVersions(path).highest(key, prompt) == version
        SeenVersions(path).require_not_older(key, prompt, version)
        with pytest.raises(VerificationError):
            SeenVersions(path).require_not_older(key, prompt, version - 1)


def test_what_is_not_there_is_one_line_and_status_1(delivery, run, tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    assert_refused(run("fetch", "other", "--out", tmp_path / "got"), "no prompt 'other' is published", 1)
    assert_refused(run("show", "sst2", "--version", 9), "no version 9 of prompt 'sst2' is published", 1)
    delivery.store.set_prompt_state("sst2", 1, "revoked")
    assert_refused(run("fetch", "sst2", "--out", tmp_path / "got"), "no prompt 'sst2' is published", 1)


def test_in_json_an_error_is_an_object_with_its_symbol(run, tmp_path: Path) -> None:
    outcome = run("show", "other", "--format", "json")
    assert outcome.json == {"error": "not_found", "message": "no prompt 'other' is published"}
    assert outcome.status == 1


def test_a_server_that_is_down_and_a_wrong_ca_are_told_apart(delivery, run, tmp_path: Path) -> None:
    other = PkiPaths.under(tmp_path / "other")
    pki.create(other)
    assert_refused(run("list", "--ca", other.ca), "is not signed by the given CA")
    delivery.server.stop(0)
    assert_refused(run("list"), f"no coordinator answers at {delivery.address}: connection refused", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "--ca", "absent.pem"], "absent.pem: cannot read the CA: No such file"),
        (["list", "--key", "absent.pub"], "absent.pub: cannot read the publisher's key: No such file"),
        (["list", "--server", "nonsense"], "'nonsense' is not host:port"),
        (["fetch", "A", "--out", "x"], "prompt name 'A' must be"),
        (["fetch", "sst2"], "Missing option '--out'"),
        (["verify", "absent"], "absent: no such directory"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*words), message, 2)


def test_a_key_of_another_kind_is_refused(delivery, run, tmp_path: Path) -> None:
    (tmp_path / "junk.pub").write_text("junk")
    assert_refused(run("list", "--key", tmp_path / "junk.pub"), "not a PEM public key", 2)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key = load_pem_private_key(delivery.paths.key.read_bytes(), None).public_key()
    (tmp_path / "ec.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert_refused(run("list", "--key", tmp_path / "ec.pub"), "not an Ed25519 public key", 2)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_a_prompt_is_tried_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path, tiny_masked: Path, kind: str
) -> None:
    directory = {"causal": tiny_causal, "masked": tiny_masked}[kind]
    model = load(directory)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

    delivery.publish("sst2", model.ref, vectors, forge=lambda told: told.update(lm_head=model.lm_head))
    assert run("fetch", "sst2", "--out", tmp_path / "got").status == 0
    texts = ["The film was great and the actors were good.", "A terrible plot."]
    words = ["try", tmp_path / "got", "--model", directory, "--text", texts[0], "--text", texts[1]]
    results = run(*words, "--format", "json").json["results"]

    encoder = model.encoder(delivery.task)
    logits = model.answer_logits(encoder.encode(texts), SoftPrompt(vectors, model.ref))
    expected = label_logits(logits, encoder.words).softmax(dim=1)
    for result, row in zip(results, expected.tolist(), strict=True):
        assert list(result["probabilities"]) == ["positive", "negative"]
        assert list(result["probabilities"].values()) == pytest.approx(row, abs=1e-5)
        assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    assert re.search(r"(positive|negative) 0\.\d{3}  (positive|negative) 0\.\d{3}  The film", run(*words).out)


@pytest.mark.parametrize(("causal", "kind"), [(True, "causal"), (False, "masked")])
def test_a_statement_from_before_tells_of_causal_and_masked_models_alone(
    say, tiny_task, causal, kind
) -> None:
    told = say("sst2", 1, TARGET, tiny_task)
    del told["lm_head"]
    assert Claim.of(Statement({}, {**told, "causal": causal})).lm_head == kind
    with pytest.raises(VerificationError, match="cannot be read"):
        Claim.of(Statement({}, told))


@pytest.mark.parametrize("kind", ["both", None, ["causal"]])
def test_a_statement_of_an_unknown_kind_of_model_is_refused(say, tiny_task, kind) -> None:
    told = {**say("sst2", 1, TARGET, tiny_task), "lm_head": kind}
    with pytest.raises(VerificationError, match="cannot be read"):
        Claim.of(Statement({}, told))


TOLD = {"labels": [{"name": "good", "words": ["great evening"]}, {"name": "bad", "words": ["awful", "bad"]}]}


def test_words_of_several_tokens_are_read_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path, tiny_masked: Path
) -> None:
    for directory in (tiny_causal, tiny_masked):
        model = load(directory)
        vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))

        def forge(told: dict[str, Any], lm_head: str = model.lm_head) -> None:
            told.update(lm_head=lm_head, task={**told["task"], **TOLD, "label_reading": "whole"})

        delivery.publish("words", model.ref, vectors, forge=forge)
        out = tmp_path / directory.parent.name
        assert run("fetch", "words", "--out", out).status == 0
        words = ["try", out, "--model", directory, "--text", "A terrible plot.", "--format", "json"]
        (result,) = run(*words).json["results"]
        task = artifact.verified(out, pki.load_publisher(delivery.paths.publisher_key).public_key()).task
        expected = class_logits(model, task, ["A terrible plot."], SoftPrompt(vectors, model.ref)).softmax(1)
        assert list(result["probabilities"].values()) == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.fixture
def headed(delivery) -> Task:
    labels = (Label("good", ()), Label("bad", ()), Label("neither", ()))
    return replace(delivery.task, template="{text}", labels=labels, label_reading="head")


@pytest.mark.parametrize("kind", ["tiny_causal", "tiny_masked", "tiny_encoder"])
def test_a_head_reads_what_stock_peft_makes_of_a_text(
    delivery, run, tmp_path: Path, request: pytest.FixtureRequest, kind: str, headed: Task
) -> None:
    model = load(request.getfixturevalue(kind))
    vectors = torch.randn(2 + 3, 32, generator=torch.Generator().manual_seed(0))
    told = {"lm_head": model.lm_head, "task": asdict(headed)}
    delivery.publish("heads", model.ref, vectors, forge=lambda predicate: predicate.update(told), head_rows=3)
    assert run("fetch", "heads", "--out", tmp_path / "got").status == 0
    assert (tmp_path / "got" / HEAD_FILE).is_file()
    words = ["try", tmp_path / "got", "--model", request.getfixturevalue(kind), "--text", "A terrible plot."]
    (result,) = run(*words, "--format", "json").json["results"]
    both = SoftPrompt(vectors, model.ref)
    expected = class_logits(model, headed, ["A terrible plot."], both).softmax(1)
    assert list(result["probabilities"].values()) == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("read_by_head", "head_rows", "says"),
    [
        (False, 3, "head.safetensors: a head and a task read by one belong together"),
        (True, 0, "head.safetensors: a head and a task read by one belong together"),
        (True, 2, "head.safetensors: 2 classes where the task has 3"),
    ],
)
def test_a_head_that_does_not_fit_its_task_is_refused(
    delivery, run, tmp_path: Path, headed: Task, read_by_head: bool, head_rows: int, says: str
) -> None:
    told = {"task": asdict(headed if read_by_head else delivery.task)}
    delivery.publish(
        "heads", TARGET, torch.ones(5, 32), forge=lambda signed: signed.update(told), head_rows=head_rows
    )
    assert_refused(run("fetch", "heads", "--out", tmp_path / "got"), says)


def test_an_answer_in_free_text_is_written_through_stock_peft(
    delivery, run, tmp_path: Path, tiny_causal: Path
) -> None:
    model = load(tiny_causal)
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    task = replace(delivery.task, labels=(), kind="text", answer_tokens=5)
    delivery.publish("slots", model.ref, vectors, forge=lambda told: told.update(task=asdict(task)))
    assert run("fetch", "slots", "--out", tmp_path / "got").status == 0
    texts = ["The film was great.", "A terrible plot."]
    words = ["try", tmp_path / "got", "--model", tiny_causal, "--text", texts[0], "--text", texts[1]]
    expected = answers(model, task, texts, SoftPrompt(vectors, model.ref))
    results = [{"text": text, "answer": answer} for text, answer in zip(texts, expected, strict=True)]
    assert run(*words, "--format", "json").json["results"] == results
    assert all(f"{answer}  {text}" in run(*words).out for text, answer in zip(texts, expected, strict=True))


def test_a_prompt_is_not_tried_on_another_model_or_unverified(
    delivery, run, fetched: Path, tiny_causal: Path
) -> None:
    words = ["try", fetched, "--model", tiny_causal, "--text", "fine"]
    assert_refused(run(*words), "the prompt is for 'target' with digest aaaaaaaaaaaaaaaa", 2)
    (fetched / CONFIG_FILE).write_text("{}")
    assert_refused(run(*words), "adapter_config.json: SHA-256")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_whatever_was_signed_is_read_or_refused(say, tiny_task: Task, data: st.DataObject) -> None:
    told: Any = say("sst2", 1, TARGET, tiny_task)
    told["task"]["labels"] = list(told["task"]["labels"])
    place: Any = told
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    with suppress(VerificationError):
        claim = Claim.of(Statement({}, told))
        assert claim.privacy.epsilon >= 0
        assert claim.privacy.delta >= 0


@given(st.text(), st.binary(), st.text(), st.binary())
def test_an_envelope_survives_its_file(kind: str, payload: bytes, signer: str, signature: bytes) -> None:
    envelope = Envelope(kind, payload, signer, signature)
    assert from_json(to_json(envelope)) == envelope


@pytest.fixture
def environment(delivery, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PROMPTFERRY_SERVER": delivery.address,
        "PROMPTFERRY_CA": str(delivery.paths.ca),
        "PROMPTFERRY_KEY": str(delivery.paths.publisher_public_key),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


def test_listing_and_showing_prompts_needs_no_pytorch(delivery, environment: dict[str, str]) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    script = (
        "import sys\nfrom client.user import app\nfrom transfer import console\n"
        "for words in (['list'], ['show', 'sst2']):\n"
        "    try: console.run(app, words)\n    except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "3.9" in done.stdout


@pytest.mark.slow
def test_the_command_runs_as_a_process(delivery, environment: dict[str, str], tmp_path: Path) -> None:
    delivery.publish("sst2", TARGET, VECTORS)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client.user", *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    got = run("fetch", "sst2", "--out", str(tmp_path / "got"), "--format", "json")
    assert (got.returncode, got.stderr) == (0, "")
    assert json.loads(got.stdout)["verified"] is True
    lost = run("show", "other")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert lost.stderr == "error: no prompt 'other' is published\n"
