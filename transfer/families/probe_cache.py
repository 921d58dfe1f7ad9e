"""What was found out about a model once, kept in the user's cache so that it is not found out again at every start.

A file lies in `$XDG_CACHE_HOME/promptferry` (`~/.cache/promptferry`) under the digest of all it depends on: what was
asked, of which model, with which versions of the libraries and of the code that asked. Whoever deletes it loses time.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel

import transfer
from transfer.errors import PromptferryError
from transfer.files import atomic as files

Found = TypeVar("Found")
LIBRARIES = ("torch", "transformers", "peft")


def remembered(about: object, find: Callable[[], Any], read: Callable[[Any], Found]) -> Found:
    """What `find` gave when it was last asked `about` this, or gives now.

    Nothing is kept of a `find` that raises. A cache that cannot be read or written is none.

    Args:
        about: whatever the answer depends on besides code, told by its `repr`.
        find: finds it out: something JSON can hold.
        read: makes of that what is wanted, and raises if it is not what `find` gives.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(repr((about, _code())).encode()).hexdigest()
    path = Path(home) / "promptferry" / f"{digest}.json"
    with suppress(Exception):  # whatever lies there
        return read(json.loads(path.read_text(encoding="utf-8")))
    found = find()
    with suppress(OSError, PromptferryError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, json.dumps(found).encode())
    return read(found)


def passed(found: object) -> None:
    """Read a verdict: only `True` is one.

    Raises:
        ValueError: it is anything else.
    """
    if found is not True:
        raise ValueError(f"{found!r} is no verdict")


def weights_of(model: PreTrainedModel) -> str:
    """A digest that tells models of one layout apart: of the sum, first and last number of every tensor."""
    told = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        ends = (flat[0].item(), flat[-1].item()) if len(flat) else ()
        told.update(repr((name, str(tensor.dtype), tuple(tensor.shape), flat.sum().item(), ends)).encode())
    return told.hexdigest()


@cache
def _code() -> tuple[str, ...]:
    """Versions of the libraries, and the digest of this package's own code."""
    own = hashlib.sha256()
    for path in sorted(Path(transfer.__file__).parent.rglob("*.py")):
        own.update(path.read_bytes())
    return (*map(version, LIBRARIES), own.hexdigest())
