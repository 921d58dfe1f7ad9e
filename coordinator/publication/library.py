"""The prompt library: published prompts, read from the store and verified, for comparison with a new one.

A campaign's last aggregate is the prompt of the proxy; the published version is the prompt of the target. The
library stores nothing else. Every prompt that a release is compared with, or starts from, influences the release. Its
lineage therefore names the data owners behind all of these prompts, and its guarantee composes their costs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.home.identity import Identity
from coordinator.publication.contributions import Contribution, each_once
from coordinator.rounds.plan import AUTO, NO_LIBRARY, CampaignPlan
from coordinator.store.records import PromptVersion
from coordinator.store.store import Store
from transfer.errors import DataError, NotFoundError, UsageError, VerificationError
from transfer.files.public_text import digest_of, read_texts
from transfer.model_ref import ModelRef
from transfer.names import parse_prompt_version
from transfer.panda.library import Choice, LibraryRecord
from transfer.panda.reptile import MOST_TASKS
from transfer.panda.selection import OWN_TEXTS
from transfer.peft_directory import WEIGHTS_FILE
from transfer.privacy import Guarantee
from transfer.prompt import SoftPrompt
from transfer.protocol.prompt_lineage import ComparedV1, ComparisonV1, LibraryV1, StartV1
from transfer.protocol.prompt_statement import PromptStatement
from transfer.protocol.signing import PROMPT_PREDICATE, Statement


@dataclass(frozen=True, slots=True)
class Teacher:
    """A published prompt that taught a campaign's start: how a statement names it, and the costs behind it."""

    stated: ComparedV1
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LibraryEntry:
    """A library record with further facts from its signed statement.

    Attributes:
        record: the library record.
        digest: SHA-256 of the prompt's file.
        contributions: those of its own campaign, then the inherited ones.
    """

    record: LibraryRecord
    digest: str
    contributions: tuple[Contribution, ...]


def consulted(
    plan: CampaignPlan, store: Store, identity: Identity, target: ModelRef, release: Guarantee
) -> list[LibraryEntry]:
    """Return the library entries that the plan considers: none, all, or the named one.

    Raises:
        NotFoundError: no prompt of that name is published.
        UsageError: the plan must not use the named prompt for this release.
        VerificationError: a stored prompt differs from its signed statement.
    """
    if plan.library == NO_LIBRARY:
        return []
    if plan.library == AUTO:
        return _entries(store, identity, None)
    named = _entries(store, identity, plan.library)
    if not named:
        raise NotFoundError(
            f"no prompt {plan.library!r} is published: name another library prompt, or say auto or none"
        )
    obstacles = {entry.record.name: entry.record.obstacle(target, plan.name, release) for entry in named}
    usable = [entry for entry in named if obstacles[entry.record.name] is None]
    if not usable:
        name, obstacle = next(iter(obstacles.items()))
        raise UsageError(f"library prompt {name} {obstacle}; name another one, or say auto or none")
    return usable


def starting(
    plan: CampaignPlan,
    store: Store,
    identity: Identity,
    models: tuple[ModelRef, ModelRef],
    release: Guarantee,
) -> list[LibraryEntry]:
    """Return the entries that a plan's first start is learnt from, newest first; none unless it asks for them.

    They are prompts of the same proxy and target (`models`), of the plan's length, read by label words, whose public
    text is still there: the newest such version of a prompt, and one of a campaign.

    Raises:
        UsageError: the plan asks for them, and there are none that it may use.
        VerificationError: a stored prompt differs from its signed statement.
    """
    if plan.start.init != "library":
        return []
    shape, target = (models[0].digest, plan.start.length), models[1]

    def usable(record: LibraryRecord) -> bool:
        fits = (record.proxy_prompt.model.digest, record.proxy_prompt.length) == shape
        return fits and bool(record.texts) and record.obstacle(target, plan.name, release) is None

    found, taken = dict[str, LibraryEntry](), set[str]()  # by campaign, and names of prompts
    for version in store.prompt_versions(None, published_only=True):  # newest first
        signed, statement = _signed(identity, version)
        if len(found) == MOST_TASKS or version.prompt in taken or statement.campaign in found:
            continue
        entry = _entry(store, version, signed, statement)
        if usable(entry.record):
            found[statement.campaign] = entry
            taken.add(version.prompt)
    if not found:
        raise UsageError(
            'plan prompt.init "library": no published prompt of this proxy, target and length, read by label words, '
            'with its public text and a privacy that adds up with this one, can start it; write init = "text"'
        )
    return list(found.values())


def teachers(
    store: Store, identity: Identity, plan: CampaignPlan, names: Sequence[str]
) -> tuple[Teacher, ...]:
    """Return the published versions of these resource names, which taught the campaign's start, as they were signed.

    Raises:
        NotFoundError: there is no such version.
        VerificationError: a statement does not verify, or the store has lost the names.
    """
    if plan.start.init == "library" and not names:
        raise VerificationError(
            f"campaign {plan.name!r}: the store no longer names the prompts that taught its start, so their clients' "
            "costs cannot be told; restore it from a backup"
        )
    return tuple(
        _teacher(*_signed(identity, store.prompt_version(*parse_prompt_version(name))), name)
        for name in names
    )


def _teacher(signed: Statement, statement: PromptStatement, name: str) -> Teacher:
    stated = _stated(name, signed.digests[WEIGHTS_FILE], statement.campaign, statement.privacy.guarantee)
    return Teacher(stated, Contribution.stated(statement))


def inherited(choice: Choice, entries: Sequence[LibraryEntry]) -> list[Contribution]:
    """Return the contributions behind every compared prompt, each campaign once."""
    return each_once(item for entry in _compared(choice, entries) for item in entry.contributions)


def library_stated(mode: str, choice: Choice, entries: Sequence[LibraryEntry]) -> LibraryV1:
    """Return the part of a statement's lineage about the library."""
    compared = {}
    for entry in _compared(choice, entries):
        name, campaign = entry.record.name, entry.record.cohorts[0]
        compared[name] = _stated(name, entry.digest, campaign, entry.record.guarantee)
    measured = choice.comparison
    return LibraryV1(
        mode=mode,
        used=compared[choice.chosen] if choice.chosen else None,
        compared=tuple(compared.values()),
        comparison=ComparisonV1(difference=measured.difference, error=measured.error) if measured else None,
        cohorts=tuple(item.cohort for item in inherited(choice, entries)),
    )


def start_stated(plan: CampaignPlan, taught_by: Sequence[Teacher]) -> StartV1:
    """Return the part of a statement's lineage about the first round's start, and the prompts that taught it."""
    behind = each_once(item for each in taught_by for item in each.contributions)
    return StartV1(
        length=plan.start.length,
        init=plan.start.init,
        learnt_from=tuple(each.stated for each in taught_by),
        cohorts=tuple(item.cohort for item in behind),
    )


def _stated(name: str, digest: str, campaign: str, cost: Guarantee) -> ComparedV1:
    return ComparedV1(prompt=name, sha256=digest, campaign=campaign, epsilon=cost.epsilon, delta=cost.delta)


def _compared(choice: Choice, entries: Sequence[LibraryEntry]) -> list[LibraryEntry]:
    eligible = {item.name for item in choice.candidates if item.obstacle is None}
    return [entry for entry in entries if entry.record.name in eligible]


def _entries(store: Store, identity: Identity, prompt: str | None) -> list[LibraryEntry]:
    """Return the newest published version of every prompt, or of one, for each target."""
    entries: dict[tuple[str, str], LibraryEntry] = {}
    for version in store.prompt_versions(prompt, published_only=True):
        signed, statement = _signed(identity, version)
        key = version.prompt, statement.target.digest
        if key not in entries:  # versions come newest first
            entries[key] = _entry(store, version, signed, statement)
    return list(entries.values())


def _signed(identity: Identity, version: PromptVersion) -> tuple[Statement, PromptStatement]:
    signed = Statement.verified(version.statement, identity.publisher.public_key(), PROMPT_PREDICATE)
    return signed, PromptStatement.from_predicate(signed.predicate)


def _entry(
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
    """Return the prompt of the proxy that the last round made."""
    campaign, digest = statement.campaign, statement.lineage.rounds[-1].prompt
    for item in store.rounds(campaign):
        if item.prompt is not None and hashlib.sha256(item.prompt).hexdigest() == digest:
            return SoftPrompt.from_bytes(item.prompt, statement.proxy.ref)
    raise VerificationError(
        f"{name}: no stored round of {campaign!r} has the aggregate {digest[:16]}… of the signed statement"
    )


def _own_texts(store: Store, campaign: str, digest: str) -> tuple[str, ...]:
    """Return some of the campaign's public text, spread over it; none if the file is missing or changed."""
    path = Path(CampaignPlan.from_json(store.campaign(campaign).plan).public_text)
    try:
        texts = read_texts(path) if digest_of(path) == digest else []
    except DataError:
        return ()
    return tuple(texts[:: max(1, len(texts) // OWN_TEXTS)][:OWN_TEXTS])
