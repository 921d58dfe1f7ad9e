"""What a transferred prompt has to beat: ways to use the proxy's prompt on the target that learn nothing.

The bare target is `class_logits(target, task, texts, None)`. POST with one of its losses alone is a setting:
`only_answers` and `only_change`.

Letters: N texts, C classes; z_t^0 is the target bare, z_s^p the proxy with its prompt, z_s^0 the proxy bare.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.post.evaluation import class_logits
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.tasks import Task


def text_prompt(target: LanguageModel, task: Task, length: int) -> SoftPrompt:
    """The prompt that tuning starts from: the task's own words, and a head that says nothing; nothing learnt."""
    return target.text_prompt(task.init_text, length).longer(task.head_rows)


def direct(prompt: SoftPrompt, target: LanguageModel) -> SoftPrompt:
    """The proxy's vectors before the target, as they are.

    Raises:
        UsageError: the target's hidden size is another.
    """
    if prompt.width != target.width:
        raise UsageError(
            f"direct transfer needs equal widths: the prompt's is {prompt.width}, "
            f"{target.ref.name!r} has {target.width}"
        )
    return SoftPrompt(prompt.vectors, target.ref)


def logit_arithmetic(
    prompt: SoftPrompt, proxy: LanguageModel, target: LanguageModel, task: Task, texts: Sequence[str]
) -> torch.Tensor:
    """Class logits [N, C] z_t^0 + z_s^p − z_s^0 (proxy-tuning, Liu et al. 2024, https://arxiv.org/abs/2401.08565).

    Three forward passes a text and no prompt of the target, so nothing that could be delivered.
    """
    change = class_logits(proxy, task, texts, prompt) - class_logits(proxy, task, texts, None)
    return class_logits(target, task, texts, None) + change


def only_answers(settings: TransferSettings) -> TransferSettings:
    """POST's L1 alone (eq. 3): answer as the prompted proxy does."""
    return replace(settings, alpha=0.0)


def only_change(settings: TransferSettings) -> TransferSettings:
    """POST's L2 alone (eq. 4): change the answer as the proxy's prompt changed the proxy's."""
    return replace(settings, alpha=1.0)
