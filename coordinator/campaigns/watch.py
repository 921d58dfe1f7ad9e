"""A campaign as others see it: read from the store, followed until it ends or patience does."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordinator.store.records import CampaignState, RoundState, utc_now
from coordinator.store.states import ENDED
from coordinator.store.store import Store
from transfer import hints
from transfer.errors import DeadlineError, PromptferryError, UnavailableError

LOOK_EVERY_S = 0.5
SILENCE_S = 20.0
"""Without a heartbeat for so long nobody serves the store; a crowded machine may well delay one by ten seconds."""


@dataclass(frozen=True, slots=True)
class UncountedView:
    """Something that came in for a round and does not count, and why."""

    client: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round: what became of each client that was heard of, and what does not count.

    It is "open" or "closed"; one that its campaign left unfinished is as the campaign is, "failed" or "aborted".
    """

    index: int
    state: str
    outcomes: Mapping[str, str]
    uncounted: tuple[UncountedView, ...] = ()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Client and what to say of it, for people."""
        besides = [(item.client, f"{item.outcome}, not counted: {item.reason}") for item in self.uncounted]
        return [*self.outcomes.items(), *besides]


@dataclass(frozen=True, slots=True)
class CampaignView:
    """Where a campaign stands, with its rounds."""

    name: str
    state: CampaignState
    detail: str
    rounds: tuple[RoundView, ...]


def look(store: Store, name: str) -> CampaignView:
    """The campaign as it is now.

    Raises:
        NotFoundError: there is none of that name.
    """
    campaign = store.campaign(name)
    rounds = tuple(
        RoundView(
            item.index,
            (
                campaign.state if item.state is RoundState.OPEN and campaign.state in ENDED else item.state
            ).value,
            {reply.client: reply.outcome for reply in store.replies(name, item.index)},
            tuple(
                UncountedView(reply.client, reply.outcome, reply.reason)
                for reply in store.uncounted(name, item.index)
            ),
        )
        for item in store.rounds(name)
    )
    return CampaignView(campaign.name, campaign.state, campaign.detail, rounds)


def follow(
    store: Store,
    name: str,
    on_view: Callable[[CampaignView], None],
    *,
    timeout_s: float | None = None,
    silence_s: float = SILENCE_S,
) -> CampaignView:
    """Show a campaign to `on_view` again and again until it ended.

    Raises:
        DeadlineError: `timeout_s` passed first; the campaign itself goes on.
        UnavailableError: nobody has served the store for `silence_s`.
    """
    started = time.monotonic()
    while True:
        view = look(store, name)
        on_view(view)
        if view.state in ENDED:
            return view
        waited_s = time.monotonic() - started
        if timeout_s is not None and waited_s >= timeout_s:
            raise DeadlineError(
                f"campaign {name!r} is still {view.state.value} after {timeout_s:g} s "
                f"({view.detail or 'no news'}); it goes on: {hints.coordinator(f'round watch {name}')}"
            )
        if waited_s >= silence_s and not served(store):
            raise UnavailableError(
                f"no coordinator is serving this store; start {hints.coordinator('serve')}"
            )
        time.sleep(LOOK_EVERY_S)


def served(store: Store) -> bool:
    """True if a serving process was heard of within `SILENCE_S`."""
    beat = store.last_beat()
    return beat is not None and utc_now() - beat < timedelta(seconds=SILENCE_S)


def to_resume(name: str) -> str:
    """What to do about a campaign that failed or was aborted."""
    return f"{hints.coordinator(f'round resume {name}')} goes on where it stopped"


def require_published(view: CampaignView) -> None:
    """Return if a campaign that ended has a published prompt.

    Raises:
        PromptferryError: it failed or was aborted; says why, and how to go on.
    """
    if view.state is not CampaignState.PUBLISHED:
        raise PromptferryError(
            f"campaign {view.name!r} {view.state.value}: {view.detail or 'no reason given'}; {to_resume(view.name)}"
        )
