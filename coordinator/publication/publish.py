"""From a finished campaign to a published version: PEFT files and a signed statement about them."""

import hashlib
from collections.abc import Mapping
from typing import Any

from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings
from coordinator.publication.campaign_statement import campaign_statement
from coordinator.publication.transfer import Crossing, carried
from coordinator.rounds.history import History
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import PromptVersion
from coordinator.store.store import Store
from transfer.artifact import Artifact
from transfer.progress import OnStep
from transfer.protocol.prompt_statement import PromptStatement, republished
from transfer.protocol.signing import PROMPT_PREDICATE, STATEMENT_TYPE, Envelope, Statement, sign, statement


def publish(
    store: Store, identity: Identity, plan: CampaignPlan, history: History, crossing: Crossing
) -> PromptVersion:
    """Publish what a campaign made as the next version of the prompt its plan names.

    Raises:
        VerificationError: the files do not load back to the very same vectors; nothing is published.
    """
    files = Artifact.of(crossing.prompt, plan.task.head_rows).to_files(crossing.lm_head)

    def build(version: int) -> tuple[Envelope, Mapping[str, bytes]]:
        predicate = campaign_statement(plan, history, crossing, version).to_predicate()
        return signed(files, predicate, identity), files

    return store.publish(plan.publish.prompt, build)


def retarget(
    store: Store,
    identity: Identity,
    plan: CampaignPlan,
    default: TargetSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> tuple[PromptVersion, Crossing]:
    """Carry the last aggregate of `plan`'s campaign over to the plan's target and publish the result.

    All rounds of the campaign are closed; target, public text and publication of the plan may be other ones
    than it was launched with. `default` is the target if the plan names none.

    Raises:
        UsageError: a round is missing, or the library prompt the plan names may not be used.
        NotFoundError: there is no such library prompt.
        VerificationError: the rounds do not hold, or the prompt is not worth publishing.
    """
    history, crossing = carried(store, identity, plan, default, on_step)
    return publish(store, identity, plan, history, crossing), crossing


def signed(files: Mapping[str, bytes], predicate: Mapping[str, Any], identity: Identity) -> Envelope:
    """Signed statement that binds `files` to `predicate`."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return sign(statement(digests, PROMPT_PREDICATE, predicate), STATEMENT_TYPE, identity.publisher)


def told_about(version: PromptVersion, identity: Identity) -> Mapping[str, Any]:
    """The verified predicate of a published version, just as it was signed.

    Raises:
        VerificationError: it was not signed by this coordinator.
    """
    key = identity.publisher.public_key()
    return Statement.verified(version.statement, key, PROMPT_PREDICATE).predicate


def published_by(store: Store, identity: Identity, plan: CampaignPlan) -> PromptVersion | None:
    """The version a campaign has published already, if it was interrupted right after."""
    for version in store.prompt_versions(plan.publish.prompt):
        if PromptStatement.from_predicate(told_about(version, identity)).campaign == plan.name:
            return version
    return None


def republish(store: Store, identity: Identity, prompt: str, version: int) -> PromptVersion:
    """Publish an earlier version's files again as the newest, and revoke those in between.

    Users refuse to go back to a lower number, so a roll-back is a step forward with older content.

    Raises:
        NotFoundError: no such version.
        VerificationError: it was not signed by this coordinator.
    """
    earlier = store.prompt_version(prompt, version)
    predicate = told_about(earlier, identity)
    files = {file.path: store.prompt_file(prompt, version, file.path) for file in earlier.files}

    def build(number: int) -> tuple[Envelope, Mapping[str, bytes]]:
        return signed(files, republished(predicate, number, version), identity), files

    newest = store.publish(prompt, build)
    for item in store.prompt_versions(prompt):
        if version < item.version < newest.version and item.state == "published":
            store.set_prompt_state(prompt, item.version, "revoked")
    return newest
