"""Trying a prompt: stock PEFT puts it before a text, the target's answer is read as label probabilities."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel

from client.claim import Claim
from transfer.errors import ModelError
from transfer.models import LanguageModel
from transfer.reading import label_logits, question


def probabilities(
    directory: Path, claim: Claim, model: LanguageModel, texts: Sequence[str]
) -> list[dict[str, float]]:
    """Probability of each label, by name, for each text.

    Args:
        directory: a verified PEFT directory.
        claim: its claim.
        model: the target the prompt was made for.
        texts: what to classify.

    Raises:
        ModelError: it is another model.
        TaskError: a label word does not fit its tokeniser.
    """
    if model.ref.digest != claim.target.digest:
        raise ModelError(
            f"the prompt is for {claim.target.name!r} with digest {claim.target.digest[:16]}…, "
            f"{model.ref.name!r} has {model.ref.digest[:16]}…"
        )
    encoder = model.encoder(claim.task)
    with warnings.catch_warnings():
        # PEFT 0.21 asks Transformers for an attribute that was renamed; nothing a user could do about it
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        prompted = PeftModel.from_pretrained(model.model, directory)
    results = []
    for line in encoder.encode(texts):
        asked = question(model.collate([line]), encoder.words)
        with torch.no_grad():
            logits = prompted(input_ids=asked.batch.ids, attention_mask=asked.batch.mask).logits
        # the prompt's positions stand before the text's: count the answer from the end
        at_answer = logits[asked.rows, asked.columns - asked.batch.ids.shape[1]]
        chances = label_logits(at_answer, encoder.words).softmax(dim=1)[0]
        results.append(dict(zip(claim.task.label_names, chances.tolist(), strict=True)))
    return results
