"""The identity of a model: its name, a digest of the files that decide what it computes, and the kind of its head."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transfer.errors import ModelError
from transfer.files.digests import sha256_of

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
    def of_directory(name: str, directory: Path, *, fresh: bool = False) -> "ModelRef":
        """Hash the files in `directory` that decide what a model computes: configuration, weights, tokeniser.

        Directories in it are not looked into. A model with weights elsewhere is refused when it is loaded.
        With `fresh`, large files are read even if their digests were kept, see `transfer.files.digests`.
        """
        digest = hashlib.sha256()
        for path in sorted(directory.iterdir()):
            if path.suffix in _MODEL_SUFFIXES and path.name not in _NOT_MODEL and path.is_file():
                digest.update(f"{path.name} {sha256_of(path, fresh=fresh)}\n".encode())
        return ModelRef(name, digest.hexdigest())


_MODEL_SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt"}
_NOT_MODEL = {"SOURCE.txt", "proxy.json", "generation_config.json"}
