"""A cache of measurements of models in the user's cache directory, so that a start need not repeat them.

An entry of `transfer.files.user_cache` depends on the measurement, the model, and the versions of the libraries and
of this package's code. You may delete it at any time: the next start measures again.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel

import transfer
from transfer.files.user_cache import keep, place_of

Value = TypeVar("Value")
LIBRARIES = ("torch", "transformers", "peft")


def remembered(about: object, find: Callable[[], Any], read: Callable[[Any], Value]) -> Value:
    """Return the cached result of `find` for `about`, or call `find` and cache its result.

    An exception of `find` is not cached. A cache that cannot be read or written is ignored.

    Args:
        about: everything the result depends on besides code; compared by its `repr`.
        find: measures, and returns something JSON can represent.
        read: converts that result, and raises if it is anything else.
    """
    path = place_of((about, _code()))
    with suppress(Exception):  # the file may be absent, damaged or anybody's
        return read(json.loads(path.read_text(encoding="utf-8")))
    result = find()
    keep(path, json.dumps(result).encode())
    return read(result)


def passed(verdict: object) -> None:
    """Read a verdict: only `True` is one.

    Raises:
        ValueError: it is anything else.
    """
    if verdict is not True:
        raise ValueError(f"{verdict!r} is no verdict")


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return a model's configuration without its place: a copy, such as a stored proxy, is the same model."""
    settings: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return {key: value for key, value in settings.items() if key != "_name_or_path"}


def weights_of(model: PreTrainedModel, files: str) -> str:
    """Return a digest that distinguishes models of one layout, of the sum, first and last number of every tensor.

    Where weights are not in memory it is that of the model's `files` and of the layout.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        values: tuple[object, ...] = (files,)
        if not tensor.is_meta:
            values = (flat.sum().item(), (flat[0].item(), flat[-1].item()) if len(flat) else ())
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape), *values)).encode())
    return digest.hexdigest()


@cache
def _code() -> tuple[str, ...]:
    """Return the versions of the libraries and the digest of this package's own code."""
    own = hashlib.sha256()
    for path in sorted(Path(transfer.__file__).parent.rglob("*.py")):
        own.update(path.read_bytes())
    return (*map(version, LIBRARIES), own.hexdigest())
