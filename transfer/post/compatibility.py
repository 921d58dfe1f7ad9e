"""What proxy, target, task and public text must have in common before a transfer."""

from collections.abc import Sequence

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.post.problem import check_enough
from transfer.post.projection import shared_tokens
from transfer.post.settings import TransferSettings
from transfer.tasks import Task


def check_possible(
    proxy: LanguageModel,
    target: LanguageModel,
    task: Task,
    texts: Sequence[str],
    settings: TransferSettings,
) -> None:
    """Refuse what `transfer` would refuse; cheap, so call it before a prompt is tuned.

    Raises:
        UsageError, TaskError: see `transfer`.
    """
    if task.kind == "text" and settings.space == "labels":
        raise UsageError('free text has no labels: transfer with space = "vocabulary"')
    if task.head_rows and settings.space == "vocabulary":
        raise UsageError('a head knows labels only: transfer with space = "labels"')
    if settings.space == "vocabulary" and _vocabulary(proxy) != _vocabulary(target):
        free = task.kind == "text"
        remedy = "free text needs a proxy of this target" if free else "transfer in the space of labels"
        raise UsageError(f"proxy and target have different vocabularies: {remedy}")
    if settings.start == "public" and not task.has_words:
        raise UsageError('transfer start "public": a bare target answers by label words only; start = "text"')
    if settings.start == "public" and settings.space == "vocabulary":
        raise UsageError('transfer start "public" compares labels: transfer with space = "labels"')
    if settings.start == "projected":
        shared_tokens(proxy, target)
    check_enough(texts)
    # an encoder refuses label words that its tokeniser lacks
    proxy.encoder(task)
    target.encoder(task)


def _vocabulary(model: LanguageModel) -> tuple[str, int]:
    """Return what must be equal for logits to be comparable: the tokens, and the rows of a padded head."""
    return model.tokenizer_digest, model.embedding.shape[0]
