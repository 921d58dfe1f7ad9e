"""Replies of clients in the store: at most one per client and round that counts, and the replies that do not.

This module decides what counts, under the writers' lock. It decides by stored rows alone and never by the memory of
a process, so every later computation of a round uses the same releases.
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
    """The part of `Store` for replies, under the contract of `Store`."""

    _database: Database

    def record_reply(
        self, campaign: str, index: int, client: str, outcome: str, envelope: bytes | None
    ) -> ReplyRecord:
        """Record the outcome of a client in a round.

        While the round is open, a later outcome replaces a decline, an invalid reply or a silence; the first release
        stays. A reply that does not count is stored separately with the reason; a silence is not.

        Args:
            campaign: name of the campaign.
            index: number of the round.
            client: name of the client.
            outcome: one short line.
            envelope: the signed reply; None for a silence.

        Returns:
            The record; its `reason` is empty if the outcome counts.
        """
        with self._database.writing() as session:
            opened = round_row(session, campaign, index)
            row = session.get(ReplyRow, (campaign, index, client))
            if row is not None and (row.outcome, row.envelope) == (outcome, envelope):
                return row.value()
            if reason := _obstacle(session, opened, row, client, silent=envelope is None):
                uncounted = _uncounted(session, opened, client, outcome, envelope, reason)
                if envelope is not None:
                    session.add(uncounted)
                return uncounted.value()
            if row is None:
                row = ReplyRow(campaign=campaign, number=index, client=client)
                session.add(row)
            row.outcome, row.envelope, row.create_time = outcome, envelope, utc_now()
            return row.value()

    def replies(self, campaign: str, index: int) -> list[ReplyRecord]:
        """Return the outcomes that count in a round so far, ordered by client."""
        with self._database.reading() as session:
            return standing(session, round_row(session, campaign, index))

    def uncounted(self, campaign: str, index: int) -> list[ReplyRecord]:
        """Return the outcomes that do not count in a round, in order of arrival."""
        with self._database.reading() as session:
            round_row(session, campaign, index)
            query = select(UncountedRow).where(
                UncountedRow.campaign == campaign, UncountedRow.number == index
            )
            return [row.value() for row in session.scalars(query.order_by(UncountedRow.id))]


def round_row(session: Session, campaign: str, index: int) -> RoundRow:
    """Return the row of a round.

    Raises:
        NotFoundError: the round was never opened.
    """
    row = session.get(RoundRow, (campaign, index))
    if row is None:
        raise NotFoundError(f"campaign {campaign!r} has no round {index}")
    return row


def standing(session: Session, opened: RoundRow) -> list[ReplyRecord]:
    """Return the outcomes that count in a round, ordered by client, as the transaction sees them."""
    query = select(ReplyRow).where(ReplyRow.campaign == opened.campaign, ReplyRow.number == opened.number)
    return [row.value() for row in session.scalars(query.order_by(ReplyRow.client))]


def leave_out(session: Session, opened: RoundRow, reasons: Mapping[str, str]) -> None:
    """Record the clients that a round's aggregate drops, with the reasons; their releases stay in place."""
    for client, reason in reasons.items():
        session.add(_uncounted(session, opened, client, RELEASED, None, reason))


def withdraw(session: Session, client: str) -> None:
    """Remove a revoked client's releases from open rounds."""
    of_open_rounds = (
        (ReplyRow.campaign == RoundRow.campaign)
        & (ReplyRow.number == RoundRow.number)
        & (RoundRow.state == RoundState.OPEN.value)
    )
    query = select(ReplyRow, RoundRow).join(RoundRow, of_open_rounds)
    for row, opened in session.execute(query.where(ReplyRow.client == client, ReplyRow.outcome == RELEASED)):
        session.add(_uncounted(session, opened, client, RELEASED, row.envelope, REVOKED))
        row.outcome, row.envelope, row.create_time = ClientState.REVOKED.value, None, utc_now()


def _obstacle(session: Session, opened: RoundRow, row: ReplyRow | None, client: str, *, silent: bool) -> str:
    """Return why a new outcome of a client does not count, or an empty string if it does."""
    if row is not None and row.outcome == RELEASED:
        return FIRST_STANDS
    if opened.state != RoundState.OPEN.value:
        return CLOSED
    known = session.get(ClientRow, client)
    if known is not None and known.state == ClientState.REVOKED.value:
        return REVOKED
    return ANSWERED if silent and row is not None and row.envelope is not None else ""


def _uncounted(
    session: Session, opened: RoundRow, client: str, outcome: str, envelope: bytes | None, reason: str
) -> UncountedRow:
    """Return a row, to be added, for an outcome that does not count; an equal row is returned as it is."""
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
