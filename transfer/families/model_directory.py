"""Where a model lies. Nothing here needs PyTorch, so that a wrong name is told before it is imported."""

from pathlib import Path

from transfer.errors import ModelError


def directory_of(source: str | Path) -> Path:
    """The directory of a model: `source` itself, or where the local cache of hub names has it.

    Raises:
        ModelError: there is none, or no model in it.
    """
    path = Path(source)
    if path.exists():
        if not (path / "config.json").is_file():
            raise ModelError(f"{source}: not a model directory: config.json is missing")
        return path
    if len(path.parts) > 2 or str(source).startswith(("/", ".")):  # no hub name is so
        raise ModelError(f"{source}: no such directory")
    from huggingface_hub import try_to_load_from_cache  # takes a while, which a directory is spared

    try:
        held = try_to_load_from_cache(str(source), "config.json")
    except ValueError:  # no hub name at all
        held = None
    if not isinstance(held, str):
        raise ModelError(
            f"{source}: cannot load a language model: no such directory, and no such name in the local cache; name a "
            "directory, or fetch it once with --download"
        )
    return Path(held).parent
