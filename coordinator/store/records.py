"""What the coordinator remembers, as values: nothing of the database shows through."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from transfer import names
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.protocol.signing import Envelope

PromptState = Literal["published", "revoked"]
RELEASED = "released"
"""Outcome of a client whose prompt holds."""


def utc_now() -> datetime:
    """The present, with its zone."""
    return datetime.now(UTC)


class ClientState(StrEnum):
    """Where a data owner stands with us."""

    INVITED = "invited"
    ENROLLED = "enrolled"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Client:
    """A data owner.

    Attributes:
        expire_time: end of the invitation; an enrolled client does not expire.
        node_key: public key of its Flower node (PEM), once enrolled.
        signing_key: public Ed25519 key of its releases (32 raw bytes), once enrolled.
        node_id: number Flower gave that node, once registered there.
    """

    name: str
    state: ClientState
    create_time: datetime
    expire_time: datetime
    node_key: bytes | None = None
    signing_key: bytes | None = None
    node_id: int | None = None
    enrol_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProxyRecord:
    """A proxy that clients may fetch.

    Attributes:
        layers: indices of the parent's layers it kept.
        files: the only files of `directory` that are ever served.
        directory: where they lie on the coordinator's disk.
        statement: signed in-toto statement over the files.
    """

    name: str
    model: ModelRef
    parent: ModelRef
    layers: tuple[int, ...]
    files: tuple[FileRef, ...]
    directory: Path
    statement: Envelope
    create_time: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        names.checked("proxy", self.name)


class CampaignState(StrEnum):
    """Where a campaign stands; `coordinator.store.states` says which state may follow which."""

    PENDING = "pending"
    RUNNING = "running"
    TRANSFERRING = "transferring"
    PUBLISHED = "published"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A series of rounds that ends in a published prompt.

    Attributes:
        plan: the plan it was launched with, JSON.
        detail: one line for people: progress, or why it failed.
    """

    name: str
    plan: str
    state: CampaignState
    detail: str
    create_time: datetime
    update_time: datetime


class RoundState(StrEnum):
    """Whether a round still takes replies."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Round:
    """Round `index` ≥ 1 of a campaign: the prompt it started from and, once closed, the one it made.

    `subspace` holds the directions clients were asked to tune in, if not all, and `roster` the keys of those that
    were asked: none in a round from before there were rosters.
    """

    campaign: str
    index: int
    state: RoundState
    start_prompt: bytes
    subspace: bytes | None
    roster: bytes
    prompt: bytes | None
    open_time: datetime
    close_time: datetime | None


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """How one client's part of a round ended.

    Attributes:
        outcome: one short line, e.g. "released" or "declined: budget".
        envelope: the signed reply exactly as it arrived, if one arrived.
        reason: why it does not count; empty for what stands.
    """

    campaign: str
    index: int
    client: str
    outcome: str
    envelope: bytes | None
    create_time: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One published version of a prompt.

    Attributes:
        sequence: position in the order of publication over all prompts; where a listing goes on.
        statement: signed in-toto statement over the files: lineage and privacy.
    """

    prompt: str
    version: int
    state: PromptState
    sequence: int
    create_time: datetime
    statement: Envelope
    files: tuple[FileRef, ...]

    @property
    def name(self) -> str:
        """Resource name: prompts/{prompt}/versions/{version}."""
        return names.prompt_version(self.prompt, self.version)
