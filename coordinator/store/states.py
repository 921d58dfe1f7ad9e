"""The life of a campaign as a table of transitions; no time, no storage, no network.

    PENDING ──► RUNNING ──► TRANSFERRING ──► PUBLISHED
       ▲  │        │             │
       │  └────────┼──────┬──────┘
       │           ▼      ▼
       └─────── FAILED  ABORTED        (`round resume`)

A state may follow itself: that is how progress is noted. PUBLISHED is the end.
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
"""States a serving coordinator works on; after a restart it goes on with these."""
ENDED = frozenset({CampaignState.PUBLISHED, CampaignState.FAILED, CampaignState.ABORTED})
"""States in which nothing happens any more unless someone asks for it."""


def allowed(current: CampaignState, following: CampaignState) -> bool:
    """True if a campaign in `current` may be put into `following`; every state may follow itself."""
    return following is current or following in FOLLOWS[current]


def check(campaign: str, current: CampaignState, following: CampaignState) -> None:
    """Return if the transition is in the table.

    Raises:
        UsageError: it is not; names what may follow.
    """
    if allowed(current, following):
        return
    names = ", ".join(sorted(state.name for state in FOLLOWS[current])) or "nothing"
    raise UsageError(
        f"campaign {campaign!r} is {current.name} and cannot become {following.name}; "
        f"what may follow: {names}"
    )
