"""The highest version seen of each prompt, so that no coordinator can pass off an old version as the latest.

The rule is that of TUF for version numbers (https://theupdateframework.github.io/specification/latest/, §5): no
version below the highest one seen, which is recorded only after every check passed.
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
        path: the file; it and its directory are made when the first version is recorded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def default_path() -> Path:
        """Return the default place of the file (XDG base directories)."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "promptferry" / "versions.json"

    def highest(self, key_id: str, prompt: str) -> int | None:
        """Return the highest version seen, or None.

        Raises:
            VerificationError: the file is damaged.
        """
        return self._read().get(key_id, {}).get(prompt)

    def require_not_older(self, key_id: str, prompt: str, version: int) -> None:
        """Refuse a latest version below one seen before.

        Raises:
            VerificationError: the version is below one seen before, or the file is damaged.
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
                "restore the file, or delete it to start again"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the file, so that two commands at once do not lose each other's version."""
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
