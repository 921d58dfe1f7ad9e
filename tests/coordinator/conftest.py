"""A campaign world without network: a store, a proxy cut from a tiny target, and data owners that sign."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from coordinator.campaigns.runner import Runner
from coordinator.delivery.enrolment import invite
from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings
from coordinator.rounds.fleet import IsOver, OnOutcome, Outcome
from coordinator.rounds.plan import CampaignPlan, Publication, Start
from coordinator.store.records import Campaign, ProxyRecord, utc_now
from coordinator.store.store import Store
from transfer.distillation.distil import DistilSettings, distil
from transfer.model_ref import ModelRef
from transfer.models.loading import load
from transfer.post.settings import TransferSettings
from transfer.privacy import Guarantee, Spend, epsilon
from transfer.prompt import SoftPrompt
from transfer.protocol import round_wire, wire
from transfer.protocol.rounds import Decline, Release, RoundRequest, Tuning
from transfer.protocol.signing import REPLY_TYPE, REQUEST_TYPE, STATEMENT_TYPE, sign
from transfer.tasks import Task


@dataclass
class Owner:
    """A data owner: answers with `start + update`, signed, or with whatever `forge` makes."""

    name: str
    update: Callable[[RoundRequest], torch.Tensor]
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    requests: list[RoundRequest] = field(default_factory=list)
    forge: Callable[["Owner", RoundRequest], bytes] | None = None

    def answer(self, data: bytes, publisher: Ed25519PublicKey) -> bytes:
        request = round_wire.request_from_bytes(
            wire.envelope_from_bytes(data).verify(publisher, REQUEST_TYPE)
        )
        assert request.client == self.name
        self.requests.append(request)
        return self.forge(self, request) if self.forge else self.sealed(self.release(request))

    def release(self, request: RoundRequest) -> Release:
        prompt = SoftPrompt(request.prompt.vectors + self.update(request), request.proxy)
        index = int(request.round.rpartition("/")[2])
        spends = [request.tuning.spend] * index
        guarantee = Guarantee(epsilon(spends, 1e-7), 1e-7)
        return Release(request.round, self.name, request.nonce, prompt, request.tuning.spend, guarantee)

    def sealed(self, reply: Release | Decline) -> bytes:
        return wire.envelope_to_bytes(sign(round_wire.reply_to_bytes(reply), REPLY_TYPE, self.key))


@dataclass
class InProcessFleet:
    """The interface of `Federation` over owners in this process; who is not in it is offline.

    Who is in `slow` is at work when the deadline passes, and is heard by the next `listen`.
    """

    publisher: Ed25519PublicKey
    owners: dict[str, Owner] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    late: list[Callable[[], None]] = field(default_factory=list)

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        is_over: IsOver | None = None,
        on_outcome: OnOutcome,
        on_late: OnOutcome,
    ) -> dict[str, Outcome]:
        assert deadline_s > 0
        self.listen()
        self.asked.append(sorted(requests))
        outcomes: dict[str, Outcome] = {}
        for name, request in requests.items():
            if is_over and is_over(outcomes):
                outcome = Outcome(error="not_awaited")
            elif name in self.slow:
                reply = Outcome(reply=self.owners[name].answer(request, self.publisher))
                self.late.append(partial(on_late, name, reply))
                outcome = Outcome(error="timeout")
            elif name in self.owners:
                outcome = Outcome(reply=self.owners[name].answer(request, self.publisher))
            else:
                outcome = Outcome(error="offline")
            outcomes[name] = outcome
            on_outcome(name, outcome)
        return outcomes

    def listen(self) -> None:
        late, self.late = self.late, []
        for tell in late:
            tell()


@dataclass
class World:
    """One coordinator with its fleet; `plan` is a campaign of two rounds over the three owners."""

    directory: Path
    store: Store
    fleet: InProcessFleet
    identity: Identity
    target: TargetSettings
    plan: CampaignPlan
    stop: threading.Event = field(default_factory=threading.Event)

    def enrol(self, owner: Owner) -> Owner:
        token = invite(self.store, owner.name, utc_now())
        node_key = f"node key of {owner.name}".encode()
        raw = owner.key.public_key().public_bytes_raw()
        self.store.enrol(owner.name, token, node_key, raw, utc_now())
        self.fleet.owners[owner.name] = owner
        return owner

    def settle(self, proxy: Path) -> None:
        """Offer a proxy called tiny and enrol three owners."""
        ref = ModelRef.of_directory("tiny", proxy)
        statement = sign(b"{}", STATEMENT_TYPE, self.identity.publisher)
        self.store.add_proxy(ProxyRecord("tiny", ref, ref, (0,), (), proxy, statement))
        for index, name in enumerate(("ada", "ben", "cleo")):
            self.enrol(Owner(name, one_hot(index)))

    def runner(self, store: Store | None = None) -> Runner:
        return Runner(store or self.store, self.fleet, self.identity, self.target, self.stop)

    def launch(self, **changes: object) -> CampaignPlan:
        plan = replace(self.plan, **changes)
        self.store.add_campaign(plan.name, plan.to_json())
        return plan

    def carry_out(self, **changes: object) -> Campaign:
        """Launch the plan with some changes and carry it out."""
        plan = self.launch(**changes)
        return self.go_on(plan.name)

    def go_on(self, name: str, store: Store | None = None) -> Campaign:
        """What `Runner.run` does with the next campaign."""
        runner = self.runner(store)
        campaign = runner.claim()
        assert campaign is not None
        assert campaign.name == name
        runner.carry_out(campaign)
        return self.store.campaign(name)

    def outcomes(self, name: str, index: int) -> dict[str, str]:
        return {reply.client: reply.outcome for reply in self.store.replies(name, index)}

    def prompt(self, name: str, index: int) -> torch.Tensor:
        """The aggregate of a closed round."""
        content = self.store.rounds(name)[index - 1].prompt
        assert content is not None
        return SoftPrompt.from_bytes(content, self.store.proxy(self.plan.proxy).model).vectors


PUBLIC_TEXT = [
    f"{subject} {verb} the {thing}."
    for subject in ("We", "You", "They", "I")
    for verb in ("liked", "saw", "made")
    for thing in ("film", "train", "long walk", "music")
]


@pytest.fixture
def public_text(tmp_path: Path) -> Path:
    """Public text beside the coordinator's directory."""
    (tmp_path / "public.txt").write_text("\n".join(PUBLIC_TEXT), encoding="utf-8")
    return tmp_path / "public.txt"


@pytest.fixture(scope="session")
def tiny_proxy(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a proxy: the first layer of the tiny causal model, not distilled."""
    directory = tmp_path_factory.mktemp("tiny-proxy") / "proxy"
    distil(load(tiny_causal), [0], PUBLIC_TEXT, DistilSettings(steps=0)).save(directory)
    return directory


MakeWorld = Callable[[Store, Identity, TargetSettings], World]


@pytest.fixture
def make_world(tmp_path: Path, tiny_proxy: Path, tiny_task: Task) -> MakeWorld:
    """Makes a world: three owners are enrolled; each moves the prompt by a unit vector of its own."""

    def make(store: Store, identity: Identity, target: TargetSettings) -> World:
        fleet = InProcessFleet(identity.publisher.public_key())
        made = World(tmp_path, store, fleet, identity, target, tiny_plan(tmp_path, tiny_task))
        made.settle(tiny_proxy)
        return made

    return make


@pytest.fixture
def world(tmp_path: Path, tiny_causal: Path, make_world: MakeWorld) -> Iterator[World]:
    """A world on a store of its own."""
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    target = TargetSettings(source=str(tiny_causal), name="tiny-target")
    yield make_world(store, Identity(Ed25519PrivateKey.generate(), b"s" * 32), target)
    store.close()


@pytest.fixture
def make_owner() -> Callable[[str, int], Owner]:
    """Makes owners that move the prompt by the unit vector of an index."""
    return lambda name, index: Owner(name, one_hot(index))


def tiny_plan(directory: Path, task: Task) -> CampaignPlan:
    """Two rounds of three clients, and the public text for it in `directory`."""
    (directory / "public.txt").write_text("\n".join(PUBLIC_TEXT), encoding="utf-8")
    return CampaignPlan(
        name="first",
        task=task,
        proxy="tiny",
        public_text=str(directory / "public.txt"),
        target="",
        rounds=2,
        deadline_s=5.0,
        min_clients=3,
        strategy="default",
        start=Start(length=4),
        tuning=Tuning(Spend(2.0, 0.5, 10), clip_norm=1.0, learning_rate=0.1),
        dimensions=0,
        delta=1e-6,
        transfer=TransferSettings(steps=4, learning_rate=0.05, check_every=2),
        publish=Publication("tiny-prompt", require_improvement=False),
    )


def one_hot(index: int) -> Callable[[RoundRequest], torch.Tensor]:
    """An update of norm 1 at coordinate `index`, in the subspace if there is one."""

    def update(request: RoundRequest) -> torch.Tensor:
        if request.subspace:
            return request.subspace.directions[index]
        vectors = torch.zeros_like(request.prompt.vectors)
        vectors.view(-1)[index] = 1.0
        return vectors

    return update
