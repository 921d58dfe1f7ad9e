"""A language model loaded from a directory or from the local cache, where a placement says."""

from pathlib import Path

from transfer.families.layout import layer_lists
from transfer.families.loading import pretrained, tokenizer_of
from transfer.families.model_directory import directory_of
from transfer.model_ref import LmHead, ModelRef
from transfer.models.language_model import LanguageModel
from transfer.placement.devices import offloaded, require_embeddings
from transfer.placement.settings import HERE, Placement


def load(
    source: str | Path,
    *,
    name: str | None = None,
    lm_head: LmHead | None = None,
    placement: Placement = HERE,
) -> LanguageModel:
    """Load a causal or masked LM or a backbone, without network access.

    Args:
        source: directory with config.json, weights and tokeniser, or a hub name in the local cache.
        name: name of the model; the last part of `source` by default.
        lm_head: how to read it; by default what configuration and weights say.
        placement: where the model is, and in what numbers it computes.

    Raises:
        ModelError: there is no such directory, it is not a whole language model with a fast tokeniser, the model
            cannot be read behind a prompt, or it cannot be where `placement` says.
    """
    directory = directory_of(source)
    model, lm_head = pretrained(directory, lm_head, source, placement)
    require_embeddings(model)
    tokenizer = tokenizer_of(directory, source)
    ref = ModelRef.of_directory(name or Path(source).name, directory)
    again = placement.checkpointing
    if again is None:
        again = offloaded(model) and len(layer_lists(model)) == 1
    return LanguageModel(model, tokenizer, ref, lm_head, again)
