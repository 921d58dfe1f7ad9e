"""The template survives whatever the text is, and the blank is where it belongs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from transfer.errors import TaskError
from transfer.tasks import Label, Task
from transfer.tokens.encoder import Encoder

LABELS = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
TASK = Task("reviews", "{text} It was {answer}", LABELS, "A sentence about a review", max_tokens=24)
SPELT = ("[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]", "</s>", "<s>", "<pad>", "<mask>", "{answer}", "{text}")
TEXTS = st.lists(st.one_of(st.text(max_size=30), st.sampled_from(SPELT)), max_size=6).map("".join)
HARD = (
    "[MA[MASK]SK]",
    "<</s>/s>",
    "[MASK] It was [MASK]",
    "\u2028\x00\ufeff",
    "👩‍👩‍👧" * 40,
    " " * 300,
    "a" * 500,
    "İ" * 200,
)


@pytest.fixture(params=["causal", "masked"])
def encoder(request):
    return request.getfixturevalue(request.param).encoder(TASK)


def test_a_masked_model_needs_a_mask_token(tiny_causal):
    with pytest.raises(TaskError, match="no mask token"):
        Encoder(TASK, PreTrainedTokenizerFast.from_pretrained(tiny_causal), causal=False)


def test_a_second_blank_in_the_template_is_refused(masked, causal):
    odd = replace(TASK, template="A [MASK] text: {text} It was {answer}")
    with pytest.raises(
        TaskError, match=r"the template has a \[MASK\] of its own; only \{answer\} is the blank"
    ):
        masked.encoder(odd)
    causal.encoder(odd)


def test_a_template_longer_than_a_line_is_refused(causal):
    with pytest.raises(TaskError, match=r"template alone is \d+ tokens, max_tokens is 2"):
        causal.encoder(replace(TASK, max_tokens=2))


def check_line(encoder, text, line):
    assert len(line.ids) <= TASK.max_tokens
    tokenizer = encoder.tokenizer
    end = tokenizer(" It was", add_special_tokens=False)["input_ids"]
    stop = line.answer + 1 if encoder.causal else line.answer
    assert list(line.ids[stop - len(end) : stop]) == end
    if encoder.causal:
        assert line.answer == len(line.ids) - 1
        assert tokenizer.eos_token_id not in line.ids
    else:
        assert [i for i, token in enumerate(line.ids) if token == tokenizer.mask_token_id] == [line.answer]
        assert line.ids[0] == tokenizer.cls_token_id
        assert line.ids[-1] == tokenizer.sep_token_id
        assert line.ids.count(tokenizer.sep_token_id) == 1


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_text_leaves_the_template_whole_and_the_blank_where_it_is(data, causal_and_masked):
    text = data.draw(TEXTS)
    for encoder in causal_and_masked:
        check_line(encoder, text, encoder.encode([text])[0])


@pytest.fixture(scope="module")
def causal_and_masked(tiny_causal, tiny_masked):
    pairs = ((tiny_causal, True), (tiny_masked, False))
    return [Encoder(TASK, PreTrainedTokenizerFast.from_pretrained(path), causal=kind) for path, kind in pairs]


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_leave_the_template_whole(encoder, text):
    check_line(encoder, text, encoder.encode([text])[0])


@pytest.mark.parametrize("word", ["We liked the music. ", " great"])  # cut, "great" loses its space and grows
def test_a_cut_text_keeps_as_many_tokens_as_fit(encoder, word):
    (line,) = encoder.encode([word * 50])
    assert len(line.ids) >= TASK.max_tokens - 2
    assert word.strip().lower().rstrip(".") in encoder.tokenizer.decode(line.ids).lower()


def test_a_tokeniser_that_opens_and_closes_lines_gives_the_word_and_not_its_marks(closing):
    encoder = Encoder(TASK, closing, causal=True)
    assert [closing.convert_ids_to_tokens(ids) for ids in encoder.words] == [
        ["Ġgreat", "Ġgood"],
        ["Ġterrible", "Ġbad"],
    ]
    (line,) = encoder.encode(["A film."])
    assert line.ids[0] == closing.bos_token_id
    assert line.ids[-1] == closing.convert_tokens_to_ids("Ġwas")
    assert line.answer == len(line.ids) - 1


def test_a_sentencepiece_tokeniser_gives_the_word_with_its_space(metaspace):
    encoder = Encoder(TASK, metaspace, causal=True)
    assert [metaspace.convert_ids_to_tokens(ids) for ids in encoder.words] == [
        ["▁great", "▁good"],
        ["▁terrible", "▁bad"],
    ]
    (line,) = encoder.encode(["The film"])
    assert metaspace.convert_ids_to_tokens(line.ids) == ["<s>", "▁The", "▁film", "▁It", "▁was"]
