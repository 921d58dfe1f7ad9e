"""A disk that forgets, when the power goes, whatever was written and not synced: between SQLite and its files.

SQLite reaches its files through a table of functions (a "VFS", https://sqlite.org/vfs.html). Here is a copy of
the default one whose files tell of every write, truncation and sync; Python's own files tell of `os.fsync`.
"""

import _sqlite3
import ctypes
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Address = ctypes.c_void_p
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, Address, Address, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, Address, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, Address, ctypes.c_int)
# SQLite keeps the address of a file's name: a copy of the name would be gone too early
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, Address, Address, Address, ctypes.c_int, Address)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`: what can be done to an open file."""

    _fields_ = [("version", ctypes.c_int), ("close", Address), ("read", Address), ("write", Address),
                ("truncate", Address), ("sync", Address), ("others", Address * 13)]  # fmt: skip


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`: how files are opened."""

    _fields_ = [("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest_path", ctypes.c_int),
                ("next", Address), ("name", ctypes.c_char_p), ("data", Address), ("open", Address),
                ("others", Address * 15)]  # fmt: skip


class VolatileDisk:
    """The files of a directory as they would be found after a power cut now.

    Args:
        on_change: called after every write, truncation and sync.
    """

    def __init__(self, directory: Path, on_change: Callable[[], object]) -> None:
        self._synced = {path.name: path.read_bytes() for path in directory.iterdir()}
        self._pending: dict[str, list[tuple[int, bytes | None]]] = {}
        self._directory, self._on_change = directory, on_change
        self._names: dict[int, str] = {}
        self._kept_alive: list[Any] = []

    def after_a_power_cut(self, dice: random.Random) -> dict[str, bytes]:
        """What was synced, and any of what was not."""
        found = dict(self._synced)
        for name, changes in self._pending.items():
            found[name] = _changed(found.get(name, b""), [each for each in changes if dice.random() < 0.5])
        return found

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """SQLite and `os.fsync` work on this disk within the block."""
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        usual = library.sqlite3_vfs_find(None)
        ours = _Vfs.from_buffer_copy(usual.contents)
        ours.name, ours.next = b"volatile", None
        ours.open = self._function(_OPEN, self._opening(_OPEN(usual.contents.open)))
        plain, os.fsync = os.fsync, self._fsync(os.fsync)
        library.sqlite3_vfs_register(ctypes.byref(ours), 1)
        try:
            yield
        finally:
            library.sqlite3_vfs_unregister(ctypes.byref(ours))
            library.sqlite3_vfs_register(usual, 1)
            os.fsync = plain

    def _function(self, kind: Any, function: Callable[..., int]) -> int:
        made = kind(function)
        self._kept_alive.append(made)
        return ctypes.cast(made, Address).value or 0

    def _opening(self, plain: Callable[..., int]) -> Callable[..., int]:
        def opened(vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
            status = plain(vfs, name, file, flags, out)
            if status == 0 and name is not None:
                self._names[file] = Path(os.fsdecode(ctypes.string_at(name))).name
                self._watch(Address.from_address(file))
            return status

        return opened

    def _watch(self, file: Address) -> None:
        """Puts our functions into the table that an open file begins with."""
        methods = _Methods.from_buffer_copy(_Methods.from_address(file.value or 0))
        write, truncate, sync = _WRITE(methods.write), _TRUNCATE(methods.truncate), _SYNC(methods.sync)

        def wrote(file: int, content: int, length: int, offset: int) -> int:
            self._change(self._names[file], offset, ctypes.string_at(content, length))
            return write(file, content, length, offset)

        def truncated(file: int, size: int) -> int:
            self._change(self._names[file], size, None)
            return truncate(file, size)

        def synced(file: int, flags: int) -> int:
            name = self._names[file]
            self._synced[name] = _changed(self._synced.get(name, b""), self._pending.pop(name, []))
            self._on_change()
            return sync(file, flags)

        methods.write, methods.truncate = self._function(_WRITE, wrote), self._function(_TRUNCATE, truncated)
        methods.sync = self._function(_SYNC, synced)
        self._kept_alive.append(methods)
        file.value = ctypes.addressof(methods)

    def _change(self, name: str, offset: int, content: bytes | None) -> None:
        self._pending.setdefault(name, []).append((offset, content))
        self._on_change()

    def _fsync(self, plain: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            plain(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.parent == self._directory:
                self._synced[path.name] = path.read_bytes()
                self._on_change()

        return fsync


def _changed(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    """Content after changes: bytes at an offset, or, without bytes, an end."""
    after = bytearray(content)
    for offset, written in changes:
        if written is None:
            del after[offset:]
        else:
            after.extend(bytes(max(0, offset - len(after))))
            after[offset : offset + len(written)] = written
    return bytes(after)
