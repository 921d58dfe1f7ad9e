"""Models of the Hugging Face hub: nothing else of ours ever asks the network for one."""

from pathlib import Path
from typing import Annotated

import typer

from transfer.errors import ModelError
from transfer.progress import say

Download = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Fetch a hub name into the local Hugging Face cache first. Nothing else asks the network for models.",
    ),
]
FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*token*.json", "vocab.*", "merges.txt")
"""Weights, configuration and tokeniser: neither code nor pickles."""
NOT_THESE = ("*/*", "consolidated*")
"""Other formats of the same weights."""


def download(name: str) -> None:
    """Fetch the model of a hub name into the local cache; what is a directory here is left as it is.

    Raises:
        ModelError: there is no such model, it may not be read, it holds no safetensors, or the hub cannot be
            reached.
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
        raise ModelError(f"{name}: cannot be used: the hub holds no weights of it as safetensors")


def _reason(error: Exception) -> str:
    """What went wrong, on one line, without the hub's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
