"""Acceptance: a prompt is published only if it beats its baselines on held-out public text."""

from collections.abc import Mapping

from transfer.errors import VerificationError
from transfer.protocol.prompt_lineage import TRANSFERRED, unbeaten


def require_improvement(losses: Mapping[str, float]) -> None:
    """Refuse a prompt whose held-out loss is not below the loss of every baseline, see `unbeaten`.

    Raises:
        VerificationError: names the baselines that it does not beat.
    """
    if names := unbeaten(losses):
        others = ", ".join(f"{name} {losses[name]:.4g}" for name in names)
        raise VerificationError(
            f"not published: held-out public loss {losses[TRANSFERRED]:.4g} of the {TRANSFERRED} prompt is not below "
            f"{others}; `prompt transfer --anyway` publishes it all the same"
        )
