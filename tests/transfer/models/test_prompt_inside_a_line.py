"""A prompt stands where its line says, in every pass, and a record's gradient keeps its bits beside other places."""

from dataclasses import replace

import pytest
import torch

from transfer.models.generation import greedy
from transfer.models.language_model import LanguageModel
from transfer.models.passes import Passes
from transfer.models.per_record_gradients import LabelledLines, per_record_gradients
from transfer.prompt import SoftPrompt
from transfer.tasks import Label, Task
from transfer.tokens.batches import Line

TEXTS = (
    "The film was great.",
    "A terrible plot and it was fun",
    "We liked the music",
    "good evening",
    "It was bad",
)
PLACES = (2, 0, 3, 1, 2)


@pytest.fixture(params=["causal", "gpt2"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    loaded: LanguageModel = request.getfixturevalue(request.param)
    return loaded


def placed(lines: list[Line], places: tuple[int, ...] = PLACES) -> list[Line]:
    return [replace(line, at=at) for line, at in zip(lines, places, strict=True)]


def by_hand(model: LanguageModel, line: Line, prompt: SoftPrompt, *tokens: int) -> torch.Tensor:
    """All outputs [T, V] of a line's tokens, from a pass over embeddings put together here."""
    words = model.model.get_input_embeddings()(torch.tensor([*line.ids, *tokens]))
    row = torch.cat([words[: line.at], prompt.vectors, words[line.at :]]).unsqueeze(0)
    logits: torch.Tensor = model.model(inputs_embeds=row).logits[0]
    return torch.cat([logits[: line.at], logits[line.at + prompt.length :]])


@pytest.mark.parametrize("places", [PLACES, (2,) * 5, (0,) * 5])
@torch.no_grad()
def test_answers_and_words_are_read_behind_a_prompt_inside_the_line(
    model: LanguageModel, tiny_task: Task, places: tuple[int, ...]
) -> None:
    prompt = model.vocabulary_prompt(3, torch.Generator().manual_seed(0))
    labels = (Label("good", ("great evening",)), Label("bad", ("bad", "terrible plot")))
    for task in (tiny_task, replace(tiny_task, labels=labels, label_reading="whole")):
        encoder = model.encoder(task)
        lines = placed(encoder.encode(TEXTS), places)
        ours = model.answer_logits(lines, prompt)
        theirs = torch.stack([by_hand(model, line, prompt)[line.answer] for line in lines])
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        together = model.answer_logits(lines, prompt, encoder.words)
        alone = torch.cat([model.answer_logits([line], prompt, encoder.words) for line in lines])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    pieces = encoder.words.pieces[0][0]  # of the words' task: its first word, a row of its own
    rows = by_hand(model, lines[0], prompt, *pieces[:-1])[lines[0].answer :].log_softmax(1)
    mean = torch.stack([rows[place, piece] for place, piece in enumerate(pieces)]).mean()
    assert together[0, 0].item() == pytest.approx(mean.item(), abs=1e-4)


@torch.no_grad()
def test_a_head_reads_the_lines_own_tokens_around_the_prompt(model: LanguageModel, head_task: Task) -> None:
    both = model.vocabulary_prompt(3 + 2, torch.Generator().manual_seed(0))
    encoder = model.encoder(head_task)
    lines = placed(encoder.encode(TEXTS))
    ours = model.answer_logits(lines, both, encoder.words)
    for line, row in zip(lines, ours, strict=True):
        words = model.model.get_input_embeddings()(torch.tensor(line.ids))
        whole = torch.cat([words[: line.at], both.vectors[:3], words[line.at :]]).unsqueeze(0)
        states = model.backbone(inputs_embeds=whole).last_hidden_state[0]
        own = torch.cat([states[: line.at], states[line.at + 3 :]]).sum(dim=0)
        torch.testing.assert_close(row, both.vectors[3:] @ (own / own.norm()), atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_answer_is_written_behind_a_prompt_inside_the_line(model: LanguageModel, tiny_task: Task) -> None:
    prompt = model.vocabulary_prompt(3, torch.Generator().manual_seed(0))
    same = model.encoder(tiny_task).encode([TEXTS[0]] * 5)  # one length, so one batch of several places
    for line, written in zip(placed(same), greedy(model, placed(same), prompt, 5, ()), strict=True):
        tokens: list[int] = []
        while len(tokens) < 5:
            tokens.append(int(by_hand(model, line, prompt, *tokens)[-1].argmax()))
        assert written == tuple(tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_has_the_same_bits_beside_prompts_in_other_places(
    model: LanguageModel, tiny_task: Task, head_task: Task, dtype: torch.dtype
) -> None:
    model = replace(model, model=model.model.to(dtype))
    labels = (Label("good", ("good", "great evening")), Label("bad", ("weatherfood",)))
    free = replace(tiny_task, labels=(), kind="text", answer_tokens=4)
    for task in (tiny_task, head_task, replace(tiny_task, labels=labels, label_reading="whole"), free):
        encoder = model.encoder(task)
        answers = ["film", "it", "a bad ending", "film", "it"] if task.kind == "text" else []
        lines = placed(encoder.encode(TEXTS, answers))
        data = LabelledLines(lines, torch.arange(5) % 2, encoder.words, Passes(160, task.max_tokens))
        start = model.text_prompt("A sentence about a review", 4).longer(task.head_rows).vectors + 0.01
        alone = torch.cat([per_record_gradients(model, data, [index], start) for index in range(5)])
        assert alone.abs().amax(dim=(1, 2)).min() > 0
        for group in ([4, 3, 2, 1, 0], [0, 4], [2, 0, 1]):
            assert torch.equal(per_record_gradients(model, data, group, start), alone[group])
        moved = replace(data, lines=placed(lines, (1, 2, 0, 3, 3)))
        assert not torch.equal(per_record_gradients(model, moved, [0], start)[0], alone[0])
