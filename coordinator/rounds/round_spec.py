"""What a round asks of every client: its start, the directions that clients tune in, and the roster of their keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from coordinator.home.identity import Identity
from coordinator.rounds.plan import CampaignPlan
from coordinator.store.records import Client, ClientState, Round
from coordinator.store.store import Store
from transfer.files.public_text import read_texts
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.public_directions import public_subspace
from transfer.panda.library import LibraryRecord
from transfer.panda.reptile import library_start
from transfer.post.starts import public_answers, public_start
from transfer.progress import OnStep
from transfer.prompt import SoftPrompt
from transfer.protocol.roster import Roster
from transfer.protocol.rounds import RoundRequest, nonce, round_name
from transfer.subspace import Subspace


@dataclass(frozen=True, slots=True, eq=False)
class RoundSpec:
    """Round `index` of a campaign; the requests to clients on the roster differ only in name and nonce."""

    plan: CampaignPlan
    index: int
    start: SoftPrompt
    roster: Roster
    subspace: Subspace | None = None

    @staticmethod
    def of(plan: CampaignPlan, opened: Round, proxy: ModelRef) -> "RoundSpec":
        """Return the spec that a round was opened with."""
        subspace = Subspace.from_bytes(opened.subspace) if opened.subspace else None
        start = SoftPrompt.from_bytes(opened.start_prompt, proxy)
        return RoundSpec(plan, opened.index, start, Roster.from_bytes(opened.roster), subspace)

    def to(self, client: str, identity: Identity) -> RoundRequest:
        """Return the request to one client; asking a round again repeats the same request."""
        name = round_name(self.plan.name, self.index)
        return RoundRequest(
            round=name,
            rounds=self.plan.rounds,
            client=client,
            nonce=nonce(identity.secret, name, client),
            task=self.plan.task,
            tuning=self.plan.tuning,
            prompt=self.start,
            cohort=self.plan.min_clients,
            roster=self.roster,
            subspace=self.subspace,
        )


def start_prompt(
    plan: CampaignPlan,
    proxy: LanguageModel,
    target: LanguageModel,
    on_step: OnStep = lambda _step, _steps: None,
    library: Sequence[LibraryRecord] = (),
) -> SoftPrompt:
    """Return the start of the first round, which only for "library" is learnt from `library`, ≥ 1 record.

    Only a start of public text asks the target, and only these two take steps.
    """
    length, init_text = plan.start.length, plan.task.init_text
    match plan.start.init:
        case "public":
            texts = read_texts(Path(plan.public_text))
            answers = public_answers(target, plan.task, texts)
            return public_start(answers, proxy, plan.task, texts, length, plan.seed, on_step)
        case "library":
            prompt = library_start(proxy, proxy.text_prompt(init_text, length), library, plan.seed, on_step)
        case "text":
            prompt = proxy.text_prompt(init_text, length)
        case "vocabulary":
            prompt = proxy.vocabulary_prompt(length, torch.Generator().manual_seed(plan.seed))
    return prompt.longer(plan.task.head_rows)


def directions(plan: CampaignPlan, index: int, start: SoftPrompt, proxy: LanguageModel) -> Subspace:
    """Return the directions that clients tune in, learnt at `start` on the plan's public text."""
    texts = read_texts(Path(plan.public_text))
    return public_subspace(proxy, plan.task, texts, start, plan.dimensions, plan.seed + index)


def roster(store: Store) -> Roster:
    """Return the keys of all clients that may take part in a round that opens now."""
    return Roster.of(client.signing_key for client in enrolled(store) if client.signing_key)


def enrolled(store: Store) -> list[Client]:
    """Return all clients that may take part."""
    return [client for client in store.clients() if client.state is ClientState.ENROLLED]
