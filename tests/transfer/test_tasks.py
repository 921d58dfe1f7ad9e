from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from transfer.errors import TaskError
from transfer.tasks import Encoder, Label, Line, Task, buckets, collate

LABELS = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
TASK = Task("reviews", "{text} It was {answer}", LABELS, "A sentence about a review", max_tokens=24)
FILE = """
name = "reviews"
template = "{text} It was {answer}."
init_text = "A sentence about a review"
[labels]
positive = ["great", "good"]
negative = ["bad"]
"""
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


@pytest.fixture
def closing(tiny_causal):
    """A causal tokeniser that puts <s> before and </s> after every line."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_causal)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def metaspace():
    """A SentencePiece-like tokeniser: ▁ marks word starts, also the first; <s> opens a line."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    lines = ["The film was great good terrible bad. It was fun"] * 30
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def written(tmp_path, text):
    path = tmp_path / "task.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "no blank {text}"}, "template"),
        ({"template": "{answer} before {text}"}, "template"),
        ({"template": "only {answer}"}, "template"),
        ({"template": "{text} {answer} {answer}"}, "template"),
        ({"template": "{text} {answer} {text}"}, "template"),
        ({"labels": LABELS[:1]}, "two or more"),
        ({"labels": (*LABELS, Label("positive", ("fine",)))}, "different classes"),
        ({"labels": (LABELS[0], Label("empty", ()))}, "'empty' has no label words"),
        (
            {"labels": (LABELS[0], Label("other", ("great",)))},
            "'great' stands for both 'positive' and 'other'",
        ),
        ({"labels": (LABELS[0], Label("other", (" bad",)))}, "' bad' of 'other'"),
        ({"init_text": "  "}, "init_text"),
        ({"max_tokens": 0}, "max_tokens 0"),
        ({"name": "Movie Reviews"}, "'Movie Reviews'"),
    ],
)
def test_an_impossible_task_names_the_rule_it_breaks(change, says):
    with pytest.raises(TaskError, match=says) as caught:
        replace(TASK, **change)
    assert "\n" not in str(caught.value)


def test_a_task_file_is_read_as_it_stands(tmp_path):
    task = Task.from_toml(written(tmp_path, FILE))
    assert task.labels == (Label("positive", ("great", "good")), Label("negative", ("bad",)))
    assert (task.template, task.max_tokens) == ("{text} It was {answer}.", 128)
    assert task.label_names == ("positive", "negative")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name =", "nam =", "unknown key 'nam'"),
        ('name = "reviews"', "", "missing key 'name'"),
        ("[labels]", "[classes]", "unknown key 'classes'"),
        ('name = "reviews"', "name = 7", "name 7 must be a string"),
        ('["bad"]', '"bad"', "labels.negative 'bad' must be a list"),
        ('["bad"]', "[1]", "labels.negative [1] must be a list"),
        ("[labels]", 'max_tokens = "many"\n[labels]', "max_tokens 'many' must be a whole number"),
        ("[labels]", "max_tokens = true\n[labels]", "max_tokens True must be a whole number"),
        ('["bad"]', '["good"]', "label word 'good'"),
        ("{answer}", "", "template"),
        ("[labels]", "[labels", "not a TOML file"),
    ],
)
def test_a_wrong_task_file_is_named_with_its_key_in_one_line(tmp_path, old, new, says):
    path = written(tmp_path, FILE.replace(old, new))
    with pytest.raises(TaskError) as caught:
        Task.from_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_task_file_is_named(tmp_path, content):
    path = tmp_path / "task.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(TaskError, match=r"task\.toml: "):
        Task.from_toml(path)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_label_words_that_are_not_one_known_token_are_refused(kind, request):
    model = request.getfixturevalue(kind)
    with pytest.raises(TaskError, match=r"'weatherfood' of 'other' is \d+ tokens"):
        model.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("weatherfood",)))))


def test_a_label_word_the_tokeniser_does_not_know_is_refused(masked):
    with pytest.raises(TaskError, match="'☃' of 'other' is unknown"):
        masked.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("☃",)))))


def test_label_words_that_become_one_token_are_refused(masked):
    with pytest.raises(TaskError, match="'great' is shared by 'positive' and 'other'"):
        masked.encoder(replace(TASK, labels=(LABELS[0], Label("other", ("Great",)))))


def test_a_masked_model_needs_a_mask_token(tiny_causal):
    with pytest.raises(TaskError, match="no mask token"):
        Encoder(TASK, PreTrainedTokenizerFast.from_pretrained(tiny_causal), causal=False)


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


def test_label_words_are_looked_up_as_they_continue_a_line(encoder):
    tokens = [encoder.tokenizer.convert_ids_to_tokens(ids) for ids in encoder.words]
    marker = "Ġ" if encoder.causal else ""
    assert tokens == [[marker + word for word in label.words] for label in LABELS]


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


def test_rows_are_padded_on_the_right_to_the_longest():
    batch = collate([Line((5, 6, 7), 2), Line((8,), 0)], pad_id=3)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch.answer.tolist(), len(batch)) == ([2, 0], 2)


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 100))
@example([70], 50)
def test_buckets_hold_every_index_once_and_stay_within_the_bound(lengths, bound):
    groups = list(buckets(lengths, bound))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= bound
