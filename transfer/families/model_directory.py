"""The directories of models. This module does not import PyTorch, so that a wrong name is reported at once."""

import json
from pathlib import Path
from typing import Any

from transfer.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = ".safetensors.index.json"
VERSIONS = {"config.json": "configuration_files", "tokenizer_config.json": "fast_tokenizer_files"}
"""Where a model may list files that newer versions of transformers read instead."""


def directories_in(place: Path) -> list[Path]:
    """Return the visible directories in `place` that contain a model, by name; none if there is no `place`."""
    if not place.is_dir():
        return []
    visible = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if (path / "config.json").is_file())


def directory_of(source: str | Path) -> Path:
    """Return the directory of a model: `source` itself, or its place in the local cache if it is a hub name.

    Raises:
        ModelError: there is no such directory, or no model in it.
    """
    path = Path(source)
    if path.suffix == ".gguf" or (
        path.is_dir() and not (path / "config.json").is_file() and [*path.glob("*.gguf")]
    ):
        raise ModelError(
            f"{source}: GGUF has no gradients, so no prompt can be tuned on it; name the directory with "
            "model.safetensors that it was converted from (the prompt serves both)"
        )
    if path.exists():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{source}: not a model directory: config.json is missing; name another directory"
            )
        return path
    if len(path.parts) > 2 or str(source).startswith(("/", ".")):  # a hub name is OWNER/NAME or NAME
        raise ModelError(f"{source}: no such directory; name a model directory or a hub name")
    from huggingface_hub import try_to_load_from_cache  # a slow import, which directories do not need

    try:
        file = try_to_load_from_cache(str(source), "config.json")
    except ValueError:  # not a valid hub name
        file = None
    if not isinstance(file, str):
        raise ModelError(
            f"{source}: cannot load a language model: no such directory, and no such name in the local cache; name a "
            "directory, or fetch it once with --download"
        )
    return Path(file).parent


def require_covered(directory: Path, named: object = None) -> None:
    """Refuse a model some of whose weights its digest would not see, see `transfer.model_ref.ModelRef.of_directory`.

    `named` is the file of weights that the configuration names, if it does. Only the file that transformers would
    read counts: others may tell of files that were never fetched.

    Raises:
        ModelError: weights are elsewhere than in .safetensors files of the directory itself, or no such file exists.
    """
    config = directory / "config.json"
    if named is not None and not str(named).endswith(INDEX):
        _require_beside(config, "transformers_weights", named)
        return
    if named is None and (directory / WEIGHTS).is_file():
        return
    index = directory / (f"model{INDEX}" if named is None else str(named))
    if index.parent != directory:
        raise _elsewhere(config, "transformers_weights", named)
    if not index.is_file():  # transformers will miss the weights
        return
    try:
        shards: list[Any] = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{index}: no index of weights; save the model again with save_pretrained"
        ) from error
    for shard in shards:
        _require_beside(index, "weight_map", shard)


def require_versions_beside(directory: Path) -> None:
    """Refuse a model that lists files of newer versions in another directory, which its digest would not see.

    Raises:
        ModelError: names the file with the list, and the file listed.
    """
    for name, key in VERSIONS.items():
        file = directory / name
        try:
            listed = json.loads(file.read_text(encoding="utf-8")).get(key)
        except (OSError, ValueError, RecursionError, AttributeError):
            continue  # transformers tells, if it needs the file
        for entry in map(str, listed if isinstance(listed, list | dict) else ()):
            if Path(entry).name != entry:
                raise ModelError(
                    f"{file}: {key} names {entry!r}, which is not beside it; move that file here, and name it so"
                )


def _require_beside(file: Path, key: str, weights: object) -> None:
    """Refuse other `weights` than a .safetensors file beside `file`, a link included: its digest is the content's."""
    name = str(weights)
    if Path(name).name != name or Path(name).suffix != ".safetensors" or not (file.parent / name).is_file():
        raise _elsewhere(file, key, weights)


def _elsewhere(file: Path, key: str, weights: object) -> ModelError:
    return ModelError(
        f"{file}: {key} names {weights!r}, which is no .safetensors file beside it; save the model again with "
        "save_pretrained"
    )
