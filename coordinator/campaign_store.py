"""Campaigns in the store, with their rounds and the replies of clients."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.database import Database
from coordinator.lifecycle import check
from coordinator.records import Campaign, CampaignState, ReplyRecord, Round, RoundState, utc_now
from coordinator.tables import CampaignRow, ReplyRow, RoundRow
from transfer import names
from transfer.errors import AlreadyExistsError, NotFoundError


class CampaignStore:
    """The part of `Store` that speaks of campaigns; its contract holds here."""

    _database: Database

    def add_campaign(self, name: str, plan: str) -> Campaign:
        """Put a campaign in line, PENDING, with its plan as JSON.

        Raises:
            UsageError: not a possible name.
        """
        names.checked("campaign", name)
        with self._database.writing() as session:
            if session.scalar(select(CampaignRow.id).where(CampaignRow.name == name)) is not None:
                raise AlreadyExistsError(f"campaign {name!r} exists already: choose another name")
            now = utc_now()
            row = CampaignRow(
                name=name,
                plan=plan,
                state=CampaignState.PENDING.value,
                detail="",
                create_time=now,
                update_time=now,
            )
            session.add(row)
            return row.value()

    def claim_campaign(self) -> Campaign | None:
        """Make the oldest PENDING campaign RUNNING and return it; of many callers one gets it."""
        pending = select(CampaignRow).where(CampaignRow.state == CampaignState.PENDING.value)
        with self._database.writing() as session:
            row = session.scalar(pending.order_by(CampaignRow.id).limit(1))
            if row is None:
                return None
            row.state, row.update_time = CampaignState.RUNNING.value, utc_now()
            return row.value()

    def set_campaign_state(self, name: str, state: CampaignState, detail: str = "") -> Campaign:
        """Move a campaign to `state`, or note progress in the state it is in.

        Raises:
            UsageError: the campaign cannot go there from where it is now (`coordinator.lifecycle`).
        """
        with self._database.writing() as session:
            row = _campaign(session, name)
            check(name, CampaignState(row.state), CampaignState(state))
            row.state, row.detail, row.update_time = CampaignState(state).value, detail, utc_now()
            return row.value()

    def campaign(self, name: str) -> Campaign:
        """The campaign of that name."""
        with self._database.reading() as session:
            return _campaign(session, name).value()

    def campaigns(self) -> list[Campaign]:
        """Every campaign, oldest first."""
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(select(CampaignRow).order_by(CampaignRow.id))]

    def open_round(
        self, campaign: str, index: int, start_prompt: bytes, roster: bytes, subspace: bytes | None = None
    ) -> Round:
        """Open round `index` ≥ 1 on `start_prompt`; the same again returns what is there.

        A round that is open keeps its first roster and subspace: what was asked once is asked again to the letter.

        Raises:
            AlreadyExistsError: the round was opened on another prompt.
        """
        with self._database.writing() as session:
            _campaign(session, campaign)
            row = session.get(RoundRow, (campaign, index))
            if row is None:
                row = RoundRow(
                    campaign=campaign,
                    number=index,
                    state=RoundState.OPEN.value,
                    start_prompt=start_prompt,
                    roster=roster,
                    subspace=subspace,
                    open_time=utc_now(),
                )
                session.add(row)
            elif row.start_prompt != start_prompt:
                raise AlreadyExistsError(
                    f"round {index} of campaign {campaign!r} was opened on another prompt"
                )
            return row.value()

    def record_reply(
        self, campaign: str, index: int, client: str, outcome: str, envelope: bytes | None
    ) -> ReplyRecord:
        """Remember how a client's part of a round ended.

        An outcome without a reply (a time-out) gives way to whatever comes later; a reply stays.

        Raises:
            AlreadyExistsError: another reply of this client is there.
        """
        with self._database.writing() as session:
            _round(session, campaign, index)
            row = session.get(ReplyRow, (campaign, index, client))
            if row is None:
                row = ReplyRow(campaign=campaign, number=index, client=client)
                session.add(row)
            elif (row.outcome, row.envelope) == (outcome, envelope):
                return row.value()
            elif row.envelope is not None:
                raise AlreadyExistsError(
                    f"round {index} of campaign {campaign!r} has another reply of client {client!r}"
                )
            row.outcome, row.envelope, row.create_time = outcome, envelope, utc_now()
            return row.value()

    def finish_round(self, campaign: str, index: int, prompt: bytes) -> Round:
        """Close a round with the prompt it made; the same again returns what is there.

        Raises:
            AlreadyExistsError: the round was closed with another prompt.
        """
        with self._database.writing() as session:
            row = _round(session, campaign, index)
            if row.state == RoundState.OPEN.value:
                row.state, row.prompt, row.close_time = RoundState.CLOSED.value, prompt, utc_now()
            elif row.prompt != prompt:
                raise AlreadyExistsError(
                    f"round {index} of campaign {campaign!r} was closed with another prompt"
                )
            return row.value()

    def rounds(self, campaign: str) -> list[Round]:
        """Rounds of a campaign in order."""
        with self._database.reading() as session:
            _campaign(session, campaign)
            query = select(RoundRow).where(RoundRow.campaign == campaign).order_by(RoundRow.number)
            return [row.value() for row in session.scalars(query)]

    def replies(self, campaign: str, index: int) -> list[ReplyRecord]:
        """What came of a round so far, by client."""
        with self._database.reading() as session:
            _round(session, campaign, index)
            query = select(ReplyRow).where(ReplyRow.campaign == campaign, ReplyRow.number == index)
            return [row.value() for row in session.scalars(query.order_by(ReplyRow.client))]


def _campaign(session: Session, name: str) -> CampaignRow:
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == name))
    if row is None:
        raise NotFoundError(f"no campaign {name!r}")
    return row


def _round(session: Session, campaign: str, index: int) -> RoundRow:
    row = session.get(RoundRow, (campaign, index))
    if row is None:
        raise NotFoundError(f"campaign {campaign!r} has no round {index}")
    return row
