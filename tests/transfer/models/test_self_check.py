"""A model shows that it can be used as its users and clients will use it, and is asked once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import transfer.models.self_check
from tests.transfer.kinds import saved
from transfer.errors import ModelError, PromptferryError, TaskError
from transfer.models.language_model import LanguageModel
from transfer.models.loading import load
from transfer.models.self_check import require_same, require_sound, require_sound_at, require_tunable
from transfer.tasks import Label

pytestmark = pytest.mark.promise("self-check")


@pytest.fixture(autouse=True)
def _forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("place", ["tiny_causal", "tiny_masked", "tiny_encoder", "tiny_gpt2"])
def test_sound_models_pass(request: pytest.FixtureRequest, place: str) -> None:
    directory = request.getfixturevalue(place)
    require_sound(load(directory))
    require_sound_at(directory)


def test_a_prompt_of_bare_weights_is_noticed_where_embeddings_are_scaled(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(saved("gemma3", tiny_causal, tmp_path / "lm"))
    monkeypatch.setattr(LanguageModel, "embedded", lambda self, ids: self.embedding[ids].detach().clone())
    with pytest.raises(ModelError, match="a text as a prompt it answers otherwise than that text"):
        require_sound(model)
    monkeypatch.undo()
    require_sound(model)


def test_a_model_in_which_no_token_looks_at_another_is_noticed(tiny_causal: Path) -> None:
    model = load(tiny_causal)
    with torch.no_grad():
        for layer in model.model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    with pytest.raises(ModelError, match="another prompt changes nothing of its answers"):
        require_sound(model)


def test_a_directory_that_stock_peft_cannot_load_is_noticed(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        transfer.models.self_check, "peft_config", lambda *_: b'{"peft_type": "PROMPT_TUNING"}'
    )
    with pytest.raises(ModelError, match="fails its self-check"):
        require_sound(load(tiny_causal))


def test_a_prompt_that_peft_puts_elsewhere_is_noticed(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LanguageModel.answer_logits

    def wrong(self, lines, prompt=None, words=None):
        return right(self, lines, prompt, words) * (1.01 if prompt and prompt.length == 4 else 1)

    monkeypatch.setattr(LanguageModel, "answer_logits", wrong)
    with pytest.raises(ModelError, match="otherwise than"):
        require_sound(load(tiny_causal))


def test_a_model_is_asked_once_and_a_refusal_is_not_kept(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(model: LanguageModel) -> None:
        asked.append(model.ref.digest)
        if len(asked) < 3:
            raise ModelError("no")

    monkeypatch.setattr(transfer.models.self_check, "_require_text_as_prompt", refuse)
    for _ in range(2):
        with pytest.raises(ModelError, match="no"):
            require_sound(load(tiny_causal))
    for _ in range(3):
        require_sound(load(tiny_causal))
        require_sound_at(tiny_causal)
    assert len(asked) == 3  # twice refused, then once: by its weights, whatever files they come from


def test_what_a_task_needs_is_tried_before_anything_is_paid(tiny_causal: Path, tiny_task) -> None:
    model = load(tiny_causal)
    require_tunable(model, tiny_task, model.text_prompt("A film", 4))
    with pytest.raises(ModelError, match="128 positions, prompt and line need 129"):
        require_tunable(model, tiny_task, model.text_prompt("A film", 97))
    words = tuple(replace(label, words=("zzz unknown zzz",)) for label in tiny_task.labels)
    with pytest.raises(TaskError):
        require_tunable(model, replace(tiny_task, labels=words), model.text_prompt("A film", 4))


@pytest.mark.parametrize("place", ["tiny_causal", "tiny_masked"])
@pytest.mark.parametrize("how", ["single", "whole", "head", "text"])
def test_every_reading_can_be_tuned(request, tiny_task, head_task, place: str, how: str) -> None:
    if (place, how) == ("tiny_masked", "text"):
        pytest.skip("a masked model writes no text")
    words = (Label("good", ("good", "great evening")), Label("bad", ("weatherfood",)))
    tasks = {
        "single": tiny_task,
        "whole": replace(tiny_task, labels=words, label_reading="whole"),
        "head": head_task,
        "text": replace(tiny_task, labels=(), kind="text", answer_tokens=4),
    }
    model, task = load(request.getfixturevalue(place)), tasks[how]
    require_tunable(model, task, model.text_prompt("A film", 4).longer(task.head_rows))


def test_a_gradient_that_is_not_finite_is_refused(tiny_causal: Path, tiny_task, monkeypatch) -> None:
    model = load(tiny_causal)
    start = model.text_prompt("A film", 4)
    for value, told in ((float("inf"), "is not finite"), (0.0, "is 0")):
        broken = torch.full((1, 4, 32), value)
        monkeypatch.setattr(
            transfer.models.self_check, "per_record_gradients", lambda *_, broken=broken: broken
        )
        with pytest.raises(ModelError, match=told):
            require_tunable(model, tiny_task, start)


def test_another_model_on_disk_is_noticed(tiny_causal: Path, tiny_gpt2: Path) -> None:
    require_same(load(tiny_causal), load(tiny_causal))
    with pytest.raises(PromptferryError, match="read from disk it answers otherwise than in memory"):
        require_same(load(tiny_causal), load(tiny_gpt2))
