"""Trying a prompt: the target classifies a text behind it, or writes an answer.

Stock PEFT puts the prompt before the text. Where the task puts it into a chat's user turn, which PEFT cannot, our own
passes do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel

from client.prompts import directory as artifact
from client.prompts.claim import Claim
from transfer.errors import ModelError
from transfer.models import generation
from transfer.models.language_model import LanguageModel
from transfer.models.self_check import behind
from transfer.tasks import Task
from transfer.tokens.batches import Batch, Line
from transfer.tokens.chat import ChatLine
from transfer.tokens.readout import Head, Reading, label_logits, question


def probabilities(
    directory: Path, claim: Claim, model: LanguageModel, texts: Sequence[str]
) -> list[dict[str, float]]:
    """Return the probability of each label, by name, for each text; they add up to 1 where a text has one label.

    Args:
        directory: a verified PEFT directory.
        claim: its claim, for a task with labels.
        model: the target that the prompt is for.
        texts: texts to classify.

    Raises:
        ModelError: `model` is another model, or its chat template another one.
        TaskError: a label word does not fit the model's tokeniser.
    """
    _require_same(claim, model)
    encoder, content = model.encoder(claim.task), artifact.content(directory, claim)
    lines, words = encoder.encode(texts), encoder.words
    if claim.task.prompt_at == "user":
        logits = model.answer_logits(lines, content.whole, words)
    else:
        prompted, head = behind(model, directory), None if content.head is None else content.head.vectors
        logits = torch.cat([class_logits(prompted, model, line, words, head) for line in lines])
    names = claim.task.label_names
    # several labels have each its own probability; doubles, so that a threshold is the number that was declared
    chances = logits.double().sigmoid() if claim.task.many else logits.softmax(dim=1)
    return [dict(zip(names, row, strict=True)) for row in chances.tolist()]


def answered(task: Task, chances: Mapping[str, float]) -> str | list[str]:
    """Return the label of the largest probability, or those above the threshold where a text may have several."""
    if task.many:
        return [name for name, chance in chances.items() if chance > task.threshold]
    return max(chances, key=chances.__getitem__)


def class_logits(
    prompted: PeftModel, model: LanguageModel, line: Line, words: Reading | None, head: torch.Tensor | None
) -> torch.Tensor:
    """Return the class logits [1, C] of a line from PEFT's own forward pass; from `head` [C, H] if `words` is a head.

    Without words, return the vocabulary logits [N, V] at the answer's tokens.
    """
    batch = model.collate([line])
    if isinstance(words, Head) and head is not None:
        return words.class_logits(_states(prompted, model, batch), batch.mask, head.unsqueeze(0))
    places = question(batch, words)
    return label_logits(_logits(prompted, places.batch, model.device)[places.rows, places.columns], words)


def answers(directory: Path, claim: Claim, model: LanguageModel, texts: Sequence[str]) -> list[str]:
    """Answer each text in free text, with the most likely token each time; arguments as in `probabilities`.

    Raises:
        ModelError: `model` is another model, or its chat template another one.
    """
    _require_same(claim, model)
    if claim.task.prompt_at == "user":
        return generation.answers(model, claim.task, texts, artifact.content(directory, claim).prompt)
    return written(behind(model, directory), model, claim.task, texts)


def written(prompted: PeftModel, model: LanguageModel, task: Task, texts: Sequence[str]) -> list[str]:
    """Answer each text in free text, using PEFT's own forward passes of `model`."""
    encoder, results = model.encoder(task), []
    for line in encoder.encode(texts):
        tokens: list[int] = []
        while len(tokens) < task.answer_tokens and encoder.ends.isdisjoint(tokens):
            batch = model.collate([replace(line, ids=(*line.ids, *tokens))])
            tokens.append(int(_logits(prompted, batch, model.device)[0, -1].argmax()))
        results.append(encoder.decode(tokens))
    return results


def _require_same(claim: Claim, model: LanguageModel) -> None:
    """Refuse another model than the prompt's target, or one whose chat template writes something else."""
    if model.ref.digest != claim.target.digest:
        raise ModelError(
            f"the prompt is for {claim.target.name!r} with digest {claim.target.digest[:16]}…, "
            f"{model.ref.name!r} has {model.ref.digest[:16]}…"
        )
    signed = claim.statement.chat_line
    if not (signed and model.tokenizer.chat_template):
        return
    # before an encoder, which might find fault with a label word behind another template's line
    if (ours := ChatLine.of(claim.task, model.tokenizer).digest) != signed:
        raise ModelError(
            f"the chat template of {model.ref.name!r} writes other turns than the prompt was made with (digest "
            f"{ours[:16]}…, signed {signed[:16]}…); restore the target's own chat_template.jinja"
        )


def _logits(prompted: PeftModel, batch: Batch, device: torch.device) -> torch.Tensor:
    """Return the logits [B, T, V] of the text's own positions, without those of the prompt before it."""
    with torch.no_grad():
        inputs = {"input_ids": batch.ids.to(device), "attention_mask": batch.mask.to(device)}
        logits: torch.Tensor = prompted(**inputs).logits
    return logits[:, -batch.ids.shape[1] :].float().cpu()


def _states(prompted: PeftModel, model: LanguageModel, batch: Batch) -> torch.Tensor:
    """Return the last hidden states [B, T, H] of the text's own positions behind the prompt."""
    with torch.no_grad():
        rows = prompted.get_prompt(batch_size=len(batch))
        return model.all_states(batch, rows)[:, rows.shape[1] :]
