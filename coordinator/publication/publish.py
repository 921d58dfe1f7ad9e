"""Publication of a finished campaign: PEFT files and a signed statement about them as a new version."""

import hashlib
from collections.abc import Mapping
from typing import Any

from coordinator.home.identity import Identity
from coordinator.home.settings import TargetSettings
from coordinator.publication.campaign_statement import campaign_statement
from coordinator.publication.transfer import TransferResult, transfer_campaign
from coordinator.rounds.history import History
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import PromptVersion
from coordinator.store.store import Store
from transfer.peft_directory import PeftDirectory
from transfer.progress import OnStep
from transfer.protocol.prompt_statement import PromptStatement, republished
from transfer.protocol.signing import PROMPT_PREDICATE, STATEMENT_TYPE, Envelope, Statement, sign, statement


def publish(
    store: Store, identity: Identity, plan: CampaignPlan, history: History, result: TransferResult
) -> PromptVersion:
    """Publish a campaign's result as the next version of the prompt that its plan names.

    Raises:
        VerificationError: the files do not load back to the same vectors; nothing is published.
    """
    task = plan.task
    files = PeftDirectory.of(result.prompt, task.head_rows).to_files(result.lm_head, task.prompt_at)

    def build(version: int) -> tuple[Envelope, Mapping[str, bytes]]:
        predicate = campaign_statement(plan, history, result, version).to_predicate()
        return signed(files, predicate, identity), files

    return store.publish(plan.publish.prompt, build)


def transfer_and_publish(
    store: Store,
    identity: Identity,
    plan: CampaignPlan,
    default: TargetSettings,
    on_step: OnStep = lambda _step, _steps: None,
) -> tuple[PromptVersion, TransferResult]:
    """Transfer the last aggregate of a campaign to the plan's target and publish the result.

    Args:
        store: holds the campaign's closed rounds and receives the version.
        identity: signs the version.
        plan: the campaign's plan; target, public text and publication may differ from the launched plan.
        default: target for a plan that names none.
        on_step: receives the step and the number of steps of the transfer.

    Raises:
        UsageError: a round is not closed, or the plan must not use its library prompt.
        NotFoundError: the plan's library prompt does not exist.
        VerificationError: a round does not verify, or the prompt does not beat its baselines.
    """
    history, result = transfer_campaign(store, identity, plan, default, on_step)
    return publish(store, identity, plan, history, result), result


def signed(files: Mapping[str, bytes], predicate: Mapping[str, Any], identity: Identity) -> Envelope:
    """Return a signed statement that binds `files` to `predicate`."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return sign(statement(digests, PROMPT_PREDICATE, predicate), STATEMENT_TYPE, identity.publisher)


def verified_predicate(version: PromptVersion, identity: Identity) -> Mapping[str, Any]:
    """Return the verified predicate of a published version, exactly as signed.

    Raises:
        VerificationError: this coordinator did not sign it.
    """
    key = identity.publisher.public_key()
    return Statement.verified(version.statement, key, PROMPT_PREDICATE).predicate


def published_by(store: Store, identity: Identity, plan: CampaignPlan) -> PromptVersion | None:
    """Return the version that the campaign already published before an interruption, or None."""
    for version in store.prompt_versions(plan.publish.prompt):
        if PromptStatement.from_predicate(verified_predicate(version, identity)).campaign == plan.name:
            return version
    return None


def republish(store: Store, identity: Identity, prompt: str, version: int) -> PromptVersion:
    """Publish an earlier version's files again as the newest, and revoke the versions in between.

    Recipients refuse a version with a lower number, so a rollback publishes older content under a new number.

    Raises:
        NotFoundError: no such version exists.
        VerificationError: this coordinator did not sign it.
    """
    earlier = store.prompt_version(prompt, version)
    predicate = verified_predicate(earlier, identity)
    files = {file.path: store.prompt_file(prompt, version, file.path) for file in earlier.files}

    def build(number: int) -> tuple[Envelope, Mapping[str, bytes]]:
        return signed(files, republished(predicate, number, version), identity), files

    newest = store.publish(prompt, build)
    for item in store.prompt_versions(prompt):
        if version < item.version < newest.version and item.state == "published":
            store.set_prompt_state(prompt, item.version, "revoked")
    return newest
