"""The store's content as values, independent of the database."""

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
"""Outcome of a client with a valid release."""


def utc_now() -> datetime:
    """Return the current time in UTC, with its zone."""
    return datetime.now(UTC)


class ClientState(StrEnum):
    """State of a client."""

    INVITED = "invited"
    ENROLLED = "enrolled"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Client:
    """A data owner.

    Attributes:
        name: name of the client.
        state: state of the client.
        create_time: time of the first invitation.
        expire_time: end of the invitation; an enrolled client does not expire.
        node_key: public key of its Flower node (PEM), once enrolled.
        signing_key: public Ed25519 key of its releases (32 raw bytes), once enrolled.
        node_id: Flower's number of that node, once registered there.
        enrol_time: time of the enrolment, once enrolled.
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
        name: name of the proxy.
        model: the proxy itself.
        parent: target that the proxy was made from.
        layers: indices of the parent's layers in the proxy.
        files: files of `directory` that the coordinator serves; it serves no other.
        directory: directory of the files on the coordinator's disk.
        statement: signed in-toto statement over the files.
        create_time: time of registration.
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
    """State of a campaign; `coordinator.store.states` has the transitions."""

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
        name: name of the campaign.
        plan: plan at its launch, JSON.
        state: state of the campaign.
        detail: one line for people: progress, or the reason of a failure.
        create_time: time of its launch.
        update_time: time of the last change of `state` or `detail`.
    """

    name: str
    plan: str
    state: CampaignState
    detail: str
    create_time: datetime
    update_time: datetime


class RoundState(StrEnum):
    """State of a round; only an open round accepts replies."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Round:
    """Round `index` ≥ 1 of a campaign.

    Attributes:
        campaign: name of the campaign.
        index: number of the round, from 1.
        state: state of the round.
        start_prompt: prompt that the round starts from, safetensors.
        subspace: directions that clients tune in; None means all.
        library: names of the published versions that taught the start; empty but for a first round.
        roster: keys of the clients asked; empty in a round from before rosters existed.
        prompt: resulting prompt, safetensors, once closed.
        open_time: time of opening.
        close_time: time of closing, once closed.
    """

    campaign: str
    index: int
    state: RoundState
    start_prompt: bytes
    subspace: bytes | None
    library: tuple[str, ...]
    roster: bytes
    prompt: bytes | None
    open_time: datetime
    close_time: datetime | None


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """Outcome of one client in a round.

    Attributes:
        campaign: name of the campaign.
        index: number of the round.
        client: name of the client.
        outcome: one short line, for example "released" or "declined: budget".
        envelope: the signed reply exactly as it arrived; None without a reply.
        create_time: time of the record.
        reason: why the outcome does not count; empty for one that counts.
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
        prompt: name of the prompt.
        version: number of the version, from 1.
        state: "published" or "revoked".
        sequence: position in the order of publication over all prompts, for paging.
        create_time: time of publication.
        statement: signed in-toto statement over the files, with lineage and privacy.
        files: files of the version.
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
