"""Sensitivity to the format follows its formulas, and needs no labels but for the spread of accuracies."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from transfer.models.language_model import LanguageModel
from transfer.post.evaluation import class_logits
from transfer.prompt import SoftPrompt
from transfer.tasks import Task
from transfer.wording import sensitivity
from transfer.wording.formats import formats
from transfer.wording.sensitivity import Sensitivity, Spread, Wording, drift, log_chances, posix

TEXTS = [
    f"The {thing} was {kind}." for thing in ("film", "plot", "music", "food") for kind in ("slow", "good")
]


def chances(*formats: list[list[float]]) -> torch.Tensor:
    """Log-probabilities [F, N, C] of probabilities by format and text."""
    return torch.tensor(formats, dtype=torch.float64).log()


def drawn(formats: int = 5, texts: int = 7, classes: int = 3) -> torch.Tensor:
    logits = torch.randn(formats, texts, classes, generator=torch.Generator().manual_seed(0))
    return logits.double().log_softmax(dim=2)


def prompt_of(model: LanguageModel, rows: int = 4) -> SoftPrompt:
    return SoftPrompt(torch.randn(rows, 32, generator=torch.Generator().manual_seed(0)), model.ref)


def test_posix_is_its_formula_where_the_published_code_finds_nothing() -> None:
    shown = chances([[0.99, 0.01]], [[0.60, 0.40]], [[0.51, 0.49]])
    pairs = [(0.99, 0.60), (0.99, 0.51), (0.60, 0.51)]
    assert posix(shown) == pytest.approx(2 * sum(abs(math.log(a / b)) for a, b in pairs) / 6)
    assert posix(shown) == pytest.approx(0.442, abs=5e-4)


def test_posix_asks_every_format_for_the_answer_of_every_other() -> None:
    given = drawn()
    count, texts, _ = given.shape
    total = 0.0
    for i, j, n in product(range(count), range(count), range(texts)):
        answer = given[j, n].argmax()
        total += abs(given[i, n, answer] - given[j, n, answer]).item()
    assert posix(given) == pytest.approx(total / (count * (count - 1) * texts))
    assert posix(given[:1].expand(4, -1, -1)) == 0.0


def test_agreement_is_with_the_first_format() -> None:
    high, low = [0.9, 0.1], [0.2, 0.8]
    told = Sensitivity.of(chances([high, high, low, low], [high, low, high, high], [high, high, low, high]))
    assert (told.agreement, told.least) == (pytest.approx(0.5), pytest.approx(0.25))


def test_a_spread_has_the_binomial_error_of_its_best_and_worst_format() -> None:
    high, low = [0.9, 0.1], [0.2, 0.8]
    told = Spread.of(
        chances([high, low, low, low], [high, high, low, low], [low, low, low, low]), [0, 0, 0, 1]
    )
    assert (told.canonical, told.worst, told.spread) == (0.5, 0.25, 0.5)
    assert told.mean == pytest.approx(0.5)
    assert told.error == pytest.approx(math.sqrt((0.75 * 0.25 + 0.25 * 0.75) / 4))


def test_chances_are_those_of_each_format_behind_the_prompt(model: LanguageModel, tiny_task: Task) -> None:
    encoders, prompt = formats(model.encoder(tiny_task), 3, 0), prompt_of(model)
    for each in (prompt, None):
        found = log_chances(model, encoders, TEXTS, each)
        for place, encoder in enumerate(encoders):
            logits = class_logits(model, encoder.task, TEXTS, each)
            torch.testing.assert_close(found[place], logits.double().log_softmax(dim=1))


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_drift_is_the_divergence_over_the_vocabulary_behind_plain_text(
    kind: str, tiny_task: Task, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: LanguageModel = request.getfixturevalue(kind)
    prompt, tokenizer = prompt_of(model), model.tokenizer
    expected = []
    for text in TEXTS:
        line = text if model.causal else f"{text} {tokenizer.mask_token}"
        ids = torch.tensor([tokenizer(line)["input_ids"]])
        embedded = model.embedded(ids)
        place = -1 if model.causal else ids[0].tolist().index(tokenizer.mask_token_id) - ids.shape[1]
        bare, prompted = (
            model.model(inputs_embeds=inputs).logits[0, place].double().log_softmax(dim=0)
            for inputs in (embedded, torch.cat([prompt.vectors.unsqueeze(0), embedded], dim=1))
        )
        expected.append((bare.exp() * (bare - prompted)).sum().item())
    monkeypatch.setattr(sensitivity, "PART", 3)  # in several parts, the last one smaller
    found = drift(model, tiny_task, TEXTS, prompt)
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-3)
    assert found > 0


def test_the_drift_of_a_chats_prompt_is_behind_plain_text_too(causal: LanguageModel, tiny_task: Task) -> None:
    plain = drift(causal, tiny_task, TEXTS, prompt_of(causal))
    causal.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    chat = replace(tiny_task, chat=True, system="Be brief.", prompt_at="user", label_reading="first")
    assert drift(causal, chat, TEXTS, prompt_of(causal)) == pytest.approx(plain)


def test_a_prompt_is_measured_beside_the_bare_model_and_random_words(
    target: LanguageModel, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "MOST_TEXTS", 6)
    prompt, encoders = prompt_of(target), formats(target.encoder(tiny_task), 4, 7)
    found = Wording.of(target, tiny_task, TEXTS, prompt, 4, 7)
    assert found is not None
    assert (found.formats, found.texts) == (4, 6)
    assert found.prompted == Sensitivity.of(log_chances(target, encoders, TEXTS[:6], prompt))
    assert found.bare == Sensitivity.of(log_chances(target, encoders, TEXTS[:6], None))
    assert found.prompted != found.bare
    assert found.drift == drift(target, tiny_task, TEXTS[:6], prompt)
    assert 0 < found.random_drift != found.drift
    assert Wording.of(target, tiny_task, TEXTS, prompt, 4, 7) == found


@pytest.mark.parametrize("changes", [{"kind": "text", "labels": ()}, {"template": "{text} {answer}"}])
def test_nothing_is_measured_of_free_text_or_of_a_single_format(
    causal: LanguageModel, tiny_task: Task, changes: dict[str, object]
) -> None:
    assert Wording.of(causal, replace(tiny_task, **changes), TEXTS, prompt_of(causal), 12, 0) is None  # type: ignore[arg-type]


def test_nothing_is_measured_of_a_head_or_where_no_format_is_asked_for(
    causal: LanguageModel, tiny_task: Task, head_task: Task
) -> None:
    task = replace(head_task, template="Review: {text}")
    assert Wording.of(causal, task, TEXTS, prompt_of(causal, 6), 12, 0) is None
    assert Wording.of(causal, tiny_task, TEXTS, prompt_of(causal), 0, 0) is None
