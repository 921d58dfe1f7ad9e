"""What a tokeniser and an embedding table must agree on."""

import hashlib
from collections.abc import Iterable

import torch
from transformers import PreTrainedTokenizerBase

from transfer.errors import ModelError


def digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()


def ordinary(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that a text may become; none is read as a special one, see `transfer.tokens.template`."""
    return set(tokenizer.get_vocab().values()) - _special(tokenizer)


def drawn(tokenizer: PreTrainedTokenizerBase, rows: int, count: int, seed: int = 0) -> torch.Tensor:
    """`count` tokens [count] of an embedding table of `rows` rows that are not special: of a seed, always the same.

    All are different as long as there are enough of them; any token serves where all are special.
    """
    every = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    usual = every[~torch.isin(every, torch.tensor(sorted(_special(tokenizer)), dtype=torch.long))]
    found = usual if len(usual) else every
    return found.repeat(-(-count // len(found)))[:count]


def require_embedded(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int], rows: int, whose: str) -> None:
    """Refuse tokens beyond an embedding table of `rows` rows.

    Raises:
        ModelError: names the first one, and `whose` it is.
    """
    if beyond := [token for token in ids if token >= rows]:
        token = tokenizer.convert_ids_to_tokens(min(beyond))
        raise ModelError(
            f"{whose} token {token!r} has number {min(beyond)}, embeddings end at {rows - 1}; call "
            "model.resize_token_embeddings(len(tokenizer)) and save it again"
        )


def padding(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """A token to pad with: the tokeniser's, or the first if it has none or the table does not reach so far."""
    asked = int(tokenizer.pad_token_id or 0)
    return asked if asked < rows else 0


def _special(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every special token, the unknown one too: models of some families pad with its number."""
    return set(tokenizer.all_special_ids) - {None}
