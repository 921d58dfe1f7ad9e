"""From a finished campaign to a published version: PEFT files and a signed statement about them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from coordinator.crossing import Crossing
from coordinator.history import History
from coordinator.identity import Identity
from coordinator.library import Contribution, composed, inherited, told
from coordinator.plan import CampaignPlan
from coordinator.records import PromptVersion
from coordinator.store import Store
from transfer.errors import VerificationError
from transfer.model_ref import LmHead
from transfer.privacy import ADJACENCY, accountant_name
from transfer.prompt import CONFIG_FILE, HEAD_FILE, HEAD_KEY, WEIGHTS_FILE, SoftPrompt, peft_config
from transfer.signing import PROMPT_PREDICATE, STATEMENT_TYPE, Envelope, Statement, sign, statement

NOT_PRIVATE = (
    "that a client took part, in which rounds, and how it declined",
    "when rounds were asked and answered",
    "the task: template, label names and label words",
    "the settings of tuning: steps, sample rate, noise, clipping norm, learning rate",
    "the public text and everything learnt from it",
)
"""What the guarantee says nothing about."""
SAMPLING = "Poisson"
NOISE = "discretised Gaussian, AES-256-CTR"


def publish(
    store: Store, identity: Identity, plan: CampaignPlan, history: History, crossing: Crossing
) -> PromptVersion:
    """Publish what a campaign made as the next version of the prompt its plan names.

    Raises:
        VerificationError: the files do not load back to the very same vectors; nothing is published.
    """
    files = artifact(crossing.prompt, crossing.lm_head, plan.task.head_rows)

    def build(version: int) -> tuple[Envelope, Mapping[str, bytes]]:
        return signed(files, predicate(plan, history, crossing, version), identity), files

    return store.publish(plan.publish.prompt, build)


def artifact(prompt: SoftPrompt, lm_head: LmHead, head_rows: int = 0) -> dict[str, bytes]:
    """Files of the PEFT directory by name; the last `head_rows` rows are a head and a file of their own.

    Raises:
        VerificationError: they do not load back to the very same vectors.
    """
    first = SoftPrompt(prompt.vectors[: prompt.length - head_rows], prompt.model)
    weights = first.to_bytes()
    if not torch.equal(SoftPrompt.from_bytes(weights, prompt.model).vectors, first.vectors):
        raise VerificationError(
            "the written prompt does not load back to the same vectors; nothing is published"
        )
    files = {WEIGHTS_FILE: weights, CONFIG_FILE: peft_config(first, prompt.model.name, lm_head)}
    if head_rows:
        head = SoftPrompt(prompt.vectors[-head_rows:], prompt.model)
        files[HEAD_FILE] = head.to_bytes(HEAD_KEY)
    return files


def predicate(plan: CampaignPlan, history: History, crossing: Crossing, version: int) -> dict[str, Any]:
    """What the statement says about a prompt version, ready for JSON; ε = ∞ is the string "inf"."""
    return {
        "prompt": plan.publish.prompt,
        "version": version,
        "task": asdict(plan.task),
        "target": asdict(crossing.prompt.model),
        "proxy": asdict(crossing.proxy),
        "lm_head": crossing.lm_head,
        "campaign": plan.name,
        "rounds": plan.rounds,
        "lineage": _lineage(plan, history, crossing),
        "privacy": _privacy(plan, history, crossing),
    }


def _lineage(plan: CampaignPlan, history: History, crossing: Crossing) -> dict[str, Any]:
    asked = crossing.choice
    library = {"library": told(plan.library, asked, crossing.books)} if asked else {}
    return {
        "start": asdict(plan.start),
        "rounds": [asdict(item) for item in history.rounds],
        "public_text": {"sha256": crossing.texts_digest, "texts": crossing.texts},
        "transfer": {**asdict(crossing.settings), "best_step": crossing.best_step},
        "held_out_loss": dict(crossing.losses),
        **library,
    }


def _privacy(plan: CampaignPlan, history: History, crossing: Crossing) -> dict[str, Any]:
    spend = plan.tuning.spend
    older = inherited(crossing.choice, crossing.books) if crossing.choice else []
    whole = composed([*older, Contribution.of(plan, history)])
    return {
        "unit": whole.unit,
        "adjacency": ADJACENCY,
        "epsilon": number(whole.epsilon),
        "delta": whole.delta,
        "accountant": accountant_name(),
        "sampling": SAMPLING,
        "noise": NOISE,
        "per_round": {**asdict(spend), "clip_norm": plan.tuning.clip_norm},
        "clients": [
            {
                "client": cost.client,
                "rounds": cost.rounds,
                "epsilon": number(cost.campaign.epsilon),
                "delta": cost.campaign.delta,
                "lifetime_epsilon": number(cost.lifetime.epsilon),
                "lifetime_delta": cost.lifetime.delta,
            }
            for cost in history.costs
        ],
        "not_private": list(NOT_PRIVATE),
    }


def number(epsilon: float) -> float | str:
    """ε as JSON has it: a number, or "inf"."""
    return epsilon if math.isfinite(epsilon) else "inf"


def signed(files: Mapping[str, bytes], told: Mapping[str, Any], identity: Identity) -> Envelope:
    """Signed statement that binds `files` to the predicate `told`."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return sign(statement(digests, PROMPT_PREDICATE, told), STATEMENT_TYPE, identity.publisher)


def told_about(version: PromptVersion, identity: Identity) -> Mapping[str, Any]:
    """The verified predicate of a published version.

    Raises:
        VerificationError: it was not signed by this coordinator.
    """
    key = identity.publisher.public_key()
    return Statement.verified(version.statement, key, PROMPT_PREDICATE).predicate


def published_by(store: Store, identity: Identity, plan: CampaignPlan) -> PromptVersion | None:
    """The version a campaign has published already, if it was interrupted right after."""
    for version in store.prompt_versions(plan.publish.prompt):
        if told_about(version, identity)["campaign"] == plan.name:
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
    told = told_about(earlier, identity)
    files = {file.path: store.prompt_file(prompt, version, file.path) for file in earlier.files}

    def build(number: int) -> tuple[Envelope, Mapping[str, bytes]]:
        lineage = {**told["lineage"], "republishes": version}
        return signed(files, {**told, "version": number, "lineage": lineage}, identity), files

    newest = store.publish(prompt, build)
    for item in store.prompt_versions(prompt):
        if version < item.version < newest.version and item.state == "published":
            store.set_prompt_state(prompt, item.version, "revoked")
    return newest
