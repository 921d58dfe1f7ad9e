"""The directories of models. This module does not import PyTorch, so that a wrong name is reported at once."""

from pathlib import Path

from transfer.errors import ModelError


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
