"""Which model: a name, and a digest of the files that decide what it computes; and of which kind."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfer.errors import ModelError

LmHead = Literal["causal", "masked", "none"]
"""What a model's language-model head tells: the next token, a masked one, or nothing, as it has no such head."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """An exact model: the name people use for it, and the SHA-256 over its files that code compares."""

    name: str
    digest: str

    def __post_init__(self) -> None:
        if len(self.digest) != 64 or not set(self.digest) <= set("0123456789abcdef"):
            raise ModelError(f"model {self.name!r}: digest {self.digest!r} is not a SHA-256 in hex")

    @staticmethod
    def of_directory(name: str, directory: Path) -> "ModelRef":
        """Reference to the files that decide what a model computes: configuration, weights, tokeniser."""
        digest = hashlib.sha256()
        for path in sorted(directory.iterdir()):
            if path.suffix in _MODEL_SUFFIXES and path.name not in _NOT_MODEL and path.is_file():
                with path.open("rb") as file:
                    part = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.name} {part}\n".encode())
        return ModelRef(name, digest.hexdigest())


_MODEL_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt"}
_NOT_MODEL = {"SOURCE.txt", "proxy.json", "generation_config.json"}
