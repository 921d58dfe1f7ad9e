"""The start of a campaign: what cannot finish is refused before any client spends privacy, and the first prompt."""

from dataclasses import dataclass
from pathlib import Path

from coordinator.home.identity import Identity
from coordinator.publication.library import consulted, starting
from coordinator.rounds.plan import CampaignPlan
from coordinator.rounds.round_spec import start_prompt
from coordinator.store.store import Store
from transfer.files.public_text import read_texts
from transfer.models.language_model import LanguageModel
from transfer.post.compatibility import check_possible
from transfer.privacy import Guarantee
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt


@dataclass(frozen=True, slots=True, eq=False)
class FirstStart:
    """The prompt [P, H] that the first round starts from, and names of the published versions that taught it."""

    prompt: SoftPrompt
    library: tuple[str, ...] = ()


def first_start(
    store: Store,
    identity: Identity,
    plan: CampaignPlan,
    proxy: LanguageModel,
    target: LanguageModel,
    on_step: OnStep,
) -> FirstStart:
    """Return the start of a campaign's first round.

    Raises:
        PromptferryError: public text, target, label words or library prompt are unusable.
    """
    check_possible(proxy, target, plan.task, read_texts(Path(plan.public_text)), plan.transfer)
    for model, length in ((proxy, plan.start.length), (target, plan.target_length)):
        model.require_positions(length + plan.task.max_tokens)
    release = Guarantee(plan.epsilon, plan.delta, plan.tuning.spend.unit)
    consulted(plan, store, identity, target.ref, release)
    entries = starting(plan, store, identity, (proxy.ref, target.ref), release)
    prompt = start_prompt(plan, proxy, target, on_step, [entry.record for entry in entries])
    return FirstStart(prompt, tuple(entry.record.name for entry in entries))
