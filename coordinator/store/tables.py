"""Tables of the coordinator's database. Rows never leave `coordinator.store`; it returns values instead.

`coordinator.store.round_tables` has rounds and replies. A change needs a new revision in
`coordinator/store/migrations/versions`; a test compares the two.
"""

from datetime import datetime
from pathlib import Path

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from coordinator.store.columns import DIGEST, NAME, SEQUENCE, Base
from coordinator.store.records import (
    Campaign,
    CampaignState,
    Client,
    ClientState,
    PromptState,
    PromptVersion,
    ProxyRecord,
)
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.protocol.wire import envelope_from_bytes


class ClientRow(Base):
    """A client; the token itself is never stored."""

    __tablename__ = "clients"
    __table_args__ = (
        CheckConstraint("state IN ('invited', 'enrolled', 'revoked')", "state"),
        UniqueConstraint("signing_key"),
        UniqueConstraint("node_key"),
    )

    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    token_digest: Mapped[str] = mapped_column(DIGEST)
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime]
    enrol_time: Mapped[datetime | None]
    node_key: Mapped[bytes | None]
    signing_key: Mapped[bytes | None]
    node_id: Mapped[str | None] = mapped_column(String(20))  # 64 bits unsigned: wider than SQL's integers

    def value(self) -> Client:
        """Return the row as a value."""
        return Client(
            name=self.name,
            state=ClientState(self.state),
            create_time=self.create_time,
            expire_time=self.expire_time,
            node_key=self.node_key,
            signing_key=self.signing_key,
            node_id=None if self.node_id is None else int(self.node_id),
            enrol_time=self.enrol_time,
        )


class ProxyFileRow(Base):
    """One file of a proxy; the bytes stay on disk."""

    __tablename__ = "proxy_files"

    proxy_id: Mapped[int] = mapped_column(SEQUENCE, ForeignKey("proxies.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(DIGEST)


class ProxyRow(Base):
    """A proxy."""

    __tablename__ = "proxies"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True)
    name: Mapped[str] = mapped_column(NAME)
    model_name: Mapped[str]
    model_digest: Mapped[str] = mapped_column(DIGEST)
    parent_name: Mapped[str]
    parent_digest: Mapped[str] = mapped_column(DIGEST)
    layers: Mapped[list[int]] = mapped_column(JSON)
    directory: Mapped[str]
    statement: Mapped[bytes]
    create_time: Mapped[datetime]
    files: Mapped[list[ProxyFileRow]] = relationship(order_by=ProxyFileRow.path)

    def value(self) -> ProxyRecord:
        """Return the row as a value."""
        return ProxyRecord(
            name=self.name,
            model=ModelRef(self.model_name, self.model_digest),
            parent=ModelRef(self.parent_name, self.parent_digest),
            layers=tuple(self.layers),
            files=tuple(FileRef(file.path, file.size, file.digest) for file in self.files),
            directory=Path(self.directory),
            statement=envelope_from_bytes(self.statement),
            create_time=self.create_time,
        )


class CampaignRow(Base):
    """A campaign."""

    __tablename__ = "campaigns"
    __table_args__ = (
        UniqueConstraint("name"),
        CheckConstraint(
            "state IN ('pending', 'running', 'transferring', 'published', 'failed', 'aborted')", "state"
        ),
    )

    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True)
    name: Mapped[str] = mapped_column(NAME)
    plan: Mapped[str]
    state: Mapped[str] = mapped_column(String(16), index=True)
    detail: Mapped[str]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]

    def value(self) -> Campaign:
        """Return the row as a value."""
        state = CampaignState(self.state)
        return Campaign(self.name, self.plan, state, self.detail, self.create_time, self.update_time)


class PromptFileRow(Base):
    """One file of a prompt version."""

    __tablename__ = "prompt_files"

    version_id: Mapped[int] = mapped_column(SEQUENCE, ForeignKey("prompt_versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(DIGEST)
    content: Mapped[bytes] = mapped_column(deferred=True)


class PromptVersionRow(Base):
    """A published version of a prompt; `id` is the order of publication over all prompts."""

    __tablename__ = "prompt_versions"
    __table_args__ = (
        UniqueConstraint("prompt", "version"),
        CheckConstraint("state IN ('published', 'revoked')", "state"),
    )

    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True)
    prompt: Mapped[str] = mapped_column(NAME)
    version: Mapped[int]
    state: Mapped[PromptState] = mapped_column(String(16))
    create_time: Mapped[datetime]
    statement: Mapped[bytes]
    files: Mapped[list[PromptFileRow]] = relationship(order_by=PromptFileRow.path)

    def value(self) -> PromptVersion:
        """Return the row as a value."""
        return PromptVersion(
            prompt=self.prompt,
            version=self.version,
            state=self.state,
            sequence=self.id,
            create_time=self.create_time,
            statement=envelope_from_bytes(self.statement),
            files=tuple(FileRef(file.path, file.size, file.digest) for file in self.files),
        )


class HeartbeatRow(Base):
    """The time of the serving process's last heartbeat, in one row."""

    __tablename__ = "heartbeat"
    __table_args__ = (CheckConstraint("id = 1", "single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    time: Mapped[datetime]
