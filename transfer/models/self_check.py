"""What a model must show of itself before anything rests on it: before it is served, signed, sent or paid for.

`transfer.families.probe` has tried how it may be read when it was loaded. Here it is tried as a prompt's
users and a client
will use it, each property against a plain way to the same numbers. All is public: a few tokens, no record.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel

from transfer.artifact import CONFIG_FILE, WEIGHTS_FILE, peft_config
from transfer.errors import ModelError
from transfer.families.closeness import close, distance
from transfer.families.loading import reason_of
from transfer.families.model_directory import directory_of
from transfer.families.probe_cache import passed, remembered, weights_of
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel, load
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.batches import Line
from transfer.tokens.vocabulary import drawn

LENGTHS = (3, 7, 12)
PROMPT = 4


def require_sound(model: LanguageModel) -> None:
    """Refuse a model behind whose prompts nobody would read what we do; asked once for each model and version.

    Raises:
        ModelError: names the property: a text as a prompt acts as that text in front, and stock PEFT loads what is
            delivered and answers alike.
    """
    about = ("sound", weights_of(model.model), model.lm_head, model.model.config.to_json_string())
    remembered(about, lambda: _sound(model), passed)


def require_sound_at(source: str | Path) -> None:
    """The same of a directory, or a name in the local cache, which is loaded only if it was never asked.

    Raises:
        ModelError: also what `transfer.models.language_model.load` raises.
    """
    digest = ModelRef.of_directory("", directory_of(source)).digest
    remembered(("sound at", digest), lambda: _sound(load(source)), passed)


def require_same(model: LanguageModel, stored: LanguageModel) -> None:
    """Refuse a stored model that answers otherwise than it did in memory.

    Raises:
        ModelError: see above.
    """
    lines = _lines(model)
    _require_alike(
        model, _told(stored, lines, None), _told(model, lines, None), "read from disk", "in memory"
    )


def require_tunable(model: LanguageModel, task: Task, start: SoftPrompt) -> None:
    """Refuse a model on which `task` cannot be tuned from `start`, head included.

    Raises:
        TaskError: label words or template do not fit.
        ModelError: names the property: prompt and longest line find room, and that line has a gradient there.
    """
    require_sound(model)
    encoder = model.encoder(task)
    model.require_positions(start.length - task.head_rows + task.max_tokens)
    text = " ".join([task.init_text] * task.max_tokens)  # cut to the longest line there is
    lines = encoder.encode([text], [task.init_text] if task.kind == "text" else [])
    label, alone = torch.zeros(1, dtype=torch.long), Passes(1, task.max_tokens)
    try:
        gradient = per_record_gradients(
            model, LabelledLines(lines, label, encoder.words, alone), [0], start.vectors
        )
    except Exception as error:  # the model's code is not ours
        raise ModelError(
            f"model {model.ref.name!r} cannot be tuned on {task.name!r}: {reason_of(error)}"
        ) from error
    if not (gradient.isfinite().all() and gradient.abs().max() > 0):
        found = "is 0" if gradient.isfinite().all() else "is not finite"
        raise ModelError(
            f"model {model.ref.name!r}: from this start the gradient of a line of {task.name!r} {found}"
        )


def _sound(model: LanguageModel) -> bool:
    try:
        _require_text_as_prompt(model)
        _require_loadable(model)
    except ModelError:
        raise
    except Exception as error:  # neither the model's code nor PEFT's is ours
        raise ModelError(f"model {model.ref.name!r} fails its self-check: {reason_of(error)}") from error
    return True


def _require_text_as_prompt(model: LanguageModel) -> None:
    """A prompt made of tokens' embeddings must act as these tokens before the line."""
    front = _ordinary(model, PROMPT)
    lines = _lines(model)
    prompt = SoftPrompt(model.embedded(torch.tensor(front)), model.ref)
    longer = [Line((*front, *line.ids), line.answer + len(front)) for line in lines]
    _require_alike(
        model, _told(model, lines, prompt), _told(model, longer, None), "a text as a prompt", "that text"
    )


def _require_loadable(model: LanguageModel) -> None:
    """Stock PEFT must load the directory that is delivered, and answer behind it as we do."""
    lines = _lines(model)
    words = model.vocabulary_prompt(2 * PROMPT, torch.Generator().manual_seed(1)).vectors
    prompt = SoftPrompt(words.view(2, PROMPT, -1).mean(dim=0), model.ref)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / WEIGHTS_FILE).write_bytes(prompt.to_bytes())
        (Path(place) / CONFIG_FILE).write_bytes(peft_config(prompt, model.ref.name, model.lm_head))
        prompted = behind(model, Path(place))
    rows = []
    for line in lines:
        ids = torch.tensor([line.ids])
        with torch.no_grad():
            output = prompted(input_ids=ids, attention_mask=torch.ones_like(ids))
        told = output.last_hidden_state if model.lm_head == "none" else output.logits
        rows.append(told[0, told.shape[1] - len(line.ids) + line.answer].float())
    _require_alike(model, _told(model, lines, prompt), torch.stack(rows), "behind a prompt", "stock PEFT")


def behind(model: LanguageModel, directory: Path) -> PeftModel:
    """The model behind a delivered prompt, as stock PEFT loads it."""
    with warnings.catch_warnings():
        # PEFT 0.21 asks Transformers for an attribute that was renamed; nothing a user could do about it
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return PeftModel.from_pretrained(model.model, directory)


def _require_alike(
    model: LanguageModel, ours: torch.Tensor, theirs: torch.Tensor, what: str, other: str
) -> None:
    if not close(ours, theirs, model.model.dtype):
        raise ModelError(
            f"model {model.ref.name!r}: {what} it answers otherwise than {other}, by "
            f"{distance(ours, theirs):.2g} of the largest number"
        )


def _told(model: LanguageModel, lines: Sequence[Line], prompt: SoftPrompt | None) -> torch.Tensor:
    """Logits [N, V] at the answers, or states [N, H] of a model without an LM head."""
    if model.lm_head != "none":
        return model.answer_logits(lines, prompt)
    found = []
    for line in lines:
        rows = None if prompt is None else prompt.vectors.unsqueeze(0)
        with torch.no_grad():
            found.append(model.states(model.collate([line]), rows))
    return torch.cat(found)


def _lines(model: LanguageModel) -> list[Line]:
    return [Line(_ordinary(model, length), length // 2) for length in LENGTHS]


def _ordinary(model: LanguageModel, count: int) -> tuple[int, ...]:
    """`count` tokens that are not special, the same every time."""
    return tuple(map(int, drawn(model.tokenizer, len(model.embedding), count, seed=count)))
