"""An answer in free text is what a slow loop of whole forward passes writes, one line at a time."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from transfer.errors import ModelError, TaskError
from transfer.models.generation import answered, answers, greedy
from transfer.post.evaluation import exact_match
from transfer.tasks import Task
from transfer.tokens.batches import Line
from transfer.tokens.encoder import Encoder

TASK = Task("slots", "{text} It was {answer}", (), "A sentence", 32, kind="text", answer_tokens=6)
TEXTS = ("The film was great.", "We liked it", "A terrible plot and a boring evening.", "The film was good.")


@pytest.fixture(params=["causal", "gpt2", "qwen2"])
def writer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def prompt(writer):
    return writer.text_prompt("A sentence about a review", 3)


@torch.no_grad()
def slowly(model, line, prompt, most, end):
    """One line alone, every token by a new forward pass over everything before it."""
    tokens = []
    while len(tokens) < most and end not in tokens:
        words = model.embedding[[*line.ids, *tokens]]
        embeds = words if prompt is None else torch.cat([prompt.vectors, words])
        tokens.append(int(model.model(inputs_embeds=embeds.unsqueeze(0)).logits[0, -1].argmax()))
    return tuple(tokens)


@pytest.mark.parametrize("behind", [True, False])
def test_the_likeliest_token_is_written_each_time(writer, prompt, behind):
    prompt = prompt if behind else None
    lines = writer.encoder(TASK).encode(TEXTS)
    assert len({len(line.ids) for line in lines}) < len(lines), "two lines share a batch"
    free = [slowly(writer, line, prompt, 6, -1) for line in lines]
    assert greedy(writer, lines, prompt, 6, ()) == free
    end = free[0][2]
    ended = [slowly(writer, line, prompt, 6, end) for line in lines]
    assert greedy(writer, lines, prompt, 6, end) == greedy(writer, lines, prompt, 6, (end,)) == ended


def test_an_answer_ends_before_its_end_token(causal):
    encoder = causal.encoder(TASK)
    word = causal.tokenizer(" great", add_special_tokens=False)["input_ids"]
    assert encoder.decode([*word, encoder.end, *word]) == "great"
    assert encoder.decode([encoder.end]) == ""


def test_an_answer_is_encoded_as_it_continues_the_line(causal):
    encoder = causal.encoder(TASK)
    bare, line = encoder.encode(["The film."]), encoder.encode(["The film."], ["a great</s> film"])
    assert encoder.decode(line[0].goal).split() == ["a", "great", "film"]
    assert line[0].goal[-1] == encoder.end
    assert line[0].answer == bare[0].answer
    assert line[0].ids == (*bare[0].ids, *line[0].goal[:-1])


@pytest.mark.parametrize("text", ["short", "long " * 60])
def test_line_and_answer_stay_within_max_tokens_and_the_template_whole(causal, text):
    (line,) = causal.encoder(TASK).encode([text], ["weather and noise " * 20])
    assert len(line.goal) == TASK.answer_tokens
    assert len(line.ids) <= TASK.max_tokens
    assert causal.tokenizer.decode(line.ids[: line.answer + 1]).endswith("It was")


def test_public_text_is_answered_by_the_prompted_model_and_read_at_every_token(writer, prompt):
    bare = writer.encoder(TASK).encode(TEXTS)
    lines = answered(writer, TASK, TEXTS, prompt)
    assert [line.answer for line in lines] == [line.answer for line in bare]
    for line, before in zip(lines, bare, strict=True):
        assert line.goal == slowly(writer, before, prompt, 6, writer.tokenizer.eos_token_id)
    logits = writer.answer_logits(lines, prompt)
    assert logits.argmax(dim=1).tolist() == [token for line in lines for token in line.goal]
    together = writer.answer_logits(lines)
    alone = torch.cat([writer.answer_logits([line]) for line in lines])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_exact_match_is_the_share_of_equal_answers_whatever_the_spaces(writer, prompt):
    told = answers(writer, TASK, TEXTS, prompt)
    truth = [f"  {told[0]} ", told[1], told[2] + " x", "something else"]
    assert exact_match(writer, TASK, TEXTS, truth, prompt) == 0.5
    with pytest.raises(ModelError, match="no texts"):
        exact_match(writer, TASK, [], [], prompt)


def test_an_answer_beyond_the_models_positions_is_refused(writer, prompt):
    greedy(writer, [Line(tuple([7] * 120), 119)], prompt, 6, ())
    with pytest.raises(ModelError, match="128 positions, prompt and line need 129"):
        greedy(writer, [Line(tuple([7] * 121), 120)], prompt, 6, ())


def test_free_text_needs_a_causal_model_with_an_end_token(masked, tiny_causal):
    with pytest.raises(TaskError, match="free text needs a causal model"):
        masked.encoder(TASK)
    endless = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    endless.eos_token = None
    with pytest.raises(TaskError, match="has an end token"):
        Encoder(TASK, endless, causal=True)


def test_a_template_without_room_for_the_answer_is_refused(causal):
    causal.encoder(replace(TASK, max_tokens=8))
    with pytest.raises(TaskError, match=r"template alone is 2 tokens, max_tokens is 7"):
        causal.encoder(replace(TASK, max_tokens=7))


@pytest.mark.parametrize("listed", [None, 5, [5, 6]])
def test_a_model_stops_at_every_end_that_its_generation_configuration_lists(writer, prompt, listed):
    (line,) = writer.encoder(TASK).encode(TEXTS[:1])
    (free,) = greedy(writer, [line], prompt, 6, ())
    named = free[2] if isinstance(listed, int) else listed and [free[2], 6]
    writer.model.generation_config.eos_token_id = named
    encoder = writer.encoder(TASK)
    assert encoder.end == writer.tokenizer.eos_token_id
    assert encoder.ends == {
        encoder.end,
        *([free[2]] if named else []),
        *([6] if isinstance(named, list) else []),
    }
    (goal,) = answered(writer, TASK, TEXTS[:1], prompt)
    until = next((place + 1 for place, token in enumerate(free) if token in encoder.ends), 6)
    assert goal.goal == free[:until]
    assert not named or until <= 3
    assert encoder.decode([*free[:2], free[2]]) == encoder.decode(free[:2]) or not named
