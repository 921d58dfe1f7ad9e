"""A prompt's vectors carried into another model's embedding space by the tokens both know.

Letters: P prompt tokens, H hidden size of one model and H′ of the other, V tokens both have.
"""

from operator import itemgetter
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from transfer.errors import UsageError
from transfer.models.language_model import LanguageModel
from transfer.prompt import SoftPrompt

RIDGE = 1e-2
"""Penalty as a share of the sum of squares of a mean direction, of which it takes a hundredth however many tokens."""


def projected(prompt: SoftPrompt, proxy: LanguageModel, target: LanguageModel) -> SoftPrompt:
    """`prompt` [P, H] of the proxy as vectors [P, H′] of the target: the linear map that fits shared tokens best.

    W = argmin ‖E·W − E′‖² + λ‖W‖², over the embeddings E [V, H] and E′ [V, H′] of the tokens both vocabularies
    have, each centred; ridge regression (Hoerl and Kennard 1970).

    Raises:
        UsageError: see `shared_tokens`.
    """
    ours, theirs = map(list, zip(*shared_tokens(proxy, target), strict=True))
    known, wanted = (
        proxy.embedded(torch.tensor(ours)).double(),
        target.embedded(torch.tensor(theirs)).double(),
    )
    centre, aim = known.mean(dim=0), wanted.mean(dim=0)
    gram = (known - centre).T @ (known - centre)
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + penalty, (known - centre).T @ (wanted - aim))  # [H, H′]
    return SoftPrompt(((prompt.vectors.double() - centre) @ weights + aim).float(), target.ref)


def shared_tokens(proxy: LanguageModel, target: LanguageModel) -> list[tuple[int, int]]:
    """The V tokens that both models know: each one's number in the proxy's vocabulary and in the target's.

    Raises:
        UsageError: fewer than H.
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
    """Tokens by what they make of a text that ends in a word, without bytes and other parts of a character.

    Their names cannot be compared: "film" begins a word in one vocabulary and in another, with Ġfilm, goes on
    with it.
    """
    decoder: Any = tokenizer.backend_tokenizer.decoder
    found: dict[str, int] = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)):
        text = decoder.decode(["a", token]) if decoder else f"a {token}"
        if not (token.startswith("<0x") or "\N{REPLACEMENT CHARACTER}" in text):
            found.setdefault(text, number)
    return found
