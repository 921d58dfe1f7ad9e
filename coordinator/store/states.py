"""The states of a campaign (`coordinator.store.records.CampaignState`) as a table of transitions.

    PENDING ──► RUNNING ──► TRANSFERRING ──► PUBLISHED
       ▲  │        │             │
       │  └────────┼──────┬──────┘
       │           ▼      ▼
       └─────── FAILED  ABORTED        (`round resume`)

A state may follow itself, which records progress. PUBLISHED is final. Nothing here knows time, storage or network.
"""

from collections.abc import Mapping

from coordinator.store.records import CampaignState
from transfer.errors import UsageError

FOLLOWS: Mapping[CampaignState, frozenset[CampaignState]] = {
    CampaignState.PENDING: frozenset({CampaignState.RUNNING, CampaignState.FAILED, CampaignState.ABORTED}),
    CampaignState.RUNNING: frozenset(
        {CampaignState.TRANSFERRING, CampaignState.FAILED, CampaignState.ABORTED}
    ),
    CampaignState.TRANSFERRING: frozenset(
        {CampaignState.PUBLISHED, CampaignState.FAILED, CampaignState.ABORTED}
    ),
    CampaignState.PUBLISHED: frozenset(),
    CampaignState.FAILED: frozenset({CampaignState.PENDING}),
    CampaignState.ABORTED: frozenset({CampaignState.PENDING}),
}
ACTIVE = frozenset({CampaignState.RUNNING, CampaignState.TRANSFERRING})
"""States that a serving coordinator works on, also after a restart."""
ENDED = frozenset({CampaignState.PUBLISHED, CampaignState.FAILED, CampaignState.ABORTED})
"""States in which nothing happens until an operator resumes the campaign."""


def allowed(current: CampaignState, following: CampaignState) -> bool:
    """Return whether `following` may follow `current`; every state may follow itself."""
    return following is current or following in FOLLOWS[current]


def check(campaign: str, current: CampaignState, following: CampaignState) -> None:
    """Refuse a transition that is not in the table.

    Raises:
        UsageError: `following` must not follow `current`; the message names the states that may.
    """
    if allowed(current, following):
        return
    names = ", ".join(sorted(state.name for state in FOLLOWS[current])) or "nothing"
    raise UsageError(
        f"campaign {campaign!r} is {current.name} and cannot become {following.name}; "
        f"what may follow: {names}"
    )
