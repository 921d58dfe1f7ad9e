"""A word is inserted as a text would say it, whatever the tokeniser, and no special token or label word is one."""

import random
import shutil
from dataclasses import replace

import pytest

from coordinator.publication.inserted_words import Words, slots
from tests.coordinator.conftest import PUBLIC_TEXT
from transfer.models.loading import load

CHAT = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEXTS = [*PUBLIC_TEXT, "Long " + "train " * 60, "word", ""]


@pytest.fixture(params=["causal", "masked", "chat"])
def case(request, tiny_causal, tiny_masked, tiny_task, tmp_path):
    directory = shutil.copytree(tiny_masked if request.param == "masked" else tiny_causal, tmp_path / "model")
    if request.param == "chat":
        (directory / "chat_template.jinja").write_text(CHAT)
        tiny_task = replace(tiny_task, chat=True, system="Be kind.", prompt_at="user", max_tokens=64)
    model = load(directory)
    return model, tiny_task, Words(tiny_task, model.tokenizer)


def test_a_slot_filled_with_a_token_is_the_line_of_the_text_that_says_its_word(case):
    model, task, words = case
    usual = [token for token in range(len(model.embedding)) if token in words]
    places = slots(model, task, TEXTS, words, random.Random(0))
    assert {slot.text for slot in places} >= set(TEXTS[:-2])
    for slot in places:
        before, _, behind = slot.text.partition(" ")
        for token in usual[::7]:
            (line,) = model.encoder(task).encode([f"{before} {words.spelt(token)} {behind}"])
            assert slot.filled(token) == line


def test_special_tokens_parts_of_words_and_label_words_are_no_words(case):
    model, _, words = case
    spelt = [words.spelt(token) for token in range(len(model.embedding)) if token in words]
    assert {"the", "music"} <= set(spelt)
    assert not {"", "great", "good", "terrible", "bad"} & set(spelt)
    assert len(spelt) == len(set(spelt)) > 20
    assert not any(token in words for token in model.tokenizer.all_special_ids)


def test_texts_without_words_of_one_token_have_no_place(case):
    model, task, words = case
    assert slots(model, task, ["qzx jvq wxz", "zzqj xqz"], words, random.Random(0)) == []
