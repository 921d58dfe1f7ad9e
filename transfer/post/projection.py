"""The projection of a prompt's vectors into another model's embedding space, fitted on shared tokens.

Letters: P prompt tokens, H hidden size of the proxy, H′ hidden size of the target, V shared tokens.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt

RIDGE = 1e-2
"""Penalty λ relative to the mean sum of squares per direction, so that its effect does not depend on V."""
BLOCK = 2**22
"""Numbers of both models' embeddings in one block, 34 MB in double precision: memory does not grow with V. The result
is that of one block within rounding, about 1e-7 of its largest number."""


def projected(prompt: SoftPrompt, proxy: LanguageModel, target: LanguageModel) -> SoftPrompt:
    """Map `prompt` [P, H] of the proxy linearly to vectors [P, H′] of the target.

    The map fits the shared tokens best: W = argmin ‖E·W − E′‖² + λ‖W‖² over their centred embeddings E [V, H] and
    E′ [V, H′] (ridge regression, Hoerl and Kennard 1970).

    Raises:
        UsageError: see `shared_tokens`.
    """
    ours, theirs = map(list, zip(*shared_tokens(proxy, target), strict=True))
    rows = max(1, BLOCK // (proxy.width + target.width))
    centre, aim = _mean(proxy, ours, rows), _mean(target, theirs, rows)  # [H], [H′]
    gram, mixed = centre.new_zeros(len(centre), len(centre)), centre.new_zeros(len(centre), len(aim))
    for known, wanted in zip(_blocks(proxy, ours, rows), _blocks(target, theirs, rows), strict=True):
        known -= centre
        gram.addmm_(known.T, known)  # of all V rows: [H, H]
        mixed.addmm_(known.T, wanted - aim)  # [H, H′]
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weights = torch.linalg.solve(gram, mixed)  # [H, H′]
    # [P, H] → [P, H′]
    return SoftPrompt(((prompt.vectors.double() - centre) @ weights + aim).float(), target.ref)


def _blocks(model: LanguageModel, tokens: Sequence[int], rows: int) -> Iterator[torch.Tensor]:
    """Yield the embeddings of `tokens`, [≤ rows, H], in double, since a Gram matrix squares the condition number."""
    for start in range(0, len(tokens), rows):
        yield model.embedded(torch.tensor(tokens[start : start + rows])).double()


def _mean(model: LanguageModel, tokens: Sequence[int], rows: int) -> torch.Tensor:
    total = torch.zeros(model.width, dtype=torch.float64)
    for block in _blocks(model, tokens, rows):
        total += block.sum(dim=0)
    return total / len(tokens)


def shared_tokens(proxy: LanguageModel, target: LanguageModel) -> list[tuple[int, int]]:
    """Return the numbers (proxy's, target's) of the V tokens in both vocabularies.

    Raises:
        UsageError: there are fewer than H.
    """
    ours, theirs = _spelled(proxy.tokenizer), _spelled(target.tokenizer)
    shared = [(ours[text], theirs[text]) for text in sorted(ours.keys() & theirs.keys())]
    if len(shared) < proxy.width:
        raise UsageError(
            f"{proxy.ref.name!r} and {target.ref.name!r} share {len(shared)} tokens, too few to project "
            f'{proxy.width} numbers by; start from "text"'
        )
    return shared


def _spelled(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return token numbers by the text they decode to behind a word, without tokens for parts of a character.

    Names of tokens are not comparable: "film" begins a word in one vocabulary and continues a word in another, which
    has Ġfilm as well.
    """
    decoder: Any = tokenizer.backend_tokenizer.decoder
    numbers: dict[str, int] = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)):
        text = decoder.decode(["a", token]) if decoder else f"a {token}"
        # the first of several tokens with one text wins: low numbers are the frequent ones
        if not (token.startswith("<0x") or "\N{REPLACEMENT CHARACTER}" in text):
            numbers.setdefault(text, number)
    return numbers
