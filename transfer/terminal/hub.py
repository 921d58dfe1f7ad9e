"""Download of models from the Hugging Face hub; no other code here does that."""

from pathlib import Path
from typing import Annotated

import typer

from transfer.errors import ModelError
from transfer.progress import say

Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="First download a hub name into the local Hugging Face cache. Nothing else downloads models.",
    ),
]
FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*token*.json", "vocab.*", "merges.txt")
"""Weights, configuration and tokeniser: neither code nor pickles."""
NOT_THESE = ("*/*", "consolidated*")
"""Other formats of the same weights."""


def download(name: str) -> None:
    """Fetch the model of a hub name into the local cache; do nothing if `name` is a directory here.

    Raises:
        ModelError: there is no such model, you may not read it, it has no safetensors, or the hub cannot be reached.
    """
    if Path(name).expanduser().exists():
        return
    from huggingface_hub import constants, snapshot_download

    say(f"downloading {name} from {constants.ENDPOINT} …")
    try:
        place = snapshot_download(name, allow_patterns=list(FILES), ignore_patterns=list(NOT_THESE))
    except Exception as error:
        raise ModelError(f"{name}: cannot be downloaded: {_reason(error)}") from error
    if not any(Path(place).glob("*.safetensors")):
        raise ModelError(
            f"{name}: cannot be used: the hub holds no weights of it as safetensors; take another model"
        )


def _reason(error: Exception) -> str:
    """Return the reason in one line, without the hub's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
