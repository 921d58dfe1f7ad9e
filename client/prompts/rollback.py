"""The highest version seen of each prompt: no coordinator can hand out an old one as the latest.

The rule is TUF's for version numbers (https://theupdateframework.github.io/specification/latest/, §5): never
below what was seen, and what was seen is written only after everything was checked.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfer.errors import UsageError, VerificationError
from transfer.files.atomic import replace


class SeenVersions:
    """Highest version by publisher key and prompt, in one small file.

    Args:
        path: the file; made with its directory when something is first remembered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def default_path() -> Path:
        """Where the file lies unless told otherwise (XDG base directories)."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "promptferry" / "versions.json"

    def highest(self, key_id: str, prompt: str) -> int | None:
        """Highest version seen; None if none was.

        Raises:
            VerificationError: the file is damaged.
        """
        return self._read().get(key_id, {}).get(prompt)

    def require_not_older(self, key_id: str, prompt: str, version: int) -> None:
        """Refuse a latest version below one seen before.

        Raises:
            VerificationError: it is, or the file is damaged.
        """
        seen = self.highest(key_id, prompt)
        if seen is not None and version < seen:
            raise VerificationError(
                f"prompt {prompt!r}: version {version} is offered as the latest, but {seen} was seen before; "
                f"if the publisher says that {seen} was withdrawn, ask for --version {version}"
            )

    def remember(self, key_id: str, prompt: str, version: int) -> None:
        """Raise the highest version seen to `version`.

        Raises:
            UsageError: the file cannot be written.
            VerificationError: the file is damaged.
        """
        with self._locked():
            seen = self._read()
            known = seen.setdefault(key_id, {}).get(prompt, 0)
            if version > known:
                seen[key_id][prompt] = version
                replace(self._path, (json.dumps(seen, indent=1, sort_keys=True) + "\n").encode())

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            content = json.loads(self._path.read_bytes())
            return {
                str(key): {str(prompt): int(version) for prompt, version in prompts.items()}
                for key, prompts in content.items()
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsageError(f"{self._path}: cannot read the versions seen: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise VerificationError(
                f"{self._path}: damaged, so an old prompt could pass for the latest; "
                "restore the file, or remove it to start anew"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once must not forget each other's version."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
