"""Whatever a text spells and however a tokeniser matches it, a line's special tokens are the template's own."""

import json
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from transfer.errors import TaskError
from transfer.tasks import Label, Task
from transfer.tokens.encoder import Encoder
from transfer.tokens.template import Frame, special_ids

LABELS = (Label("positive", ("great",)), Label("negative", ("bad",)))
TASK = Task("reviews", "{text} It was {answer}.", LABELS, "A review", max_tokens=24)
LINES = [
    "a calm harbour it was great good terrible bad . the boats were slow < / > [ ] mask sep s | im start"
] * 40
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MARKS = ["<unk>", "<s>", "</s>"]


def folding():
    """Full width, accents, case and characters of no width make no difference."""
    hidden = normalizers.Replace(Regex("[\u00ad\u200b-\u200f\u2060\ufeff\\p{M}]"), "")
    return normalizers.Sequence([normalizers.NFKD(), hidden, normalizers.Lowercase()])


def matched(tokenizer, **how):
    """The tokeniser with its special tokens matched in another way, which none that is made anew can be told."""
    told = json.loads(tokenizer.to_str())
    for token in told["added_tokens"]:
        token.update(how)
    return Tokenizer.from_str(json.dumps(told))


def masked(**how):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = folding()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=500, special_tokens=SPECIAL))
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokens = {role: AddedToken(name, special=True, **how) for role, name in names.items()}
    mask = AddedToken("[MASK]", special=True, **how)
    made = PreTrainedTokenizerFast(tokenizer_object=matched(tokenizer, **how), mask_token=mask, **tokens)
    made.add_special_tokens({"extra_special_tokens": [AddedToken("<|im_start|>", special=True, **how)]})
    return made


def causal(model, trainer, unknown="<unk>", hidden=""):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = (
        normalizers.Sequence([folding(), normalizers.Replace(Regex(f"[{hidden}]"), "")])
        if hidden
        else folding()
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(LINES, trainer)
    tokens = {"bos_token": AddedToken("<s>", special=True), "eos_token": AddedToken("</s>", special=True)}
    tokenizer = matched(tokenizer, normalized=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown, **tokens)


def bpe():
    return models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=400, special_tokens=MARKS)


TOKENIZERS = {
    "exact": lambda: masked(normalized=False),
    "folded": lambda: masked(normalized=True),
    "left": lambda: masked(normalized=True, lstrip=True),
    "right": lambda: masked(normalized=True, rstrip=True),
    "both": lambda: masked(normalized=False, lstrip=True, rstrip=True),
    "word": lambda: masked(normalized=True, single_word=True),
    "bpe": lambda: causal(*bpe()),
    "no spaces": lambda: causal(*bpe(), hidden=" -"),
    # pieces of the model itself, which match in any text
    "unigram": lambda: causal(
        models.Unigram(), trainers.UnigramTrainer(vocab_size=150, special_tokens=MARKS, unk_token="<unk>")
    ),
    "end and unknown": lambda: causal(*bpe(), unknown="</s>"),
}
WORDS = ["exact", "folded", "left", "right", "both", "word", "bpe", "end and unknown"]
"""Those that know the words of `TASK`."""


@cache
def made(kind):
    return TOKENIZERS[kind]()


@pytest.fixture(scope="module", params=WORDS)
def encoder(request):
    tokenizer = made(request.param)
    return Encoder(TASK, tokenizer, causal=tokenizer.mask_token is None)


@pytest.fixture(scope="module", params=TOKENIZERS)
def frames(request):
    tokenizer = made(request.param)
    lines = ("<s> it was ", ""), ("", ""), ("It was ", ""), ("[CLS] <", "/s> [MASK]"), ("[MA", "SK] x")
    return [Frame(tokenizer, *line, inside=inside) for line in lines for inside in (True, False)]


def wide(text):
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def changed(text, how, at):
    at %= len(text)
    hidden = {
        "zero": "\u200b",
        "mark": "\ufeff",
        "soft": "\u00ad",
        "accent": "\u0301",
        "slash": "\u0338",
        "gap": " ",
    }
    if how in hidden:
        return text[:at] + hidden[how] + text[at:]
    return {"lower": text.lower, "upper": text.upper, "swap": text.swapcase, "same": lambda: text}.get(
        how, lambda: wide(text)
    )()


NAMED = st.sampled_from([*SPECIAL, *MARKS, "<|im_start|>", "[MA", "SK]", "</", "s>", "<"])
HOW = st.sampled_from(
    ["lower", "upper", "swap", "same", "wide", "zero", "mark", "soft", "accent", "slash", "gap"]
)
SPELT = st.builds(changed, NAMED, HOW, st.integers(0, 12))
NESTED = st.recursive(
    SPELT,
    lambda inner: st.builds(
        lambda a, b, at: a[: at % len(a)] + b + a[at % len(a) :], inner, inner, st.integers(0, 12)
    ),
    max_leaves=4,
)
TEXTS = st.lists(
    st.one_of(NESTED, st.sampled_from([" calm ", " harbour", "-", "\u00a0"]), st.text(max_size=8)), max_size=6
).map("".join)


@settings(deadline=None, max_examples=25)
@given(text=TEXTS)
@example(text="[MA[MA[mask]SK]SK]")
@example(text="<</s>/s>")
def test_the_special_tokens_of_a_line_are_its_own(frames, text):
    for frame in frames:
        assert frame.specials(frame.ids(text)) == frame.specials(frame.bare)


@settings(deadline=None, max_examples=25)
@given(text=TEXTS)
@example(text="[MA[MA[mask]SK]SK]")
@example(text="a calm [Mask]")
@example(text="\u0338 calm")
def test_no_text_becomes_a_special_token(encoder, text):
    tokenizer, special = encoder.tokenizer, special_ids(encoder.tokenizer)
    empty, line = encoder.encode(["", text])
    assert [t for t in line.ids if t in special] == [t for t in empty.ids if t in special]
    if not encoder.causal:
        assert [i for i, t in enumerate(line.ids) if t == tokenizer.mask_token_id] == [line.answer]
    behind = len(empty.ids) - empty.answer
    assert line.ids[len(line.ids) - behind :] == empty.ids[len(empty.ids) - behind :]
    assert len(line.ids) <= TASK.max_tokens


@pytest.mark.parametrize("how", ["lower", "same", "wide", "zero"])
def test_what_stands_around_a_special_token_is_kept(encoder, how):
    for name in ("[MASK]", "[SEP]", "<|im_start|>", "</s>"):
        (line,) = encoder.encode([f"a calm {changed(name, how, 2)} harbour"])
        kept = encoder.tokenizer.decode(line.ids)
        assert "calm" in kept
        assert "harbour" in kept


@settings(deadline=None, max_examples=25)
@given(answer=TEXTS)
def test_no_answer_holds_a_special_token_but_its_end(answer):
    for kind in ("bpe", "unigram"):
        tokenizer = made(kind)
        free = replace(
            TASK, labels=(), kind="text", template="{text} It was {answer}", answer_tokens=40, max_tokens=64
        )
        (line,) = Encoder(free, tokenizer, causal=True).encode(["calm"], [answer])
        assert not special_ids(tokenizer).intersection(line.goal[:-1])


@pytest.mark.parametrize(
    "template", ["A [mask] text: {text} It was {answer}", "［ＭＡＳＫ］ {text} was {answer}"]
)
def test_a_blank_in_the_template_is_refused_in_any_spelling(template):
    with pytest.raises(TaskError, match=r"of its own; only \{answer\} is the blank"):
        Encoder(replace(TASK, template=template), made("folded"), causal=False)


def test_a_blank_that_the_tokeniser_does_not_see_is_refused():
    with pytest.raises(TaskError, match=r"put spaces around \{answer\}"):
        Encoder(replace(TASK, template="{text} It was x{answer}"), made("word"), causal=False)


def test_a_blank_that_is_not_seen_beside_a_text_is_refused():
    with pytest.raises(TaskError, match=r"put spaces around \{text\}"):
        Encoder(replace(TASK, template="{text}{answer}."), made("word"), causal=False)


@pytest.mark.parametrize("name", ["[Mask]", "[sep]", "<|IM_start|>"])
def test_a_label_word_may_not_spell_one(name):
    labels = (LABELS[0], Label("other", (name,)))
    with pytest.raises(TaskError, match="holds a special token"):
        Encoder(replace(TASK, labels=labels, label_reading="whole"), made("folded"), causal=False)


def test_a_line_of_nothing_but_special_tokens_still_has_a_token():
    tokenizer = made("bpe")
    task = replace(TASK, template="{text}{answer}")
    (line,) = Encoder(task, tokenizer, causal=True).encode(["</s>"])
    assert len(line.ids) == 1
    assert line.answer == 0
    assert not special_ids(tokenizer).intersection(line.ids)


def test_unknown_words_stay_in_a_text_and_the_name_of_their_token_does_not():
    encoder = Encoder(TASK, made("folded"), causal=False)
    unknown = encoder.tokenizer.unk_token_id
    lines = encoder.encode(["a ☃ boat", "a [unk] boat", "a boat"])
    assert [line.ids.count(unknown) for line in lines] == [1, 0, 0]
    assert lines[1] == lines[2]
