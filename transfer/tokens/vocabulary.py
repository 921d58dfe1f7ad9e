"""What a tokeniser and an embedding table must agree on."""

import hashlib
from collections.abc import Iterable

import torch
from transformers import PreTrainedTokenizerBase

from transfer.errors import ModelError


def digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of the vocabulary, in hex."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(vocabulary).encode()).hexdigest()


def ordinary(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that a text may become; see `transfer.tokens.template` for why none is special."""
    return set(tokenizer.get_vocab().values()) - _special(tokenizer)


def drawn(tokenizer: PreTrainedTokenizerBase, rows: int, count: int, seed: int = 0) -> torch.Tensor:
    """Draw `count` tokens that are not special from an embedding table of `rows` rows; a seed fixes the result.

    They are different unless `count` exceeds their number. If all tokens are special, any token is drawn.
    """
    every = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))  # [rows]
    usual = every[~torch.isin(every, torch.tensor(sorted(_special(tokenizer)), dtype=torch.long))]
    tokens = usual if len(usual) else every
    return tokens.repeat(-(-count // len(tokens)))[:count]  # [count]


def require_embedded(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int], rows: int, whose: str) -> None:
    """Refuse tokens beyond an embedding table of `rows` rows.

    Raises:
        ModelError: names the lowest such token; the message starts with `whose`.
    """
    if beyond := [token for token in ids if token >= rows]:
        token = tokenizer.convert_ids_to_tokens(min(beyond))
        raise ModelError(
            f"{whose} token {token!r} has number {min(beyond)}, embeddings end at {rows - 1}; call "
            "model.resize_token_embeddings(len(tokenizer)) and save it again"
        )


def padding(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """Return the tokeniser's padding token, or token 0 if it has none or the embedding table does not contain it."""
    token = int(tokenizer.pad_token_id or 0)
    return token if token < rows else 0


def _special(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return every special token, including the unknown one: some families use its number for padding."""
    return set(tokenizer.all_special_ids) - {None}
