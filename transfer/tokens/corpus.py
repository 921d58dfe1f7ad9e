"""The token sequences of public text, in a file: they are never all in memory, neither as text nor as numbers.

The text is read and tokenised block by block, once. The result stays in the user's cache, in a directory of two
files: `tokens` has the tokens of all sequences, one behind the other (int32); `offsets` says where each begins and
the last one ends (int64). The directory is named by texts, tokeniser and longest sequence, so that a later
distillation finds it. The operating system maps both files into memory, reads what is asked for, and drops it when
memory is short. What stays is 8 bytes a sequence, for the random order, and 20 more while a pass is put into groups.
"""

import fcntl
import hashlib
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from transfer.errors import UsageError
from transfer.files.public_text import PublicText
from transfer.files.user_cache import place_of
from transfer.progress import progress
from transfer.tokens.batches import Line

TOKENS, OFFSETS = "tokens", "offsets"
BLOCK = 2**18
"""Characters that are tokenised at a time: enough for every core; a tokeniser takes 200 bytes for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus(Sequence[Line]):
    """Sequences of tokens in some order, each read from the file when it is asked for.

    Attributes:
        tokens: tokens of all sequences of the file.
        offsets: where each sequence begins in `tokens`, and where the last one ends.
        order: the sequences of this corpus, by their number in the file.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> "Corpus": ...
    def __getitem__(self, index: int | slice) -> "Line | Corpus":
        if isinstance(index, slice):
            return replace(self, order=self.order[index])
        number = self.order[index]
        return Line(tuple(self.tokens[self.offsets[number] : self.offsets[number + 1]].tolist()), 0)

    def shuffled(self, seed: int) -> "Corpus":
        """Return the same sequences in a random order that `seed` fixes."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return replace(self, order=self.order[order.numpy()])

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of tokens of each sequence."""
        return (self.offsets[self.order + 1] - self.offsets[self.order]).astype(np.int32)

    def groups(self, most: int) -> Iterator[NDArray[np.int64]]:
        """Yield the groups of `transfer.tokens.batches.buckets`, without a Python number for each sequence."""
        lengths = self.lengths
        ascending = lengths.argsort(kind="stable")
        while len(ascending):
            room = range(1, min(len(ascending), most // lengths[ascending[0]]) + 1)
            count = bisect_right(room, most, key=lambda rows: rows * int(lengths[ascending[rows - 1]])) or 1
            yield ascending[:count]
            ascending = ascending[count:]


def sequences_of(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] | PublicText, least: int, longest: int
) -> Corpus:
    """Return sequences of `least` to `longest` tokens, the tokeniser's special ones included, in the texts' order.

    Raises:
        UsageError: the user's cache cannot be written.
        DataError: the texts changed since they were read first.
    """
    public = PublicText.of(texts)
    place = place_of(("tokens", public.digest, public.count, _digest(tokenizer), least, longest))
    try:
        return _kept(place) or _made(place, _tokenised(tokenizer, public, longest), least)
    except OSError as error:
        raise UsageError(
            f"cannot keep the tokens of the public text in {place.parent}: {error.strerror}; they take 4 bytes each: "
            "set XDG_CACHE_HOME to a directory with room for them"
        ) from error


def _kept(place: Path) -> Corpus | None:
    """Return what is in `place`; None if there is nothing, or it is damaged."""
    try:
        return _mapped(place)
    except (FileNotFoundError, ValueError):
        return None


def _mapped(place: Path) -> Corpus:
    offsets, tokens = _array(place / OFFSETS, np.int64), _array(place / TOKENS, np.int32)
    if not len(offsets) or offsets[-1] != len(tokens):
        raise ValueError(f"{place} is not whole")
    return Corpus(tokens, offsets, np.arange(len(offsets) - 1))


def _array(path: Path, kind: type[Any]) -> NDArray[Any]:
    count = path.stat().st_size // np.dtype(kind).itemsize
    return np.memmap(path, kind, "r", shape=(count,)) if count else np.empty(0, kind)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Within the block, no other process makes `place`; those that wait find it made."""
    lock = place.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
            lock.unlink(missing_ok=True)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also if a process that was forked meanwhile has the file open


def _made(place: Path, blocks: Iterable[list[list[int]]], least: int) -> Corpus:
    """Return what another process makes in `place` meanwhile, or make it, whole or not at all."""
    with _alone(place):
        if _kept(place) is None:
            draft = place.with_suffix(".draft")
            for old in (draft, place):  # a process that died has left the one, a damaged disk the other
                shutil.rmtree(old, ignore_errors=True)
            try:
                _write(draft, blocks, least)
                draft.rename(place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return _mapped(place)


def _write(draft: Path, blocks: Iterable[list[list[int]]], least: int) -> None:
    draft.mkdir(mode=0o700)
    with (draft / TOKENS).open("wb") as tokens, (draft / OFFSETS).open("wb") as offsets:
        end = np.zeros(1, np.int64)
        offsets.write(end.tobytes())
        for block in blocks:
            sequences = [ids for ids in block if len(ids) >= least]
            tokens.write(np.fromiter(chain.from_iterable(sequences), np.int32).tobytes())
            ends = end[-1:] + np.cumsum([len(ids) for ids in sequences], dtype=np.int64)
            offsets.write(ends.tobytes())
            end = ends if len(ends) else end
        for file in (tokens, offsets):
            file.flush()
            os.fsync(file.fileno())


def _tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: PublicText, longest: int
) -> Iterator[list[list[int]]]:
    """Yield the sequences of one block of texts after the other; a long text becomes several."""
    read = 0
    how = {"truncation": True, "max_length": longest, "return_overflowing_tokens": True, "stride": 0}
    try:
        with progress("tokenising the public text") as show:
            for block in _blocks(texts):
                cut = tokenizer(block, return_attention_mask=False, return_token_type_ids=False, **how)
                yield cut["input_ids"]
                read += len(block)
                show(read, len(texts))
    finally:
        tokenizer.backend_tokenizer.no_truncation()  # or truncation stays on and is saved with the proxy


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of everything that decides the tokens of a text."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    described = f"{tokenizers.__version__} {tokenizer.backend_tokenizer.to_str()}"
    return hashlib.sha256(described.encode()).hexdigest()
