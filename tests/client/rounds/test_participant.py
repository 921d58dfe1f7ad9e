import json
import logging
import math
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from client.ledger.ledger import Ledger
from client.private.dpsgd import tune
from client.rounds.consent import Reconnect
from client.rounds.participant import Participant
from client.rounds.policy import ANY, Ask, Policy
from tests.client.rounds.owner import NOON, ROWS, Owner, breaking, for_users, leaking, signed
from tests.client.rounds.test_policy import allowed, asks, policies
from tests.promises import Measured
from transfer.errors import VerificationError
from transfer.model_ref import ModelRef
from transfer.privacy import Budget, Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import KEY_BYTES, Roster
from transfer.protocol.round_wire import reply_from_bytes, reply_to_bytes
from transfer.protocol.rounds import Decline, Refusal, Release, RoundRequest, Tuning
from transfer.protocol.signing import REPLY_TYPE
from transfer.protocol.wire import envelope_from_bytes
from transfer.subspace import Subspace
from transfer.tasks import Label, Task


def broken(proxy: Path) -> None:
    weights = load_file(proxy / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, proxy / "model.safetensors", metadata={"format": "pt"})


def shrunk(proxy: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(proxy)
    tokenizer.add_tokens(["harbour"])
    tokenizer.save_pretrained(proxy)


@pytest.mark.promise("self-check")
@pytest.mark.parametrize("fault", [broken, shrunk])
def test_a_proxy_that_fails_its_self_check_is_declined_in_one_line_and_nothing_is_spent(
    owner: Owner, tmp_path: Path, fault: Callable[[Path], None], measured: Measured
) -> None:
    owner.proxy = Path(shutil.copytree(owner.proxy, tmp_path / "copy"))
    fault(owner.proxy)
    (owner.directory / "proxies" / "tiny").unlink()
    (owner.directory / "proxies" / "tiny").symlink_to(owner.proxy)
    for _ in range(2):
        assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.FAILED
    measured(reservations=len(owner.spends()))
    assert owner.spends() == []
    assert owner.tunings == 0
    (declined,) = owner.declines()
    assert declined.why.startswith("model 'tiny': ")


@pytest.mark.parametrize("unit", ["record", "user"])
def test_a_round_that_protects_the_other_unit_is_declined_by_the_policy_and_told_in_the_log(
    owner: Owner, unit: str, caplog: pytest.LogCaptureFixture
) -> None:
    owner.protect_users("ann", "ben", "ann")
    owner.policy = replace(owner.policy, unit=unit)
    asked = owner.sent() if unit == "user" else owner.sent(**for_users())
    assert owner.refusal(owner.participant().answer(asked)) is Refusal.POLICY
    other = {"record": "user", "user": "record"}[unit]
    assert f"declined: policy: policy unit: {other} asked, {unit} allowed" in caplog.text
    assert owner.ledger.entries() == []
    assert owner.tunings == 0


def test_data_spent_for_records_is_not_spent_for_users_before_or_after_a_restart(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(owner.read(owner.participant().answer(owner.sent())), Release)
    owner.protect_users("ann", "ben", "ann")
    asked = owner.sent(round="campaigns/other/rounds/1", **for_users())
    for _ in range(2):
        assert owner.refusal(owner.participant().answer(asked)) is Refusal.BUDGET
        assert "was spent for one record so far, this round is for one user" in caplog.text
        owner.ledger.close()
        owner.ledger = Ledger.open(owner.place)
    assert (owner.tunings, len(owner.spends())) == (1, 1)


def test_new_records_of_a_user_whose_budget_is_used_up_are_not_new_data(owner: Owner) -> None:
    spend = Spend(1.0, 0.5, 2, "user")
    owner.protect_users("ann", "ben", "ann")
    owner.policy = replace(owner.policy, budget=Budget(epsilon([spend], 1e-4) + 0.1, 1e-4))
    assert isinstance(owner.read(owner.participant().answer(owner.sent(**for_users()))), Release)
    asked = owner.sent(round="campaigns/other/rounds/1", **for_users())
    for user, expected in (("ben", Decline), ("cleo", Release)):
        row = {"text": f"quite another text of {user}", "label": 0, "user": user}
        owner.data.write_text(json.dumps(row) + "\n")
        assert isinstance(owner.read(owner.participant().answer(asked)), expected)


def test_a_record_without_a_user_fails_the_round_before_it_costs_anything(owner: Owner) -> None:
    owner.policy = replace(owner.policy, unit="user")
    assert owner.refusal(owner.participant().answer(owner.sent(**for_users()))) is Refusal.FAILED
    assert owner.ledger.entries() == []


def test_a_masked_proxy_serves_as_well(tmp_path: Path, tiny_masked: Path, tiny_task: Task) -> None:
    owner = Owner(tmp_path, tiny_masked, tiny_task)
    assert isinstance(owner.read(owner.participant().answer(owner.sent())), Release)
    owner.ledger.close()


def test_a_proxy_without_an_lm_head_serves_a_task_read_by_a_head_and_declines_others_unpaid(
    tmp_path: Path, tiny_encoder: Path, tiny_task: Task, head_task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Owner(tmp_path, tiny_encoder, tiny_task)
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.FAILED
    assert 'write label_reading = "head"' in caplog.text
    assert owner.spends() == []
    release = owner.read(owner.participant().answer(owner.sent(task=head_task)))
    assert isinstance(release, Release)
    assert release.prompt.vectors.abs().max() > 0
    owner.ledger.close()


def test_the_last_round_of_a_campaign_is_answered(owner: Owner) -> None:
    last = owner.sent(round="campaigns/reviews/rounds/3", rounds=3)
    assert isinstance(owner.read(owner.participant().answer(last)), Release)


def test_rows_of_a_head_take_none_of_the_positions(owner: Owner, head_task: Task, caplog) -> None:
    """A prompt of three rows is one token and a row for each of two labels."""
    assert head_task.head_rows == 2
    full = replace(head_task, max_tokens=127)
    longer = owner.sent(task=replace(full, max_tokens=128), round="campaigns/reviews/rounds/2")
    assert owner.refusal(owner.participant().answer(longer)) is Refusal.FAILED
    assert "128 positions, prompt and line need 129" in caplog.text
    assert owner.spends() == []
    assert isinstance(owner.read(owner.participant().answer(owner.sent(task=full))), Release)


@pytest.mark.promise("same-answer")
def test_the_same_round_asked_again_gets_the_same_bytes_also_after_a_restart(
    owner: Owner, measured: Measured
) -> None:
    answers = []
    for _ in range(5):
        participant = owner.participant()
        answers += [participant.answer(owner.sent()) for _ in range(20)]
        owner.ledger.close()
        owner.ledger = Ledger.open(owner.place)
    measured(asked=len(answers), different_answers=len(set(answers)), reservations=len(owner.spends()))
    assert len(set(answers)) == 1
    assert owner.tunings == 1
    assert len(owner.spends()) == 1


@pytest.mark.promise("same-answer")
@pytest.mark.parametrize(
    "change",
    [
        {"nonce": b"m" * 16},
        {"rounds": 4},
        {"tuning": Tuning(Spend(2.0, 0.5, 2), 0.5, 0.1)},
        {"cohort": 4},
        {"roster": Roster((b"a" * KEY_BYTES,))},
    ],
)
def test_another_question_under_an_answered_round_is_never_a_second_tuning(
    owner: Owner, change: dict
) -> None:
    participant = owner.participant()
    first = participant.answer(owner.sent())
    answer = owner.read(participant.answer(owner.sent(**change)))
    assert isinstance(answer, Decline)
    assert answer.refusal is Refusal.POLICY
    assert owner.tunings == 1
    assert participant.answer(owner.sent()) == first


def test_a_request_of_another_signer_is_not_even_read(owner: Owner) -> None:
    with pytest.raises(VerificationError, match="signed by key"):
        owner.participant().answer(signed(owner.request(), Ed25519PrivateKey.generate()))
    assert owner.ledger.head()[0] == 0


def test_one_changed_byte_anywhere_in_a_request_is_noticed(owner: Owner) -> None:
    sent, participant = owner.sent(), owner.participant()
    for position in range(0, len(sent), 7):
        changed = sent[:position] + bytes([sent[position] ^ 1]) + sent[position + 1 :]
        with pytest.raises(VerificationError):
            participant.answer(changed)
    assert owner.ledger.head()[0] == 0


def test_a_request_meant_for_another_client_is_refused(owner: Owner) -> None:
    with pytest.raises(VerificationError, match="asks client 'hospital-b', this is 'hospital-a'"):
        owner.participant().answer(owner.sent(client="hospital-b"))
    assert owner.ledger.head()[0] == 0


def test_a_reply_cannot_be_played_back_as_a_request(owner: Owner) -> None:
    reply = owner.participant().answer(owner.sent())
    with pytest.raises(VerificationError, match="expected"):
        owner.participant().answer(reply)


@pytest.mark.promise("policy", "cohort")
@pytest.mark.parametrize(
    ("policy", "change"),
    [
        ({"tasks": ()}, {}),
        ({"proxies": ("0" * 64,)}, {}),
        ({"min_noise_multiplier": 1.5}, {}),
        ({"max_steps": 1}, {}),
        ({"max_rounds": 2}, {}),
        ({"min_cohort": 4}, {}),
        ({"hours": (22, 6)}, {}),
        ({}, {"tuning": Tuning(Spend(0.0, 0.5, 2), 0.5, 0.1)}),
        ({}, {"rounds": 0}),
        ({}, {"cohort": 0}),
        ({}, {"cohort": 4}),
        ({}, {"roster": Roster(tuple(bytes([number]) * KEY_BYTES for number in range(3)))}),
        ({}, {"round": "campaigns/reviews/rounds/4"}),
    ],
)
def test_what_the_policy_does_not_allow_is_declined_and_costs_nothing(
    owner: Owner, policy: dict, change: dict
) -> None:
    owner.policy = replace(owner.policy, **policy)
    assert owner.refusal(owner.participant().answer(owner.sent(**change))) is Refusal.POLICY
    assert owner.ledger.entries() == []
    assert owner.tunings == 0
    [declined] = owner.declines()
    assert declined.round_name == owner.request(**change).round
    assert declined.refusal == "policy"
    [name] = [*policy, *change]
    assert {"tuning": "noise", "round": "round 4 of a campaign of 3"}.get(name, name) in declined.why


@pytest.mark.slow
@pytest.mark.promise("policy")
def test_five_thousand_requests_are_within_the_policy_or_declined_and_written_down(
    owner: Owner, caplog: pytest.LogCaptureFixture, measured: Measured
) -> None:
    # without noise in its past nothing more is to be computed of ε, which is infinite
    owner.policy = replace(owner.policy, budget=Budget(math.inf, 1e-6))
    free, clock = owner.request(tuning=Tuning(Spend(0.0, 0.5, 1), 0.5, 0.1)), [NOON]

    def participant() -> Participant:
        return owner.participant(
            tune=lambda _m, _records, _task, start, *_, **__: start, now=lambda: clock[0]
        )

    assert isinstance(owner.read(participant().answer(signed(free, owner.publisher))), Release)
    # so few names that every second fits
    tasks = dict.fromkeys(("sst2", "agnews", "imdb"), "reviews") | {ANY: ANY}
    proxies = dict.fromkeys(("sst2", "agnews", "sha256:aa"), free.proxy.digest) | {ANY: ANY}
    outcomes: Counter[str] = Counter()

    @settings(max_examples=5000, deadline=None)
    @given(policies, asks, st.integers(0, 23))
    def judge(policy: Policy, ask: Ask, hour: int) -> None:
        clock[0] = NOON.replace(hour=hour)
        policy = replace(
            policy,
            tasks=tuple(tasks.get(name, "other") for name in policy.tasks),
            proxies=tuple(proxies.get(name, "0" * 64) for name in policy.proxies),
        )
        ask = replace(
            ask,
            task="reviews" if ask.task in tasks else "other",
            proxy=free.proxy.digest if ask.proxy in proxies else "0" * 64,
        )
        request = replace(
            free,
            round=f"campaigns/c{outcomes.total()}/rounds/1",
            rounds=ask.rounds,
            cohort=ask.cohort,
            roster=owner.roster(max(1, ask.cohort)),
            task=replace(owner.task, name=ask.task),
            tuning=replace(free.tuning, spend=ask.spend),
            prompt=replace(free.prompt, model=ModelRef("tiny", ask.proxy)),
        )
        owner.policy = policy
        caplog.clear()
        reply = owner.read(participant().answer(signed(request, owner.publisher)))
        outcome = reply.refusal.name.lower() if isinstance(reply, Decline) else "released"
        assert (outcome == "policy") != allowed(policy, ask, hour)
        assert (outcome == "policy") == ("declined: policy: policy " in caplog.text)
        if isinstance(reply, Decline):
            declined = owner.ledger.declines()[-1].declined
            assert (declined.round_name, declined.refusal) == (request.round, outcome)
            assert f"{declined.round_name}: declined: {outcome}: {declined.why}" in caplog.text
        outcomes[outcome] += 1

    judge()
    released = outcomes["released"]
    measured(requests=outcomes.total(), declined_by_the_policy=outcomes["policy"], released=released)
    measured(rows_of_declines=len(owner.declines()))
    assert len(owner.declines()) == outcomes.total() - released
    assert released > 10


def test_an_owner_who_widens_the_policy_takes_part_in_the_round_declined_before(owner: Owner) -> None:
    wide = owner.policy
    owner.policy = replace(wide, tasks=())
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.POLICY
    owner.policy = wide
    assert isinstance(owner.read(owner.participant().answer(owner.sent())), Release)


@pytest.mark.promise("budget")
def test_a_round_the_budget_does_not_cover_is_declined_and_leaves_no_spend(owner: Owner) -> None:
    spend = owner.request().tuning.spend
    owner.policy = replace(owner.policy, budget=Budget(epsilon([spend], 1e-4) + 0.1, 1e-4))
    participant = owner.participant()
    assert isinstance(owner.read(participant.answer(owner.sent())), Release)
    second = owner.sent(round="campaigns/reviews/rounds/2")
    assert owner.refusal(participant.answer(second)) is Refusal.BUDGET
    assert owner.refusal(participant.answer(second)) is Refusal.BUDGET
    assert owner.spends() == [spend]
    assert owner.tunings == 1
    [declined] = owner.declines()
    assert declined.refusal == "budget"
    assert "has spent ε " in declined.why
    owner.policy = replace(owner.policy, budget=Budget(20.0, 1e-4))
    assert isinstance(owner.read(owner.participant().answer(second)), Release)


STOPPING = threading.Event()
STOPPING.set()


def test_a_round_that_the_owner_stopped_is_answered_later_under_the_same_reservation(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert owner.refusal(owner.participant(stop=STOPPING).answer(owner.sent())) is Refusal.FAILED
    assert "declined: failed: abandoned, the daemon is stopping" in caplog.text
    assert owner.refusal(owner.participant().answer(owner.sent(cohort=2))) is Refusal.SPENT
    owner.policy = replace(owner.policy, tasks=())
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.POLICY
    owner.policy = replace(
        owner.policy, tasks=("*",), budget=Budget(1e-3, 1e-4)
    )  # what is paid for needs no budget
    reply = owner.participant().answer(owner.sent())
    assert isinstance(owner.read(reply), Release)
    assert owner.participant(stop=STOPPING).answer(owner.sent()) == reply
    assert (len(owner.spends()), owner.tunings) == (1, 3)


@pytest.mark.parametrize("stopping", [False, True], ids=["running", "while the daemon is stopping"])
def test_a_round_whose_tuning_broke_is_over_also_in_its_second_try(owner: Owner, stopping: bool) -> None:
    broken = owner.participant(tune=breaking, stop=STOPPING if stopping else None)
    assert owner.refusal(broken.answer(owner.sent())) is Refusal.FAILED
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.SPENT
    other = owner.sent(round="campaigns/other/rounds/1")
    assert owner.refusal(owner.participant(stop=STOPPING).answer(other)) is Refusal.FAILED
    assert owner.refusal(broken.answer(other)) is Refusal.FAILED
    assert owner.refusal(owner.participant().answer(other)) is Refusal.SPENT
    assert len(owner.spends()) == 2


def test_a_stop_does_not_outlive_a_declared_loss(owner: Owner) -> None:
    owner.participant(stop=STOPPING).answer(owner.sent())
    owner.ledger.close()
    owner.ledger = Ledger.declare_loss(owner.place, Spend(1.0, 0.5, 2))
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.SPENT


def test_a_prompt_of_another_width_fails_before_it_costs_anything(owner: Owner, caplog) -> None:
    prompt = SoftPrompt(torch.zeros(3, 31), owner.request().proxy)
    assert owner.refusal(owner.participant().answer(owner.sent(prompt=prompt))) is Refusal.FAILED
    assert "the prompt has width 31, proxy 'tiny' has 32" in caplog.text
    assert owner.ledger.entries() == []


def test_directions_that_would_stretch_a_step_fail_before_they_cost_anything(owner: Owner) -> None:
    stretched = Subspace(torch.ones(1, 3, 32))
    assert owner.refusal(owner.participant().answer(owner.sent(subspace=stretched))) is Refusal.FAILED
    [declined] = owner.declines()
    assert declined.why.startswith("subspace directions are 95 off orthonormal")
    assert owner.spends() == []


def test_an_owner_who_was_asked_just_now_answers_nothing_yet(owner: Owner) -> None:
    def asking(_asked: RoundRequest) -> None:
        raise Reconnect

    with pytest.raises(Reconnect):
        owner.participant(consent=asking).answer(owner.sent())
    assert owner.ledger.head()[0] == 0


def test_lines_longer_than_the_proxys_positions_fail_before_they_cost_anything(owner: Owner, caplog) -> None:
    long = owner.sent(task=replace(owner.task, max_tokens=126))
    assert owner.refusal(owner.participant().answer(long)) is Refusal.FAILED
    assert "128 positions, prompt and line need 129; lower the task's max_tokens" in caplog.text
    assert owner.spends() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((("unbelievable",), ("bad",)), "label word 'unbelievable' of 'positive' is"),
        ((("great",), ("zzz",)), "label word 'zzz' of 'negative' is"),
    ],
)
def test_label_words_the_proxy_cannot_say_are_told_and_cost_nothing(
    owner: Owner, words, message, caplog
) -> None:
    task = replace(owner.task, labels=(Label("positive", words[0]), Label("negative", words[1])))
    assert owner.refusal(owner.participant().answer(owner.sent(task=task))) is Refusal.FAILED
    assert message in caplog.text
    assert owner.ledger.entries() == []


def test_a_proxy_that_is_not_here_fails_the_round_by_name(owner: Owner, caplog) -> None:
    (owner.directory / "proxies" / "tiny").unlink()
    assert owner.refusal(owner.participant().answer(owner.sent())) is Refusal.FAILED
    assert "proxy 'tiny' with digest" in caplog.text
    assert owner.ledger.entries() == []


def test_changed_data_is_read_again_and_stays_the_same_data_set(owner: Owner) -> None:
    counts: list[int] = []

    def counting(*arguments: object, **named: object) -> SoftPrompt:
        counts.append(len(arguments[1].texts))
        return tune(*arguments, **named)

    participant = owner.participant(tune=counting)
    participant.answer(owner.sent())
    owner.write([*ROWS, ("the music was boring", "negative")])
    participant.answer(owner.sent(round="campaigns/reviews/rounds/2"))
    assert counts == [3, 4]
    assert len(owner.ledger.data_sets()) == 1


def planted() -> list[str]:
    return [secrets.token_hex(16) for _ in range(20)]


@pytest.mark.promise("egress")
@pytest.mark.parametrize(
    "case", ["release", "users", "nameless", "exception", "malformed", "unknown label", "budget"]
)
def test_planted_strings_never_leave_the_data_file(
    owner: Owner, case: str, caplog, capfd, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    strings = planted()
    rows = [(f"patient {string} was fine", "positive") for string in strings]
    owner.write([("x", strings[0]), *rows] if case == "unknown label" else rows)
    by_user = case in ("users", "nameless")
    if by_user:
        owner.policy = replace(owner.policy, unit="user")
        lines = [
            {"text": f"fine {n}", "label": 0, "user": f"patient {string}"} for n, string in enumerate(strings)
        ]
        lines[-1] |= {"user": [strings[-1]]} if case == "nameless" else {}
        owner.data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if case == "malformed":
        owner.data.write_text(owner.data.read_text() + f'{{"text": "{strings[0]}", "label"')
    if case == "budget":
        owner.policy = replace(owner.policy, budget=Budget(0.01, 1e-4))
    (owner.directory / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(owner.directory / "tmp"))
    monkeypatch.chdir(owner.directory)
    caplog.set_level(logging.DEBUG)
    tuning = {"tune": leaking(1)} if case == "exception" else {}
    reply = owner.participant(**tuning).answer(owner.sent(**for_users() if by_user else {}))
    expected = Release if case in ("release", "users") else Decline
    assert isinstance(owner.read(reply), expected)
    captured = capfd.readouterr()
    streams = {
        "reply": reply,
        "log": caplog.text.encode(),
        "out": captured.out.encode(),
        "err": captured.err.encode(),
    }
    files = {
        path: path.read_bytes()
        for path in owner.directory.rglob("*")
        if path.is_file() and path != owner.data
    }
    measured(streams_and_files=len(streams) + len(files))
    assert owner.directory / "ledger.db" in files
    for name, content in [*streams.items(), *files.items()]:
        for string in strings:
            for form in (string.encode(), bytes.fromhex(string), string[:16].encode()):
                assert form not in content, f"{name} holds a planted string"


@pytest.mark.promise("egress")
def test_every_byte_of_a_reply_is_a_named_public_field(owner: Owner) -> None:
    reply = owner.participant().answer(owner.sent())
    payload = envelope_from_bytes(reply).verify(owner.signing.public_key(), REPLY_TYPE)
    assert reply_to_bytes(reply_from_bytes(payload)) == payload
