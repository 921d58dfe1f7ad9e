"""Pytest plugins of a mutation run: one tells which tests come past which lines, the other chooses by it."""

import json
import sys
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

OPTIONS = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--tb=line", "--assert=plain")


class Traced:
    """Writes to `kept`, by test, its seconds and the lines of `path` it comes past; 0 for any, in other processes."""

    def __init__(self, path: Path, kept: Path) -> None:
        self._path, self._kept = str(path), kept
        self._lines: set[int] = set()
        self._elsewhere = False
        self._found: dict[str, tuple[float, list[int]]] = {}
        sys.addaudithook(self._heard)

    def run(self, files: list[str]) -> int:
        """Exit status of the tests in `files`."""
        status = pytest.main([*OPTIONS, *files], plugins=[self])
        self._kept.write_text(json.dumps(self._found))
        return int(status)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._lines, self._elsewhere, started = set(), False, time.monotonic()
        sys.settrace(self._call)
        threading.settrace(self._call)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            lines = [0] if self._elsewhere else sorted(self._lines)
            self._found[item.nodeid] = time.monotonic() - started, lines

    def _heard(self, event: str, _values: tuple[Any, ...]) -> None:
        self._elsewhere |= event in ("os.fork", "subprocess.Popen", "os.posix_spawn")

    def _call(self, frame: FrameType, _event: str, _value: Any) -> Any:
        return self._line if frame.f_code.co_filename == self._path else None

    def _line(self, frame: FrameType, _event: str, _value: Any) -> Any:
        self._lines.add(frame.f_lineno)
        return self._line


class Chosen:
    """Runs nothing but `tests`, by the seconds each takes, until one fails."""

    def __init__(self, tests: Mapping[str, float]) -> None:
        self._tests = tests

    def run(self, files: list[str]) -> int:
        """Exit status of those in `files`."""
        return int(pytest.main([*OPTIONS, *files], plugins=[self]))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._tests]
        items[:] = sorted(chosen, key=lambda item: self._tests[item.nodeid])
