"""Campaigns and their rounds in the store; `coordinator.store.replies` has the clients' replies."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store.database import Database
from coordinator.store.records import Campaign, CampaignState, ReplyRecord, Round, RoundState, utc_now
from coordinator.store.replies import leave_out, round_row, standing
from coordinator.store.round_tables import RoundRow
from coordinator.store.states import check
from coordinator.store.tables import CampaignRow
from transfer import names
from transfer.errors import AlreadyExistsError, NotFoundError

Close = Callable[[Sequence[ReplyRecord]], tuple[bytes, Mapping[str, str]]]
"""Maps the replies that count to a round's prompt and to the dropped clients with the reason for each."""


class CampaignStore:
    """The part of `Store` for campaigns, under the contract of `Store`."""

    _database: Database

    def add_campaign(self, name: str, plan: str) -> Campaign:
        """Add a PENDING campaign with its plan as JSON.

        Raises:
            UsageError: `name` is not a valid name.
        """
        names.checked("campaign", name)
        with self._database.writing() as session:
            _require_new(session, name)
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

    def require_new_campaign(self, name: str) -> None:
        """Refuse the name of a campaign that exists.

        Raises:
            AlreadyExistsError: there is a campaign of that name.
        """
        with self._database.reading() as session:
            _require_new(session, name)

    def claim_campaign(self) -> Campaign | None:
        """Make the oldest PENDING campaign RUNNING and return it; only one of several callers receives it."""
        pending = select(CampaignRow).where(CampaignRow.state == CampaignState.PENDING.value)
        with self._database.writing() as session:
            row = session.scalar(pending.order_by(CampaignRow.id).limit(1))
            if row is None:
                return None
            row.state, row.update_time = CampaignState.RUNNING.value, utc_now()
            return row.value()

    def set_campaign_state(self, name: str, state: CampaignState, detail: str = "") -> Campaign:
        """Move a campaign to `state`, or record progress in its current state.

        Raises:
            UsageError: `state` must not follow the current state (`coordinator.store.states`).
        """
        with self._database.writing() as session:
            row = _campaign(session, name)
            check(name, CampaignState(row.state), CampaignState(state))
            row.state, row.detail, row.update_time = CampaignState(state).value, detail, utc_now()
            return row.value()

    def campaign(self, name: str) -> Campaign:
        """Return the campaign of that name."""
        with self._database.reading() as session:
            return _campaign(session, name).value()

    def campaigns(self) -> list[Campaign]:
        """Return every campaign, oldest first."""
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(select(CampaignRow).order_by(CampaignRow.id))]

    def open_round(
        self,
        campaign: str,
        index: int,
        start_prompt: bytes,
        roster: bytes,
        subspace: bytes | None = None,
        library: Sequence[str] = (),
    ) -> Round:
        """Open round `index` ≥ 1 on `start_prompt`, or return the round if it exists with the same prompt.

        An existing round keeps its first roster, subspace and library, so that repeated requests are identical.

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
                    library=" ".join(library) or None,
                    open_time=utc_now(),
                )
                session.add(row)
            elif row.start_prompt != start_prompt:
                raise AlreadyExistsError(
                    f"round {index} of campaign {campaign!r} was opened on another prompt"
                )
            return row.value()

    def finish_round(self, campaign: str, index: int, close: Close) -> Round:
        """Close an open round with the prompt that `close` computes from the replies that count now.

        Other writers wait meanwhile, so no reply can arrive between the count and the end of the round. A closed
        round is returned unchanged. If `close` raises, the round stays open.
        """
        with self._database.writing() as session:
            row = round_row(session, campaign, index)
            if row.state == RoundState.OPEN.value:
                prompt, dropped = close(standing(session, row))
                leave_out(session, row, dropped)
                row.state, row.prompt, row.close_time = RoundState.CLOSED.value, prompt, utc_now()
            return row.value()

    def rounds(self, campaign: str) -> list[Round]:
        """Return the rounds of a campaign in order."""
        with self._database.reading() as session:
            _campaign(session, campaign)
            query = select(RoundRow).where(RoundRow.campaign == campaign).order_by(RoundRow.number)
            return [row.value() for row in session.scalars(query)]


def _campaign(session: Session, name: str) -> CampaignRow:
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == name))
    if row is None:
        raise NotFoundError(f"no campaign {name!r}")
    return row


def _require_new(session: Session, name: str) -> None:
    if session.scalar(select(CampaignRow.id).where(CampaignRow.name == name)) is not None:
        raise AlreadyExistsError(f"campaign {name!r} exists already: choose another name")
