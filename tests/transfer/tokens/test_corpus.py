"""Sequences of tokens in a file: the same as in memory, made once, and found whole or not at all."""

import os
import random
import resource
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.transfer.distillation.lessons import SHORT, TEXTS, WORDS
from transfer.distillation.distil import distil
from transfer.errors import DataError, UsageError
from transfer.files.public_text import PublicText
from transfer.tokens import corpus
from transfer.tokens.batches import Line, buckets
from transfer.tokens.corpus import Corpus, sequences_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "promptferry"


def kept(cache):
    """What a corpus leaves there, beside what was found of models."""
    return sorted(path for path in cache.iterdir() if path.is_dir() or path.suffix)


@pytest.fixture
def tokenizer(causal):
    return causal.tokenizer


def in_memory(tokenizer, texts, longest):
    """The sequences as one call of the tokeniser gives them."""
    cut = tokenizer(texts, truncation=True, max_length=longest, return_overflowing_tokens=True)["input_ids"]
    tokenizer.backend_tokenizer.no_truncation()
    return [Line(tuple(ids), 0) for ids in cut if len(ids) >= 8]


def lines(count):
    return [" ".join(random.Random(number).choices(WORDS, k=number % 60)) for number in range(count)]


@pytest.mark.parametrize("kind", ["causal", "masked", "encoder"])
@pytest.mark.parametrize("block", [1, 300, 2**20])
def test_sequences_are_those_of_one_call_of_the_tokeniser(request, kind, block, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK", block)
    tokenizer = request.getfixturevalue(kind).tokenizer
    texts = lines(200)
    made = sequences_of(tokenizer, texts, 8, 16)
    assert tokenizer.backend_tokenizer.truncation is None
    expected = in_memory(tokenizer, texts, 16)
    assert list(made) == expected
    assert list(made[3:9:2]) == expected[3:9:2]
    assert made.lengths.tolist() == [len(line.ids) for line in expected]
    order = torch.randperm(len(expected), generator=torch.Generator().manual_seed(7)).tolist()
    assert list(made.shuffled(7)[:20]) == [expected[index] for index in order[:20]]


@given(st.lists(st.integers(8, 70)), st.integers(1, 200))
def test_groups_are_those_of_buckets(lengths, most):
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    whole = Corpus(np.zeros(offsets[-1], np.int32), offsets, np.arange(len(lengths)))
    for some in (whole, whole[::-2]):
        told = some.lengths.tolist()
        assert [group.tolist() for group in some.groups(most)] == list(buckets(told, most))


def test_a_corpus_is_tokenised_once_and_again_if_text_length_or_tokeniser_is_another(
    tokenizer, masked, cache
):
    made = list(sequences_of(tokenizer, TEXTS, 8, 16))
    (place,) = kept(cache)
    first = (place / corpus.TOKENS).stat()
    assert list(sequences_of(tokenizer, TEXTS, 8, 16)) == made
    assert (place / corpus.TOKENS).stat().st_mtime_ns == first.st_mtime_ns
    assert kept(cache) == [place]
    for other in (
        (tokenizer, TEXTS, 8, 17),
        (tokenizer, TEXTS, 9, 16),
        (tokenizer, TEXTS[1:], 8, 16),
        (masked.tokenizer, TEXTS, 8, 16),
    ):
        before = len(kept(cache))
        sequences_of(*other)
        assert len(kept(cache)) == before + 1


def test_a_corpus_in_use_may_be_deleted(tokenizer, cache):
    made = sequences_of(tokenizer, TEXTS, 8, 16)
    for file in kept(cache)[0].iterdir():
        file.unlink()
    assert list(made) == in_memory(tokenizer, TEXTS, 16)


@pytest.mark.parametrize("file", [corpus.TOKENS, corpus.OFFSETS])
@pytest.mark.parametrize("content", [None, b"", b"1234567812345678"])
def test_a_damaged_corpus_is_made_anew(tokenizer, cache, file, content):
    expected = list(sequences_of(tokenizer, TEXTS, 8, 16))
    path = kept(cache)[0] / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert list(sequences_of(tokenizer, TEXTS, 8, 16)) == expected


def test_a_process_killed_while_it_tokenises_leaves_nothing_that_counts(tokenizer, cache, monkeypatch):
    child = os.fork()
    if not child:
        monkeypatch.setattr(corpus, "BLOCK", 200)
        monkeypatch.setattr(corpus, "progress", lambda title: Stopping())
        sequences_of(tokenizer, TEXTS, 8, 16)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert {path.suffix for path in kept(cache)} == {".lock", ".draft"}
    assert list(sequences_of(tokenizer, TEXTS, 8, 16)) == in_memory(tokenizer, TEXTS, 16)
    assert {path.suffix for path in kept(cache)} == {""}


class Stopping:
    """The process is killed when it shows progress for the third time."""

    shown = 0

    def __enter__(self):
        return self.show

    def __exit__(self, *_):
        pass

    def show(self, _done, _total):
        self.shown += 1
        if self.shown == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_waits_for_another_that_makes_the_same_corpus(tokenizer, cache):
    expected = in_memory(tokenizer, TEXTS, 16)
    sequences_of(tokenizer, TEXTS, 8, 16)
    (place,) = kept(cache)
    place.rename(cache / "elsewhere")
    with corpus._alone(place):
        child = os.fork()
        if not child:
            made = sequences_of(tokenizer, TEXTS, 8, 16)
            os._exit(list(made) != expected)
        time.sleep(0.3)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        (cache / "elsewhere").rename(place)
        inode = place.stat().st_ino
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert place.stat().st_ino == inode


def test_a_cache_that_cannot_be_written_is_told_with_the_remedy(tokenizer, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot keep the tokens .* set XDG_CACHE_HOME") as caught:
        sequences_of(tokenizer, TEXTS, 8, 16)
    assert "\n" not in str(caught.value)


def test_text_that_changed_since_it_was_checked_is_not_distilled_on(causal, tmp_path, cache):
    path = tmp_path / "public.txt"
    path.write_text("\n".join(TEXTS))
    text = PublicText.of(path)
    path.write_text("\n".join(TEXTS[1:]))
    with pytest.raises(DataError, match=r"public\.txt: the public text changed"):
        distil(causal, (0,), text, SHORT)
    assert {item.suffix for item in kept(cache)} <= {".lock"}


def test_a_proxy_of_a_file_is_that_of_its_texts(causal, tmp_path):
    path = tmp_path / "public.txt"
    path.write_text("\n".join(TEXTS))
    settings = SHORT
    ours = distil(causal, (0,), PublicText.of(path), settings).model.model.state_dict()
    theirs = distil(causal, (0,), TEXTS, settings).model.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_memory_does_not_grow_with_the_corpus(tokenizer, tmp_path, monkeypatch):
    """Two and eight megabytes of text in a process each: the peak of memory is the same, within three megabytes."""
    monkeypatch.setattr(corpus, "BLOCK", 2**14)
    sequences_of(tokenizer, TEXTS, 8, 64)
    peaks = []
    for repeats in (1, 4):
        path = tmp_path / f"{repeats}.txt"
        path.write_text("\n".join(lines(5000 * repeats)))
        peaks.append(peak_of(lambda path=path: sequences_of(tokenizer, PublicText.of(path), 8, 64)))
    assert peaks[1] - peaks[0] < 3 * 1024


def peak_of(work):
    """By how many KB the peak of memory grows in a process that does only this."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        os.write(theirs, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before).encode())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(theirs)
    with os.fdopen(ours) as told:
        return int(told.read())
