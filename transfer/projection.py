"""A prompt's vectors carried into another model's embedding space by the tokens both know.

Letters: P prompt tokens, H hidden size of one model and H′ of the other, V tokens both have.
"""

import torch

from transfer.errors import UsageError
from transfer.models import LanguageModel
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
    shared = shared_tokens(proxy, target)
    ours, theirs = proxy.tokenizer.get_vocab(), target.tokenizer.get_vocab()
    known = proxy.embedding[[ours[token] for token in shared]].double()
    wanted = target.embedding[[theirs[token] for token in shared]].double()
    centre, aim = known.mean(dim=0), wanted.mean(dim=0)
    gram = (known - centre).T @ (known - centre)
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + penalty, (known - centre).T @ (wanted - aim))  # [H, H′]
    return SoftPrompt(((prompt.vectors.double() - centre) @ weights + aim).float(), target.ref)


def shared_tokens(proxy: LanguageModel, target: LanguageModel) -> list[str]:
    """The V tokens that both models know, sorted.

    Raises:
        UsageError: fewer than H.
    """
    shared = sorted(proxy.tokenizer.get_vocab().keys() & target.tokenizer.get_vocab().keys())
    if len(shared) < proxy.width:
        raise UsageError(
            f"{proxy.ref.name!r} and {target.ref.name!r} share {len(shared)} tokens, too few to project "
            f'{proxy.width} numbers by; start from "text"'
        )
    return shared
