"""The baselines of a transferred prompt: ways to use the proxy's prompt on the target without learning.

The bare target is `class_logits(target, task, texts, None)`. POST with one of its losses alone is a setting:
`only_answers` and `only_change`.

Letters: N texts, M public texts, C classes; z_t^0 bare target, z_s^p proxy with its prompt, z_s^0 bare proxy.
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
    """Return the prompt that tuning starts from: the task's own words, and a head of zeros."""
    return target.text_prompt(task.init_text, length).longer(task.head_rows)


def direct(prompt: SoftPrompt, target: LanguageModel) -> SoftPrompt:
    """Return the proxy's vectors, unchanged, as a prompt of the target.

    Raises:
        UsageError: the models differ in hidden size.
    """
    if prompt.width != target.width:
        raise UsageError(
            f"direct transfer needs equal widths: the prompt's is {prompt.width}, "
            f"{target.ref.name!r} has {target.width}; transfer with POST"
        )
    return SoftPrompt(prompt.vectors, target.ref)


def logit_arithmetic(
    prompt: SoftPrompt, proxy: LanguageModel, target: LanguageModel, task: Task, texts: Sequence[str]
) -> torch.Tensor:
    """Return z_t^0 + z_s^p − z_s^0 [N, C] (proxy-tuning, Liu et al. 2024, https://arxiv.org/abs/2401.08565).

    It takes three forward passes per text and gives no prompt of the target, so nothing to deliver.
    """
    # [N, C]: what the prompt changes on the proxy is added to what the bare target says
    change = class_logits(proxy, task, texts, prompt) - class_logits(proxy, task, texts, None)
    return class_logits(target, task, texts, None) + change


def without_prior(
    model: LanguageModel, task: Task, texts: Sequence[str], public: Sequence[str]
) -> torch.Tensor:
    """Return log p(c | x_n) − m_c [N, C] of the bare model, m_c the mean of log p(c | x) over M public texts.

    What a model prefers before it has read a text says nothing about that text (Zhao et al. 2021,
    https://arxiv.org/abs/2102.09690, who measure it on texts without content). The public texts have no labels and no
    record is read: the answers cost no privacy, so a prompt is worth its budget only where it beats them.

    Raises:
        UsageError: there are no public texts.
    """
    if not public:
        raise UsageError("no public texts to measure the model's prior on; pass at least one")
    prior = class_logits(model, task, public, None).log_softmax(dim=1).mean(dim=0)  # [M, C] → [C]
    return class_logits(model, task, texts, None).log_softmax(dim=1) - prior


def balanced(logits: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities [N, C] of bare `logits` [N, C] without their prior on the same N texts."""
    answers = logits.log_softmax(dim=1)
    return answers - answers.mean(dim=0)


def only_answers(settings: TransferSettings) -> TransferSettings:
    """Return settings with POST's L1 alone (eq. 3): answer as the prompted proxy does."""
    return replace(settings, alpha=0.0)


def only_change(settings: TransferSettings) -> TransferSettings:
    """Return settings with POST's L2 alone (eq. 4): change the answer as the proxy's prompt changed the proxy's."""
    return replace(settings, alpha=1.0)
