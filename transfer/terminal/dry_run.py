"""`proxy distil --dry-run`: what the proxy will be and what its distillation needs, before any weight is read."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Group

from transfer.distillation.settings import DistilSettings
from transfer.distillation.sizing import forecast
from transfer.errors import ModelError
from transfer.families.loading import tokenizer_of
from transfer.families.model_directory import directory_of
from transfer.files.public_text import PublicText
from transfer.placement.settings import Placement
from transfer.progress import doing
from transfer.terminal import needs
from transfer.terminal.console import line
from transfer.terminal.session import Session

SAMPLE = 1000
"""Texts that are tokenised to estimate the number of tokens of all."""


def tell(
    session: Session,
    target: str,
    layers: int | tuple[int, ...],
    text: Path | None,
    placement: Placement,
    settings: DistilSettings,
) -> None:
    """Print layers, parameters and bytes of a proxy, the memory to distil it, and the size of the text, if given.

    Raises:
        ModelError: the target cannot be sized or has no such layers.
        DataError: the text is not readable.
    """
    read = _sizes_of(target, text) if text else {"texts": None, "tokens_estimated": None}
    with doing(f"sizing {target}"):
        found = forecast(target, layers, placement, settings)
    values = {
        "layers": found.layers,
        "target_layers": found.of,
        "parameters": found.parameters,
        "dtype": found.dtype,
        "weights_bytes": found.weights,
        "download_bytes": found.download,
        **read,
        **needs.values(found.needs),
    }
    session.emit(values, _shown)


def _sizes_of(target: str, text: Path) -> dict[str, int | None]:
    """Return the number of texts, and of their tokens as a sample has them; None if there is no tokeniser."""
    with doing(f"reading {text}"):
        public = PublicText.of(text)
        try:
            tokenizer = tokenizer_of(directory_of(target), target)
        except ModelError:
            return {"texts": len(public), "tokens_estimated": None}
        some = list(islice(public, 0, None, -(-len(public) // SAMPLE)))
        tokens = sum(map(len, tokenizer(some)["input_ids"]))
    return {"texts": len(public), "tokens_estimated": round(tokens / len(some) * len(public))}


def _shown(values: Mapping[str, Any]) -> Group:
    proxy = (
        f"layers {list(values['layers'])} of {values['target_layers']}: {values['parameters']:,} parameters in "
        f"{values['dtype']}, {needs.size(values['download_bytes'])} to each client"
    )
    lines = [line(f"would make a proxy of {proxy}")]
    if values["texts"] is not None:
        tokens = values["tokens_estimated"]
        about = "" if tokens is None else f", about {tokens:,} tokens ({needs.size(4 * tokens)} in the cache)"
        lines.append(line(f"{values['texts']:,} texts{about}"))
    return Group(*lines, needs.table(values))
