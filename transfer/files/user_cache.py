"""What was found once, in the user's cache directory, so that it need not be found again.

A file or directory in `$XDG_CACHE_HOME/promptferry` (`~/.cache/promptferry`) is named by the digest of everything it
depends on. You may delete it at any time.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from transfer.errors import PromptferryError
from transfer.files.atomic import replace


def place_of(about: object) -> Path:
    """Return the file or directory for what depends on `about`, which is compared by its `repr`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "promptferry" / hashlib.sha256(repr(about).encode()).hexdigest()


def keep(place: Path, content: bytes) -> None:
    """Replace the content of a file at a place from `place_of`; do nothing if it cannot be written."""
    with suppress(OSError, PromptferryError):
        place.parent.mkdir(parents=True, exist_ok=True)
        replace(place, content)
