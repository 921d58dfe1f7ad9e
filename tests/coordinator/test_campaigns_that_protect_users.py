"""Campaigns whose data owners really tune, to protect users; only the network is left out."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.prompts.claim import Claim
from client.rounds.participant import Participant
from client.rounds.policy import Policy
from client.rounds.proxies import Proxies
from client.rounds.release import OwnerIdentity
from coordinator.delivery.enrolment import invite
from coordinator.publication.publish import verified_predicate
from coordinator.store.records import CampaignState, utc_now
from transfer.privacy import Budget, Spend, Unit, epsilon
from transfer.protocol.rounds import Tuning
from transfer.protocol.signing import PROMPT_PREDICATE, Statement

SPEND = Spend(1.5, 0.5, 3, "user")


@dataclass
class DataOwner:
    """A participant as the daemon makes it, with a ledger, a policy and a file of its own."""

    name: str
    directory: Path
    participant: Participant
    ledger: Ledger

    @classmethod
    def enrolled(cls, world, name: str, unit: Unit) -> "DataOwner":
        directory = world.directory / name
        (directory / "proxies").mkdir(parents=True)
        (directory / "proxies" / "tiny").symlink_to(world.store.proxy("tiny").directory)
        rows = [
            {"text": f"{name} saw the film {n}", "label": n % 2, "user": f"{name} {n % 3}"} for n in range(7)
        ]
        (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        key = Ed25519PrivateKey.generate()
        token = invite(world.store, name, utc_now())
        raw = key.public_key().public_bytes_raw()
        world.store.enrol(name, token, f"node of {name}".encode(), raw, utc_now())
        ledger = Ledger.create(LedgerPlace(directory / "ledger.db", key))
        made = Participant(
            OwnerIdentity(name, key, world.identity.publisher.public_key()),
            Policy(Budget(50.0, 1e-4), 3, ("*",), ("*",), unit=unit),
            ledger,
            Proxies(directory / "proxies"),
            directory / "train.jsonl",
        )
        return cls(name, directory, made, ledger)

    def answer(self, data: bytes, _publisher: object) -> bytes:
        return self.participant.answer(data)


@pytest.fixture
def owners(world):
    """Three owners who protect users, and one who protects records, in place of the world's own."""
    for name in list(world.fleet.owners):
        world.store.revoke(name)
    world.fleet.owners.clear()
    units: dict[str, Unit] = {"dora": "user", "emil": "user", "fay": "user", "gus": "record"}
    made = {name: DataOwner.enrolled(world, name, unit) for name, unit in units.items()}
    world.fleet.owners.update(made)
    yield made
    for owner in made.values():
        owner.ledger.close()


@pytest.mark.promise("statement")
@pytest.mark.parametrize("dimensions", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_campaign_for_users_is_published_as_one(world, owners, dimensions):
    tuning = Tuning(SPEND, clip_norm=0.5, learning_rate=0.05)
    campaign = world.carry_out(tuning=tuning, dimensions=dimensions)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    users = ("dora", "emil", "fay")
    for index in (1, 2):
        assert world.outcomes("first", index) == dict.fromkeys(users, "released") | {
            "gus": "declined: policy"
        }
    for name in users:
        (data_set,) = owners[name].ledger.data_sets()
        assert owners[name].ledger.spends(data_set) == [SPEND, SPEND]
    assert owners["gus"].ledger.entries() == []

    version = world.store.prompt_version("tiny-prompt")
    privacy = verified_predicate(version, world.identity)["privacy"]
    assert (privacy["unit"], privacy["adjacency"]) == ("user", "add/remove one")
    assert privacy["per_round"]["unit"] == "user"
    assert privacy["epsilon"] == pytest.approx(epsilon([SPEND] * 2, 1e-6))
    key = world.identity.publisher.public_key()
    claim = Claim.of(Statement.verified(version.statement, key, PROMPT_PREDICATE))
    assert claim.privacy.unit == "user"


def test_a_campaign_by_sgd_steps_as_far_as_sgd_does(world, owners):
    """Clipped at 500, a step is about 500 times as long as Adam's, and than Adam's gate would let through."""
    tuning = Tuning(SPEND, clip_norm=500.0, learning_rate=1e-4, optimizer="sgd")
    campaign = world.carry_out(tuning=tuning)
    assert campaign.state is CampaignState.PUBLISHED, campaign.detail
    for index in (1, 2):
        released = {name for name, outcome in world.outcomes("first", index).items() if outcome == "released"}
        assert released == {"dora", "emil", "fay"}
    moved = world.prompt("first", 2) - world.prompt("first", 1)
    adam_at_most = 10 * SPEND.steps * tuning.learning_rate * math.sqrt(moved.numel())
    assert moved.norm() > 3 * adam_at_most


def test_who_gave_to_a_campaign_for_users_gives_to_none_for_records_on_the_same_data(world, owners):
    tuning = Tuning(SPEND, clip_norm=0.5, learning_rate=0.05)
    assert world.carry_out(tuning=tuning, rounds=1).state is CampaignState.PUBLISHED
    for owner in (owners["dora"], owners["emil"]):
        limits = replace(owner.participant._limits, unit="record")
        owner.participant = Participant(
            owner.participant._identity, limits, owner.ledger, Proxies(owner.directory / "proxies"),
            owner.directory / "train.jsonl",
        )  # fmt: skip
    plain = replace(tuning, spend=replace(SPEND, unit="record"))
    assert world.carry_out(name="second", tuning=plain, rounds=1).state is CampaignState.FAILED
    declined = {"dora": "declined: budget", "emil": "declined: budget", "fay": "declined: policy"}
    assert world.outcomes("second", 1) == declined | {"gus": "released"}
