"""Tables of rounds and replies; `coordinator.store.tables` has the other tables and the rules for changes."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.store.columns import NAME, SEQUENCE, Base
from coordinator.store.records import ReplyRecord, Round, RoundState


class RoundRow(Base):
    """A round of a campaign."""

    __tablename__ = "rounds"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'closed')", "state"),
        CheckConstraint("number >= 1", "number"),
    )

    campaign: Mapped[str] = mapped_column(NAME, ForeignKey("campaigns.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    start_prompt: Mapped[bytes]
    subspace: Mapped[bytes | None]
    library: Mapped[str | None] = mapped_column(Text)
    roster: Mapped[bytes | None]
    prompt: Mapped[bytes | None]
    open_time: Mapped[datetime]
    close_time: Mapped[datetime | None]

    def value(self) -> Round:
        """Return the row as a value."""
        return Round(
            campaign=self.campaign,
            index=self.number,
            state=RoundState(self.state),
            start_prompt=self.start_prompt,
            subspace=self.subspace,
            library=tuple((self.library or "").split()),
            roster=self.roster or b"",
            prompt=self.prompt,
            open_time=self.open_time,
            close_time=self.close_time,
        )


class ReplyRow(Base):
    """The outcome of one client in a round that counts."""

    __tablename__ = "replies"
    __table_args__ = (ForeignKeyConstraint(["campaign", "number"], ["rounds.campaign", "rounds.number"]),)

    campaign: Mapped[str] = mapped_column(NAME, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(NAME, primary_key=True)
    outcome: Mapped[str]
    envelope: Mapped[bytes | None]
    create_time: Mapped[datetime]

    def value(self) -> ReplyRecord:
        """Return the row as a value."""
        return ReplyRecord(
            self.campaign, self.number, self.client, self.outcome, self.envelope, self.create_time
        )


class UncountedRow(Base):
    """An outcome that does not count; without an envelope, the row refers to the reply in `replies`."""

    __tablename__ = "uncounted"
    __table_args__ = (ForeignKeyConstraint(["campaign", "number"], ["rounds.campaign", "rounds.number"]),)

    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True)
    campaign: Mapped[str] = mapped_column(NAME)
    number: Mapped[int]
    client: Mapped[str] = mapped_column(NAME)
    outcome: Mapped[str]
    reason: Mapped[str]
    envelope: Mapped[bytes | None]
    create_time: Mapped[datetime]

    def value(self) -> ReplyRecord:
        """Return the row as a value."""
        return ReplyRecord(
            self.campaign,
            self.number,
            self.client,
            self.outcome,
            self.envelope,
            self.create_time,
            self.reason,
        )
