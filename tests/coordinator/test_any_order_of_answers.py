"""Whatever clients answer, in whatever order, through restarts and resumptions: generated, on a real store."""

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from coordinator.campaigns.runner import Runner, _Course
from coordinator.campaigns.watch import look
from coordinator.delivery.enrolment import invite
from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings
from coordinator.rounds.aggregation import combine
from coordinator.rounds.cohort import Cohort
from coordinator.rounds.fleet import Outcome
from coordinator.rounds.history import retrace
from coordinator.rounds.plan import CampaignPlan
from coordinator.rounds.round_spec import RoundSpec, roster
from coordinator.rounds.server_optimizers import ServerOptimizer
from coordinator.store.records import RELEASED, CampaignState, ProxyRecord, RoundState, utc_now
from coordinator.store.store import Store
from tests.coordinator.conftest import Owner, one_hot, tiny_plan
from transfer.errors import DeadlineError
from transfer.model_ref import ModelRef
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.protocol.rounds import Decline, Refusal, Release
from transfer.protocol.signing import STATEMENT_TYPE, sign

PROXY, GUARANTEE = ModelRef("tiny", "0" * 64), Guarantee(1.0, 1e-7)
CLIENTS = ("ada", "ben", "cleo", "dan")
RELEASES = {"release": 1.0, "another release": 0.5, "long release": 30.0}
"""Releases that hold, by the length of their update; the norm gate leaves the last one out among others."""
DECLINES = {f"declined: {refusal.name.lower()}": refusal for refusal in Refusal}
SILENCES = ("timeout", "offline", "node_unavailable", "client_error:ValueError")
KINDS = (*RELEASES, *RELEASES, *DECLINES, "junk", "release of another round", *SILENCES)

Answer = tuple[str, str]
ANSWERS = st.tuples(st.sampled_from(CLIENTS), st.sampled_from(KINDS))


def attempts(most: int, answers: int) -> st.SearchStrategy[list[dict[str, object]]]:
    """Up to `most` attempts at a round, with up to so many answers in each of three places."""
    heard = st.lists(ANSWERS, max_size=answers)
    parts = {"restart": st.booleans(), "elsewhere": heard, "answers": heard, "late": heard}
    return st.lists(st.fixed_dictionaries(parts), min_size=1, max_size=most)


@dataclass
class Stage:
    """A store on disk that two processes have open, with four clients; each sequence is a campaign of its own."""

    url: str
    plan: CampaignPlan
    identity: Identity = field(default_factory=lambda: Identity(Ed25519PrivateKey.generate(), b"s" * 32))
    owners: dict[str, Owner] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.store, self.second = Store.open(self.url), Store.open(self.url)
        statement = sign(b"{}", STATEMENT_TYPE, self.identity.publisher)
        self.store.add_proxy(ProxyRecord("tiny", PROXY, PROXY, (0,), (), Path("/nowhere"), statement))
        for index, name in enumerate(CLIENTS):
            owner = self.owners[name] = Owner(name, one_hot(index))
            token, raw = invite(self.store, name, utc_now()), owner.key.public_key().public_bytes_raw()
            self.store.enrol(name, token, name.encode(), raw, utc_now())

    def close(self) -> None:
        self.store.close()
        self.second.close()

    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.url)

    def campaign(self) -> "Campaign":
        plan = replace(self.plan, name=f"campaign-{next(self.numbers)}", rounds=1, min_clients=2)
        self.store.add_campaign(plan.name, plan.to_json())
        start = SoftPrompt(torch.ones(2, 8), PROXY)
        opened = self.store.open_round(plan.name, 1, start.to_bytes(), roster(self.store).to_bytes())
        return Campaign(self, RoundSpec.of(plan, opened, PROXY))


@dataclass
class Campaign:
    """One sequence, with what was heard in it and what therefore has to be true.

    It is a fleet as well: `answers` reach the process that serves, `elsewhere` a second one, in turns.

    Attributes:
        first: the first release of each client that was heard while the round was open.
        releases: every release that was heard at any time.
        closed: whether the round is.
    """

    stage: Stage
    spec: RoundSpec
    first: dict[str, bytes] = field(default_factory=dict)
    releases: set[tuple[str, bytes]] = field(default_factory=set)
    closed: bool = False
    answers: list[Answer] = field(default_factory=list)
    elsewhere: list[Answer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.spec.plan.name

    @property
    def state(self) -> CampaignState:
        return self.stage.store.campaign(self.name).state

    def cohort(self, store: Store) -> Cohort:
        return Cohort(store, self.stage.identity, self.spec)

    def outcome(self, client: str, kind: str) -> Outcome:
        """An answer of that kind as it comes over the network; noted if it is a release."""
        owner, request = self.stage.owners[client], self.spec.to(client, self.stage.identity)
        if kind in SILENCES:
            return Outcome(error=kind)
        if kind in DECLINES:
            return Outcome(owner.sealed(Decline(request.round, client, request.nonce, DECLINES[kind])))
        if kind == "junk":
            return Outcome(kind.encode())
        moved = SoftPrompt(request.prompt.vectors + RELEASES.get(kind, 1.0) * owner.update(request), PROXY)
        release = Release(request.round, client, request.nonce, moved, request.tuning.spend, GUARANTEE)
        if kind not in RELEASES:
            return Outcome(owner.sealed(replace(release, round="campaigns/x/rounds/1")))
        reply = owner.sealed(release)
        self.releases.add((client, reply))
        if not self.closed:
            self.first.setdefault(client, reply)
        return Outcome(reply)

    def exchange(self, requests, *, deadline_s, is_over=None, on_outcome, on_late):
        assert requests.keys() == set(CLIENTS) - self.first.keys()  # who released is not asked again
        other, silent = self.cohort(self.stage.second), set(requests)
        for theirs, ours in itertools.zip_longest(self.elsewhere, self.answers):
            if theirs:
                other.record(theirs[0], self.outcome(*theirs))
            if ours and ours[0] in silent:
                silent.remove(ours[0])
                on_outcome(ours[0], self.outcome(*ours))
        for client in sorted(silent):
            on_outcome(client, Outcome(error="timeout"))
        return {}

    def listen(self) -> None:
        raise AssertionError("what is late is heard in `attempt`")

    def attempt(self, restart, elsewhere, answers, late) -> None:
        """What a serving process does with the campaign, after a restart and a `round resume` if need be."""
        if restart:
            self.stage.restart()
        if self.state is CampaignState.FAILED:
            self.stage.store.set_campaign_state(self.name, CampaignState.PENDING)
        self.stage.store.set_campaign_state(self.name, CampaignState.RUNNING)
        if not self.closed:
            self.answers, self.elsewhere = answers, elsewhere
            self.serve()
        cohort = self.cohort(self.stage.store)
        for client, kind in late:
            cohort.record(client, self.outcome(client, kind))
        self.check()

    def serve(self) -> None:
        stage = self.stage
        runner = Runner(
            stage.store, self, stage.identity, TargetSettings(source="nowhere"), threading.Event()
        )
        try:
            made = _Course(runner, self.spec.plan)._round(self.spec).vectors
        except DeadlineError as error:
            runner._fail(self.name, str(error))
            made = None
        releases = self.cohort(stage.store).releases
        prompts = {client: release.prompt for client, release in releases.items()}
        combined = combine(prompts, self.spec.start) if prompts else None
        if combined is None or len(combined.counted) < self.spec.plan.min_clients:
            assert made is None
        else:  # nothing but too few clients fails a campaign
            assert torch.equal(made, combined.prompt.vectors)
            self.closed = True
        event("closed" if self.closed else "failed")

    def check(self) -> None:
        store = self.stage.store
        (item,) = store.rounds(self.name)
        stands = {reply.client: reply for reply in store.replies(self.name, 1) if reply.outcome == RELEASED}
        assert {client: reply.envelope for client, reply in stands.items()} == self.first
        beside = store.uncounted(self.name, 1)
        told = look(store, self.name).rounds[0].lines
        for client, envelope in self.releases - set(self.first.items()):
            (found,) = [reply for reply in beside if (reply.client, reply.envelope) == (client, envelope)]
            assert (client, f"released, not counted: {found.reason}") in told
        assert (item.state is RoundState.CLOSED) == self.closed
        if self.closed:
            plan = self.spec.plan
            again = retrace(
                store, self.stage.identity, plan, item, ServerOptimizer(plan.strategy, plan.server)
            )
            assert set(again.history.counted) | set(again.history.dropped) == stands.keys()
            assert {reply.client for reply in beside if reply.envelope is None} == set(again.history.dropped)


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tiny_task) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    opened = Stage(f"sqlite:///{directory}/store.db", tiny_plan(directory, tiny_task))
    yield opened
    opened.close()


def play(stage: Stage, attempts: list[dict[str, object]]) -> None:
    campaign = stage.campaign()
    for attempt in attempts:
        campaign.attempt(**attempt)
    event(f"{len(attempts)} attempts")


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attempts=attempts(2, 3))
def test_no_later_answer_fails_a_campaign_and_no_release_is_dropped_in_silence(stage, attempts):
    play(stage, attempts)


@pytest.mark.slow(minutes=8)
@pytest.mark.timeout(1800)
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attempts=attempts(4, 5))
def test_none_of_thousands_of_sequences_fails_a_campaign_by_a_later_answer(stage, attempts):
    play(stage, attempts)
