"""The identity of a model: its name, a digest of the files that decide what it computes, and the kind of its head."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfer.errors import ModelError

LmHead = Literal["causal", "masked", "none"]
"""What a model's language-model head predicts: the next token, a masked one, or nothing because there is no head."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """An exact model: a name for people, and the SHA-256 of its files for comparison.

    Raises:
        ModelError: the digest is not a SHA-256 in lower-case hex.
    """

    name: str
    digest: str

    def __post_init__(self) -> None:
        if len(self.digest) != 64 or not set(self.digest) <= set("0123456789abcdef"):
            raise ModelError(
                f"model {self.name!r}: digest {self.digest!r} is not a SHA-256 in lower-case hex"
            )

    @staticmethod
    def of_directory(name: str, directory: Path) -> "ModelRef":
        """Hash the files in `directory` that decide what a model computes: configuration, weights, tokeniser."""
        digest = hashlib.sha256()
        for path in sorted(directory.iterdir()):
            if path.suffix in _MODEL_SUFFIXES and path.name not in _NOT_MODEL and path.is_file():
                with path.open("rb") as file:
                    part = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.name} {part}\n".encode())
        return ModelRef(name, digest.hexdigest())


_MODEL_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt"}
_NOT_MODEL = {"SOURCE.txt", "proxy.json", "generation_config.json"}
