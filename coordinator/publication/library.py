"""The prompt library: what is published already, read back from the store, verified, and ready to be compared.

A campaign's last aggregate is the prompt of the proxy, the published version the prompt of the target; nothing is
kept beside them. Whatever a release was compared with has had a say in it, so the data owners behind all of that
are named in its lineage, and what they spent is composed.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.home.identity import Identity
from coordinator.rounds.history import History
from coordinator.rounds.plan import AUTO, NO_LIBRARY, CampaignPlan
from coordinator.store.records import PromptVersion
from coordinator.store.store import Store
from transfer.artifact import WEIGHTS_FILE
from transfer.errors import NotFoundError, UsageError, VerificationError
from transfer.files.public_text import read_texts
from transfer.model_ref import ModelRef
from transfer.panda.library import Choice, LibraryRecord
from transfer.panda.selection import OWN_TEXTS
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.protocol.prompt_lineage import CohortV1, ComparedV1, ComparisonV1, CostV1, LibraryV1
from transfer.protocol.prompt_statement import PromptStatement
from transfer.protocol.signing import PROMPT_PREDICATE, Statement


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one campaign cost each of its data owners."""

    campaign: str
    costs: Mapping[str, Guarantee]

    @staticmethod
    def of(plan: CampaignPlan, history: History) -> "Contribution":
        """The one of a campaign that is to be published."""
        return Contribution(plan.name, {cost.client: cost.campaign for cost in history.costs})

    @staticmethod
    def stated(statement: PromptStatement) -> "tuple[Contribution, ...]":
        """Those behind a published prompt: of its own campaign, then of those it inherited."""
        unit = statement.privacy.unit
        own = {item.client: Guarantee(item.epsilon, item.delta, unit) for item in statement.privacy.clients}
        cohorts = statement.lineage.library.cohorts if statement.lineage.library else ()
        older = (
            Contribution(item.campaign, {client: cost.guarantee for client, cost in item.costs.items()})
            for item in cohorts
        )
        return (Contribution(statement.campaign, own), *older)

    @property
    def cohort(self) -> CohortV1:
        """The same as a later prompt's statement has it."""
        costs = {client: CostV1.of(cost) for client, cost in self.costs.items()}
        return CohortV1(campaign=self.campaign, costs=costs)


@dataclass(frozen=True, slots=True, eq=False)
class LibraryEntry:
    """A library record with what its signed statement says beyond it.

    Attributes:
        digest: SHA-256 of the file of its prompt.
        contributions: of its own campaign and of those it inherited, in this order.
    """

    record: LibraryRecord
    digest: str
    contributions: tuple[Contribution, ...]


def consulted(
    plan: CampaignPlan, store: Store, identity: Identity, target: ModelRef, release: Guarantee
) -> list[LibraryEntry]:
    """The books the plan wants to be asked: none, all, or the one it names.

    Raises:
        NotFoundError: nothing of that name is published.
        UsageError: the one named may not be used for this release.
        VerificationError: what is stored is not what was signed.
    """
    if plan.library == NO_LIBRARY:
        return []
    if plan.library == AUTO:
        return _books(store, identity, None)
    named = _books(store, identity, plan.library)
    if not named:
        raise NotFoundError(f"no prompt {plan.library!r} is published: there is no such library prompt")
    obstacles = {book.record.name: book.record.obstacle(target, plan.name, release) for book in named}
    usable = [book for book in named if obstacles[book.record.name] is None]
    if not usable:
        name, obstacle = next(iter(obstacles.items()))
        raise UsageError(f"library prompt {name} {obstacle}; name another one, or say auto or none")
    return usable


def composed(contributions: Iterable[Contribution]) -> Guarantee:
    """(ε, δ) of the data owner who paid most over all campaigns: both are summed over those it took part in.

    Raises:
        UsageError: they are finite and for different units, so that a sum says nothing.
    """
    spent: dict[str, list[Guarantee]] = defaultdict(list)
    units = []
    for item in {item.campaign: item for item in contributions}.values():
        for client, cost in item.costs.items():
            spent[client].append(cost)
            units.append(cost.unit)
    whole = Guarantee(
        max(sum(cost.epsilon for cost in costs) for costs in spent.values()),
        max(sum(cost.delta for cost in costs) for costs in spent.values()),
        units[-1],  # of the release itself, which comes last
    )
    if math.isfinite(whole.epsilon) and len(set(units)) > 1:
        raise UsageError("the campaigns protect different units: their costs cannot be summed")
    return whole


def inherited(choice: Choice, books: Sequence[LibraryEntry]) -> list[Contribution]:
    """The contributions behind every prompt the choice was made among, each campaign once."""
    found = (item for book in _compared(choice, books) for item in book.contributions)
    return list({item.campaign: item for item in found}.values())


def library_stated(mode: str, choice: Choice, books: Sequence[LibraryEntry]) -> LibraryV1:
    """What a statement's lineage says about the library."""
    compared = {book.record.name: _stated(book) for book in _compared(choice, books)}
    measured = choice.comparison
    return LibraryV1(
        mode=mode,
        used=compared[choice.chosen] if choice.chosen else None,
        compared=tuple(compared.values()),
        comparison=ComparisonV1(difference=measured.difference, error=measured.error) if measured else None,
        cohorts=tuple(item.cohort for item in inherited(choice, books)),
    )


def _stated(book: LibraryEntry) -> ComparedV1:
    return ComparedV1(
        prompt=book.record.name,
        sha256=book.digest,
        campaign=book.record.cohorts[0],
        epsilon=book.record.guarantee.epsilon,
        delta=book.record.guarantee.delta,
    )


def _compared(choice: Choice, books: Sequence[LibraryEntry]) -> list[LibraryEntry]:
    asked = {item.name for item in choice.candidates if item.obstacle is None}
    return [book for book in books if book.record.name in asked]


def _books(store: Store, identity: Identity, prompt: str | None) -> list[LibraryEntry]:
    """The newest published version of every prompt, or of one, for each target."""
    found: dict[tuple[str, str], LibraryEntry] = {}
    for version in store.prompt_versions(prompt, published_only=True):
        signed = Statement.verified(version.statement, identity.publisher.public_key(), PROMPT_PREDICATE)
        statement = PromptStatement.from_predicate(signed.predicate)
        place = version.prompt, statement.target.digest
        if place not in found:
            found[place] = _book(store, version, signed, statement)
    return list(found.values())


def _book(
    store: Store, version: PromptVersion, signed: Statement, statement: PromptStatement
) -> LibraryEntry:
    weights = store.prompt_file(version.prompt, version.version, WEIGHTS_FILE)
    signed.check(WEIGHTS_FILE, weights)
    contributions = Contribution.stated(statement)
    record = LibraryRecord(
        name=version.name,
        prompt=SoftPrompt.from_bytes(weights, statement.target.ref),
        proxy_prompt=_aggregate(store, version.name, statement),
        task=statement.task.task,
        texts=_own_texts(store, statement.campaign, statement.lineage.public_text.sha256),
        cohorts=tuple(item.campaign for item in contributions),
        guarantee=statement.privacy.guarantee,
    )
    return LibraryEntry(record, signed.digests[WEIGHTS_FILE], contributions)


def _aggregate(store: Store, name: str, statement: PromptStatement) -> SoftPrompt:
    """The prompt of the proxy that the last round made."""
    campaign, digest = statement.campaign, statement.lineage.rounds[-1].prompt
    for item in store.rounds(campaign):
        if item.prompt is not None and hashlib.sha256(item.prompt).hexdigest() == digest:
            return SoftPrompt.from_bytes(item.prompt, statement.proxy.ref)
    raise VerificationError(f"{name}: no stored round of {campaign!r} made the prompt it was signed with")


def _own_texts(store: Store, campaign: str, digest: str) -> tuple[str, ...]:
    """Some of the public text the campaign used, spread over the file; none if that has gone or changed."""
    path = Path(CampaignPlan.from_json(store.campaign(campaign).plan).public_text)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        return ()
    texts = read_texts(path)
    return tuple(texts[:: max(1, len(texts) // OWN_TEXTS)][:OWN_TEXTS])
