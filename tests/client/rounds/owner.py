"""What tests of this room share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.ledger.entries import Declined
from client.ledger.ledger import Ledger
from client.ledger.place import LedgerPlace
from client.private.dpsgd import tune
from client.rounds.participant import Participant
from client.rounds.policy import Policy
from client.rounds.proxies import Proxies
from client.rounds.release import OwnerIdentity
from transfer.model_ref import ModelRef
from transfer.privacy import Budget, Spend
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import KEY_BYTES, Roster
from transfer.protocol.round_wire import reply_from_bytes, request_to_bytes
from transfer.protocol.rounds import Decline, Refusal, Reply, RoundRequest, Tuning
from transfer.protocol.signing import REPLY_TYPE, REQUEST_TYPE, sign
from transfer.protocol.wire import envelope_from_bytes, envelope_to_bytes
from transfer.tasks import Task

ROUND = "campaigns/reviews/rounds/1"
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
ROWS = [("the film was great", "positive"), ("a terrible plot", "negative"), ("it was good fun", "positive")]


@dataclass
class Owner:
    """A data owner in a directory of its own: real ledger, real keys, one proxy on disk."""

    directory: Path
    proxy: Path
    task: Task
    publisher: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    signing: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    policy: Policy = field(default_factory=lambda: Policy(Budget(8.0, 1e-4), 100, ("*",), ("*",)))
    file: str = "train.jsonl"
    tunings: int = 0

    def __post_init__(self) -> None:
        (self.directory / "proxies").mkdir()
        (self.directory / "proxies" / "tiny").symlink_to(self.proxy)
        self.write(ROWS)
        self.ledger = Ledger.create(self.place)

    @property
    def place(self) -> LedgerPlace:
        return LedgerPlace(self.directory / "ledger.db", self.signing)

    @property
    def data(self) -> Path:
        return self.directory / self.file

    def write(self, rows: list[tuple[str, str]]) -> None:
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        self.data.write_text("\n".join(lines) + "\n")

    def protect_users(self, *users: str) -> None:
        """Users are the unit from now on; record n is of the user named n-th."""
        self.policy = replace(self.policy, unit="user")
        rows = [
            {"text": text, "label": label, "user": user}
            for (text, label), user in zip(ROWS, users, strict=True)
        ]
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def participant(self, **changes: object) -> Participant:
        settings: dict[str, object] = {"tune": self.counted, "now": lambda: NOON, **changes}
        identity = OwnerIdentity("hospital-a", self.signing, self.publisher.public_key())
        proxies = Proxies(self.directory / "proxies")
        return Participant(identity, self.policy, self.ledger, proxies, self.data, **settings)

    def counted(self, *arguments: object, **named: object) -> SoftPrompt:
        self.tunings += 1
        return tune(*arguments, **named)

    def request(self, **changes: object) -> RoundRequest:
        ref = ModelRef.of_directory("tiny", self.proxy)
        request = RoundRequest(
            round=ROUND,
            rounds=3,
            client="hospital-a",
            nonce=b"n" * 16,
            task=self.task,
            tuning=Tuning(Spend(1.0, 0.5, 2), clip_norm=0.5, learning_rate=0.1),
            prompt=SoftPrompt(torch.zeros(3, 32), ref),
            cohort=3,
            roster=self.roster(3),
        )
        return replace(request, **changes)

    def roster(self, size: int) -> Roster:
        """A roster of us and strangers."""
        own, strangers = self.signing.public_key().public_bytes_raw(), range(1, size)
        return Roster.of([own, *(bytes([number]) * KEY_BYTES for number in strangers)])

    def sent(self, **changes: object) -> bytes:
        return signed(self.request(**changes), self.publisher)

    def read(self, reply: bytes) -> Reply:
        return reply_from_bytes(envelope_from_bytes(reply).verify(self.signing.public_key(), REPLY_TYPE))

    def refusal(self, reply: bytes) -> Refusal:
        answer = self.read(reply)
        assert isinstance(answer, Decline)
        assert (answer.client, answer.nonce) == ("hospital-a", b"n" * 16)
        return answer.refusal

    def spends(self) -> list[Spend]:
        return [entry.spend for entry in self.ledger.entries() if entry.spend is not None]

    def declines(self) -> list[Declined]:
        return [entry.declined for entry in self.ledger.declines()]


def signed(request: RoundRequest, key: Ed25519PrivateKey) -> bytes:
    return envelope_to_bytes(sign(request_to_bytes(request), REQUEST_TYPE, key))


def for_users() -> dict[str, Tuning]:
    return {"tuning": Tuning(Spend(1.0, 0.5, 2, "user"), clip_norm=0.5, learning_rate=0.1)}


def breaking(*_arguments: object, **_named: object) -> SoftPrompt:
    raise ValueError


def leaking(records_at: int) -> Callable[..., SoftPrompt]:
    def fail(*arguments: object, **_named: object) -> SoftPrompt:
        raise ValueError(" ".join(arguments[records_at].texts))

    return fail
