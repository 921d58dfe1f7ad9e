"""Acceptance: a prompt is published only if it beats its baselines on held-out public text."""

from collections.abc import Mapping

from transfer.errors import VerificationError


def require_improvement(losses: Mapping[str, float], name: str) -> None:
    """Refuse a prompt whose held-out loss is not below the loss of every baseline.

    Args:
        losses: held-out public losses by name, the prompt's own among them. NaN beats nothing and is never beaten.
        name: the prompt's own name.

    Raises:
        VerificationError: names the baselines that it does not beat.
    """
    ours = losses[name]
    unbeaten = [f"{other} {loss:.4g}" for other, loss in losses.items() if other != name and not ours < loss]
    if unbeaten:
        raise VerificationError(
            f"not published: held-out public loss {ours:.4g} of the {name} prompt is not below "
            f"{', '.join(unbeaten)}; `prompt transfer --anyway` publishes it all the same"
        )
