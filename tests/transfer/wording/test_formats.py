"""Formats of a question mean the same, are told apart by the tokeniser, and leave blank, chat and labels alone."""

from dataclasses import replace

import pytest

from tests.transfer.tokens.chats import KINDS, with_template
from transfer.models.language_model import LanguageModel
from transfer.tasks import Label, Task
from transfer.tokens.encoder import Encoder
from transfer.wording.formats import formats, in_formats

TEXTS = ["The film was great.", "a bad plot", "", "We liked\nthe music"]
ALL = 1000


def templates(encoder: Encoder, count: int = ALL, seed: int = 0) -> list[str]:
    return [each.task.template for each in formats(encoder, count, seed)]


def test_a_question_varies_in_casing_and_separator(causal: LanguageModel, tiny_task: Task) -> None:
    drawn = templates(causal.encoder(tiny_task))
    words, separators = ("It was", "it was", "It Was", "IT WAS"), (" ", "\n", " - ", ": ")
    assert drawn[0] == tiny_task.template
    assert sorted(drawn) == sorted(f"{{text}}{gap}{said} {{answer}}" for said in words for gap in separators)


def test_words_before_the_text_are_joined_to_it_by_the_same_separator(
    causal: LanguageModel, tiny_task: Task
) -> None:
    task = replace(tiny_task, template="Review: {text}\nIt was {answer}")
    drawn = templates(causal.encoder(task))
    assert drawn[0] == task.template
    assert {"Review - {text} - It was {answer}", "REVIEW\n{text}\nIT WAS {answer}"} <= set(drawn)
    assert len(drawn) == 4 * (4 + 1)


def test_a_masked_model_reads_the_mark_behind_its_blank_and_no_capitals_or_unknown_marks(
    masked: LanguageModel, tiny_task: Task
) -> None:
    drawn = templates(masked.encoder(replace(tiny_task, template="{text} It was {answer}.")))
    told = {template.lower().replace("\n", " ") for template in drawn}
    assert told == {"{text} it was {answer}.", "{text} it was {answer}"}  # it knows no other mark
    assert len(drawn) == len(told)


def test_formats_are_read_differently_and_come_again_by_their_seed(
    causal: LanguageModel, tiny_task: Task
) -> None:
    encoder = causal.encoder(tiny_task)
    drawn = formats(encoder, 6, 3)
    assert drawn[0] is encoder
    assert len({tuple(each.encode(TEXTS)) for each in drawn}) == len(drawn) == 6
    assert all(each.words == encoder.words for each in drawn)
    assert templates(encoder, 6, 3) == [each.task.template for each in drawn] == templates(encoder, 9, 3)[:6]
    assert templates(encoder, 6, 4) != templates(encoder, 6, 3)
    assert templates(encoder, 1) == [tiny_task.template]


def test_a_question_names_its_labels_as_they_are_read(causal: LanguageModel) -> None:
    labels = (Label("Good film", ("good",)), Label("awful", ("bad",)))
    task = Task(
        "case", "{text} Is it good, BAD or a Good film? It's {answer}", labels, "Case", max_tokens=120
    )
    drawn = templates(causal.encoder(task))
    assert "{text} IS IT good, BAD OR A Good film? IT'S {answer}" in drawn
    assert "{text} Is It good, BAD Or A Good film? It's {answer}" in drawn
    assert all("good, BAD" in template and "Good film?" in template for template in drawn)


@pytest.mark.parametrize("prompt_at", ["start", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chats_system_turn_and_frame_stay(kind: str, prompt_at: str) -> None:
    labels = (Label("positive", ("great",)), Label("negative", ("terrible",)))
    system = "" if kind == "gemma" else "Answer In one word."
    task = Task(
        "reviews", "Is it great or terrible?\n\n{text}\n\nBe Brief. {answer}", labels, "A review", 400,
        label_reading="whole", chat=True, system=system, prompt_at=prompt_at,
    )  # fmt: skip
    encoder = Encoder(task, with_template(*KINDS[kind]), causal=True)
    drawn = formats(encoder, ALL, 0)
    assert len(drawn) >= 16
    for each in drawn:
        assert replace(each.task, template=task.template) == task
        assert each.chat is not None
        assert encoder.chat is not None
        user = each.task.template.partition("{answer}")[0].rstrip()
        opening, _, question = user.partition("{text}")
        assert each.chat.turn == encoder.chat.turn
        assert each.chat.before == encoder.chat.before[: encoder.chat.turn] + opening
        assert each.chat.behind == question + encoder.chat.behind.removeprefix("\n\nBe Brief.")
        assert (each.chat.after, each.chat.gap) == (encoder.chat.after, encoder.chat.gap)


def test_a_special_token_of_the_template_is_in_every_format(causal: LanguageModel, tiny_task: Task) -> None:
    end = causal.tokenizer.eos_token_id
    drawn = formats(causal.encoder(replace(tiny_task, template="{text} </s> It was {answer}")), ALL, 0)
    assert len(drawn) >= 4
    assert all(each.encode(["A film"])[0].ids.count(end) == 1 for each in drawn)


def test_a_format_that_cannot_be_read_is_left_out(causal: LanguageModel, tiny_task: Task) -> None:
    bare = causal.encoder(tiny_task).length("")
    capitals = causal.encoder(replace(tiny_task, template="{text} IT WAS {answer}")).length("")
    assert capitals > bare
    drawn = templates(causal.encoder(replace(tiny_task, max_tokens=capitals)))
    assert drawn[0] == tiny_task.template
    assert not any("IT WAS" in template for template in drawn)


@pytest.mark.parametrize("template", ["{text} {answer}", "{text}: {answer}", "{text}\n\n{answer}."])
def test_a_template_without_words_has_one_format(
    causal: LanguageModel, tiny_task: Task, template: str
) -> None:
    assert templates(causal.encoder(replace(tiny_task, template=template))) == [template]


def test_a_template_that_spells_a_place_in_capitals_keeps_its_own_format(
    causal: LanguageModel, tiny_task: Task
) -> None:
    task = replace(tiny_task, template="{Text} {text} It was {answer}")
    assert templates(causal.encoder(task), 1) == [task.template]
    assert all("{text}" in template for template in templates(causal.encoder(task)))


def test_a_heads_line_has_formats_of_what_stands_around_the_text(
    causal: LanguageModel, head_task: Task
) -> None:
    drawn = templates(causal.encoder(replace(head_task, template="Review: {text}")))
    assert "REVIEW - {text}" in drawn
    assert len(drawn) == 3 * 4  # a single word as written is its own title


def test_lines_follow_format_by_format_with_the_goals_of_the_first(
    causal: LanguageModel, tiny_task: Task
) -> None:
    task = replace(tiny_task, labels=(), kind="text", answer_tokens=3)
    drawn = formats(causal.encoder(task), 3, 0)
    first = [line.replied((5, 6, 2)) for line in drawn[0].encode(TEXTS)]
    lines = in_formats(drawn, TEXTS, first)
    assert lines[: len(TEXTS)] == first
    for place, encoder in enumerate(drawn):
        own = lines[place * len(TEXTS) : (place + 1) * len(TEXTS)]
        assert [line.goal for line in own] == [(5, 6, 2)] * len(TEXTS)
        assert [line.ids[:-2] for line in own] == [line.ids for line in encoder.encode(TEXTS)]
    assert len(lines) == 3 * len(TEXTS)
