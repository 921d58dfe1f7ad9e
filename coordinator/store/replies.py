"""Replies of clients in the store: the one that stands for each client of a round, and beside it what does not count.

What counts is decided here, under the writers' lock, by what is stored already and never by what a process
remembers: whoever computes a round again finds the same releases.
"""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store.database import Database
from coordinator.store.records import RELEASED, ClientState, ReplyRecord, RoundState, utc_now
from coordinator.store.round_tables import ReplyRow, RoundRow, UncountedRow
from coordinator.store.tables import ClientRow
from transfer.errors import NotFoundError

FIRST_STANDS = "its first release stands"
REVOKED = "the client was revoked"
CLOSED = "the round was closed"
ANSWERED = "it has answered"


class ReplyStore:
    """The part of `Store` that speaks of replies; its contract holds here."""

    _database: Database

    def record_reply(
        self, campaign: str, index: int, client: str, outcome: str, envelope: bytes | None
    ) -> ReplyRecord:
        """Remember how a client's part of a round ended.

        As long as the round is open, a later reply takes the place of a decline, an invalid one or a time-out, and
        the first release stays. A reply that may not stand is kept beside, with the reason; a silence is not.

        Returns:
            What was recorded: of one that does not count, `reason` says why.
        """
        with self._database.writing() as session:
            opened = round_row(session, campaign, index)
            row = session.get(ReplyRow, (campaign, index, client))
            if row is not None and (row.outcome, row.envelope) == (outcome, envelope):
                return row.value()
            if reason := _obstacle(session, opened, row, client, silent=envelope is None):
                beside = _beside(session, opened, client, outcome, envelope, reason)
                if envelope is not None:
                    session.add(beside)
                return beside.value()
            if row is None:
                row = ReplyRow(campaign=campaign, number=index, client=client)
                session.add(row)
            row.outcome, row.envelope, row.create_time = outcome, envelope, utc_now()
            return row.value()

    def replies(self, campaign: str, index: int) -> list[ReplyRecord]:
        """What stands of a round so far, by client."""
        with self._database.reading() as session:
            return standing(session, round_row(session, campaign, index))

    def uncounted(self, campaign: str, index: int) -> list[ReplyRecord]:
        """What came in for a round and does not count, in the order in which it came."""
        with self._database.reading() as session:
            round_row(session, campaign, index)
            query = select(UncountedRow).where(
                UncountedRow.campaign == campaign, UncountedRow.number == index
            )
            return [row.value() for row in session.scalars(query.order_by(UncountedRow.id))]


def round_row(session: Session, campaign: str, index: int) -> RoundRow:
    """The row of a round.

    Raises:
        NotFoundError: it was never opened.
    """
    row = session.get(RoundRow, (campaign, index))
    if row is None:
        raise NotFoundError(f"campaign {campaign!r} has no round {index}")
    return row


def standing(session: Session, opened: RoundRow) -> list[ReplyRecord]:
    """What stands of a round as the transaction sees it, by client."""
    query = select(ReplyRow).where(ReplyRow.campaign == opened.campaign, ReplyRow.number == opened.number)
    return [row.value() for row in session.scalars(query.order_by(ReplyRow.client))]


def leave_out(session: Session, opened: RoundRow, reasons: Mapping[str, str]) -> None:
    """Write down whose release a round closes without, and why; the release itself stays where it is."""
    for client, reason in reasons.items():
        session.add(_beside(session, opened, client, RELEASED, None, reason))


def withdraw(session: Session, client: str) -> None:
    """Take a revoked client's releases out of rounds that are still open."""
    of_open_rounds = (
        (ReplyRow.campaign == RoundRow.campaign)
        & (ReplyRow.number == RoundRow.number)
        & (RoundRow.state == RoundState.OPEN.value)
    )
    query = select(ReplyRow, RoundRow).join(RoundRow, of_open_rounds)
    for row, opened in session.execute(query.where(ReplyRow.client == client, ReplyRow.outcome == RELEASED)):
        session.add(_beside(session, opened, client, RELEASED, row.envelope, REVOKED))
        row.outcome, row.envelope, row.create_time = ClientState.REVOKED.value, None, utc_now()


def _obstacle(session: Session, opened: RoundRow, row: ReplyRow | None, client: str, *, silent: bool) -> str:
    if row is not None and row.outcome == RELEASED:
        return FIRST_STANDS
    if opened.state != RoundState.OPEN.value:
        return CLOSED
    known = session.get(ClientRow, client)
    if known is not None and known.state == ClientState.REVOKED.value:
        return REVOKED
    return ANSWERED if silent and row is not None and row.envelope is not None else ""


def _beside(
    session: Session, opened: RoundRow, client: str, outcome: str, envelope: bytes | None, reason: str
) -> UncountedRow:
    """The row of what does not count, to be added; the same again is the row that is there."""
    of_client = (
        (UncountedRow.campaign == opened.campaign)
        & (UncountedRow.number == opened.number)
        & (UncountedRow.client == client)
    )
    for row in session.scalars(select(UncountedRow).where(of_client, UncountedRow.outcome == outcome)):
        if row.envelope == envelope:
            return row
    return UncountedRow(
        campaign=opened.campaign,
        number=opened.number,
        client=client,
        outcome=outcome,
        reason=reason,
        envelope=envelope,
        create_time=utc_now(),
    )
