"""A campaign as an observer sees it: a view read from the store, followed until the campaign ends."""

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
"""Longest age of a heartbeat from a serving process; a busy machine may delay a heartbeat by ten seconds."""


@dataclass(frozen=True, slots=True)
class UncountedView:
    """A reply or an outcome that does not count for its round, with the reason."""

    client: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoundView:
    """One round: the outcome of each client, and the outcomes that do not count.

    `state` is "open" or "closed". For an unfinished round of an ended campaign it is "failed" or "aborted".
    """

    index: int
    state: str
    outcomes: Mapping[str, str]
    uncounted: tuple[UncountedView, ...] = ()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Pairs of a client and its outcome as text, for people."""
        uncounted = [(item.client, f"{item.outcome}, not counted: {item.reason}") for item in self.uncounted]
        return [*self.outcomes.items(), *uncounted]


@dataclass(frozen=True, slots=True)
class CampaignView:
    """A campaign's state and its rounds."""

    name: str
    state: CampaignState
    detail: str
    rounds: tuple[RoundView, ...]


def look(store: Store, name: str) -> CampaignView:
    """Return the current view of a campaign.

    Raises:
        NotFoundError: no campaign has that name.
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
    """Pass views of a campaign to `on_view` until the campaign ends, and return the last one.

    Raises:
        DeadlineError: `timeout_s` seconds passed first; the campaign itself continues.
        UnavailableError: no process serves the store, and `silence_s` seconds passed.
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
                f"({view.detail or 'no progress yet'}); it goes on: {hints.coordinator(f'round watch {name}')}"
            )
        if waited_s >= silence_s and not served(store):
            raise UnavailableError(f"no coordinator serves this store; start {hints.coordinator('serve')}")
        time.sleep(LOOK_EVERY_S)


def served(store: Store) -> bool:
    """Return whether a process wrote its heartbeat within the last `SILENCE_S` seconds."""
    beat = store.last_beat()
    return beat is not None and utc_now() - beat < timedelta(seconds=SILENCE_S)


def to_resume(name: str) -> str:
    """Return the next step for a failed or aborted campaign, as text."""
    return f"{hints.coordinator(f'round resume {name}')} goes on where it stopped"


def require_published(view: CampaignView) -> None:
    """Refuse an ended campaign without a published prompt.

    Raises:
        PromptferryError: it failed or was aborted; the message has the reason and the next step.
    """
    if view.state is not CampaignState.PUBLISHED:
        raise PromptferryError(
            f"campaign {view.name!r} {view.state.value}: {view.detail or 'no reason given'}; {to_resume(view.name)}"
        )
