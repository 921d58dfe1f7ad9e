"""The checks a model passes before it is served, signed, sent or tuned on.

`transfer.families.probe` has measured at load time how it may be read. These checks use it as recipients and clients
will, and compare each property with a plain way to the same numbers. All inputs are public: a few tokens, no record.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from transfer.errors import ModelError
from transfer.families.closeness import close, distance
from transfer.families.loading import reason_of
from transfer.families.model_directory import directory_of
from transfer.families.probe_cache import passed, remembered, weights_of
from transfer.model_ref import ModelRef
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.peft_directory import CONFIG_FILE, WEIGHTS_FILE, peft_config
from transfer.placement.settings import HERE, Placement
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.tokens.batches import Line
from transfer.tokens.readout import goals
from transfer.tokens.vocabulary import drawn

LENGTHS = (3, 7, 12)
PROMPT = 4


def require_sound(model: LanguageModel) -> None:
    """Refuse a model whose prompts would act otherwise at a recipient's; the result is cached per model and version.

    Raises:
        ModelError: names the property that fails: a text as a prompt acts as that text in front, stock PEFT loads
            the delivered directory and answers alike, or another prompt changes the answers.
    """
    _check(model, "sound", _require_text_as_prompt, _require_loadable, _require_prompt_matters)


def require_sound_at(source: str | Path, placement: Placement = HERE) -> None:
    """Apply `require_sound` to a directory or a name in the local cache; load it only if it was never checked there.

    Raises:
        ModelError: see `require_sound` and `transfer.models.loading.load`.
    """
    digest = ModelRef.of_directory("", directory_of(source)).digest
    about = ("sound at", digest, placement.model_dump_json())
    remembered(about, lambda: _holds(require_sound, load(source, placement=placement)), passed)


def require_same(model: LanguageModel, stored: LanguageModel) -> None:
    """Refuse a stored model that answers otherwise than it did in memory.

    Raises:
        ModelError: its answers differ.
    """
    lines = _lines(model)
    _require_alike(
        model, _outputs(stored, lines, None), _outputs(model, lines, None), "read from disk", "in memory"
    )


def require_tunable(model: LanguageModel, task: Task, start: SoftPrompt) -> None:
    """Refuse a model on which `task` cannot be tuned from `start`, head included.

    Raises:
        TaskError: label words or template do not fit.
        ModelError: names the property that fails: prompt and longest line fit into the model's positions, or the
            gradient of that line at `start` is finite and not 0.
    """
    # not `require_sound`: whether a prompt matters is checked below, as a head may be all there is to tune
    _check(model, "readable", _require_text_as_prompt, _require_loadable)
    encoder = model.encoder(task)
    model.require_positions(start.length - task.head_rows + task.max_tokens)
    text = " ".join([task.init_text] * task.max_tokens)  # the encoder cuts it to the longest line
    lines = encoder.encode([text], [task.init_text] if task.kind == "text" else [])
    label, alone = goals([(0,) if task.many else 0], encoder.words), Passes(1, task.max_tokens)
    try:
        gradient = per_record_gradients(
            model, LabelledLines(lines, label, encoder.words, alone), [0], start.vectors
        )
    except Exception as error:  # the model's code is not ours
        raise ModelError(
            f"model {model.ref.name!r} cannot be tuned on {task.name!r}: {reason_of(error)}"
        ) from error
    if not (gradient.isfinite().all() and gradient.abs().max() > 0):
        fault = "is 0" if gradient.isfinite().all() else "is not finite"
        raise ModelError(
            f"model {model.ref.name!r}: from this start the gradient of a line of {task.name!r} {fault}"
        )


def _check(model: LanguageModel, name: str, *properties: Callable[[LanguageModel], None]) -> None:
    """Refuse a model that lacks one of the `properties`; what all of them show is cached under `name`."""
    config, device = model.model.config.to_json_string(), str(model.device)
    about = (name, weights_of(model.model, model.ref.digest), model.lm_head, config, device)
    remembered(about, lambda: all(_holds(require, model) for require in properties), passed)


def _holds(require: Callable[[LanguageModel], None], model: LanguageModel) -> bool:
    try:
        require(model)
    except ModelError:
        raise
    except Exception as error:  # neither the model's code nor PEFT's is ours
        raise ModelError(f"model {model.ref.name!r} fails its self-check: {reason_of(error)}") from error
    return True


def _require_prompt_matters(model: LanguageModel) -> None:
    """Refuse a model that answers alike behind any prompt: MRA does where its CUDA kernel cannot be built."""
    lines = _lines(model)
    words = model.vocabulary_prompt(2 * PROMPT, torch.Generator().manual_seed(1)).vectors
    one, other = (SoftPrompt(half, model.ref) for half in words.view(2, PROMPT, -1))
    if torch.equal(_outputs(model, lines, one), _outputs(model, lines, other)):
        raise ModelError(
            f"model {model.ref.name!r}: another prompt changes nothing of its answers, so none can be tuned for it; "
            "name another model"
        )


def _require_text_as_prompt(model: LanguageModel) -> None:
    """Refuse a model for which a prompt of tokens' embeddings acts otherwise than these tokens before the line."""
    front = _ordinary(model, PROMPT)
    lines = _lines(model)
    prompt = SoftPrompt(model.embedded(torch.tensor(front)), model.ref)
    longer = [Line((*front, *line.ids), line.answer + len(front)) for line in lines]
    _require_alike(
        model,
        _outputs(model, lines, prompt),
        _outputs(model, longer, None),
        "a text as a prompt",
        "that text",
    )


def _require_loadable(model: LanguageModel) -> None:
    """Refuse a model for which stock PEFT cannot load the delivered directory, or answers otherwise behind it."""
    lines = _lines(model)
    words = model.vocabulary_prompt(2 * PROMPT, torch.Generator().manual_seed(1)).vectors
    # means of two embeddings each, [2, P, H] → [P, H]: vectors that are no token's
    prompt = SoftPrompt(words.view(2, PROMPT, -1).mean(dim=0), model.ref)
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / WEIGHTS_FILE).write_bytes(prompt.to_bytes())
        (Path(place) / CONFIG_FILE).write_bytes(peft_config(prompt, model.ref.name, model.lm_head))
        prompted = behind(model, Path(place))
    rows = []
    for line in lines:
        ids = torch.tensor([line.ids], device=model.device)
        with torch.no_grad():
            output = prompted(input_ids=ids, attention_mask=torch.ones_like(ids))
        outputs = output.last_hidden_state if model.lm_head == "none" else output.logits
        # [1, P + T, …] or [1, T, …]: some heads drop the prompt's positions, so count from the end
        rows.append(outputs[0, outputs.shape[1] - len(line.ids) + line.answer].float().cpu())
    _require_alike(model, _outputs(model, lines, prompt), torch.stack(rows), "behind a prompt", "stock PEFT")


def behind(model: LanguageModel, directory: Path) -> PeftModel:
    """Return the model behind the delivered prompt in `directory`, as stock PEFT loads it."""
    with warnings.catch_warnings(), _dispatched_already(model.model):
        # PEFT 0.21 reads an attribute that Transformers renamed; nobody here can act on the warning
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return PeftModel.from_pretrained(model.model, directory)


@contextmanager
def _dispatched_already(model: PreTrainedModel) -> Iterator[None]:
    """Within the block, PEFT leaves the layers where accelerate put them; it would look for its own on disk."""
    places: Any = getattr(model, "hf_device_map", None)
    if places is not None:
        vars(model)["hf_device_map"] = {}
    try:
        yield
    finally:
        if places is not None:
            vars(model)["hf_device_map"] = places


def _require_alike(
    model: LanguageModel, ours: torch.Tensor, theirs: torch.Tensor, what: str, other: str
) -> None:
    if not close(ours, theirs, model.model.dtype):
        raise ModelError(
            f"model {model.ref.name!r}: {what} it answers otherwise than {other}, by "
            f"{distance(ours, theirs):.2g} of the largest number"
        )


def _outputs(model: LanguageModel, lines: Sequence[Line], prompt: SoftPrompt | None) -> torch.Tensor:
    """Return logits [N, V] at the answers, or states [N, H] of a model without an LM head."""
    if model.lm_head != "none":
        return model.answer_logits(lines, prompt)
    states = []
    for line in lines:
        rows = None if prompt is None else prompt.vectors.unsqueeze(0)  # [1, P, H]
        with torch.no_grad():
            states.append(model.states(model.collate([line]), rows))
    return torch.cat(states)


def _lines(model: LanguageModel) -> list[Line]:
    return [Line(_ordinary(model, length), length // 2) for length in LENGTHS]


def _ordinary(model: LanguageModel, count: int) -> tuple[int, ...]:
    """Return `count` tokens that are not special, the same every time."""
    return tuple(map(int, drawn(model.tokenizer, len(model.embedding), count, seed=count)))
