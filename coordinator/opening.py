"""What a round is opened with: the prompt of the first one, and the directions each may tune in."""

from pathlib import Path

import torch

from coordinator.plan import CampaignPlan
from transfer.directions import public_subspace
from transfer.models import LanguageModel
from transfer.prompt import SoftPrompt
from transfer.subspace import Subspace
from transfer.texts import read_texts


def start_prompt(plan: CampaignPlan, proxy: LanguageModel) -> SoftPrompt:
    """Where the first round starts; equal every time for one plan and proxy."""
    if plan.start.init == "text":
        prompt = proxy.text_prompt(plan.task.init_text, plan.start.length)
    else:
        prompt = proxy.vocabulary_prompt(plan.start.length, torch.Generator().manual_seed(plan.seed))
    return prompt.longer(plan.task.head_rows)


def directions(plan: CampaignPlan, index: int, start: SoftPrompt, proxy: LanguageModel) -> Subspace | None:
    """The directions round `index` may tune in, learnt at its start on the plan's public text; None for all."""
    if not plan.dimensions:
        return None
    texts = read_texts(Path(plan.public_text))
    return public_subspace(proxy, plan.task, texts, start, plan.dimensions, plan.seed + index)
