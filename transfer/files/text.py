"""Text files from any program: UTF-8 with or without a byte order mark, and any of three line ends.

A file that is not UTF-8 is refused with advice on how to save it.

Guarantee: no message quotes the text of a file, and no exception carries it, so private text may be read with this
module. Only `toml` is different: its messages may quote a settings file.
"""

import codecs
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

MALFORMED = object()
"""In place of the value of a line that is not JSON."""

_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_LINE_END = re.compile("\r\n|\r|\n")
_LINE_END_BYTES = re.compile(b"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_IS_UTF_16 = 'UTF-16: save the file as UTF-8 (in Excel as "CSV UTF-8")'
_HAS_NUL = "a NUL byte, so no text or UTF-16: save the file as UTF-8"
_NOT_UTF_8 = "not UTF-8: save the file as UTF-8"


class NotTextError(ValueError):
    """Bytes that are not text: `line` is a number, or 0 for the whole file; `rule` is the fault and its repair."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line, self.rule = line, rule

    def of(self, path: object) -> str:
        """Return the message for the file `path`."""
        return f"{path}:{self.line}: {self.rule}" if self.line else f"{path}: {self.rule}"


@dataclass(frozen=True, slots=True)
class Number:
    """A number in JSON as the file spells it: of any size, and 1.0 differs from 1."""

    spelt: str


def decoded(content: bytes) -> str:
    """Decode `content`; keep its line ends and drop a byte order mark.

    Raises:
        NotTextError: `content` is UTF-16, not UTF-8, or contains a NUL byte.
    """
    if is_utf_16(content):
        raise NotTextError(0, _IS_UTF_16)
    content = content.removeprefix(codecs.BOM_UTF8).removesuffix(b"\x1a")  # DOS ends files with this byte
    if b"\0" in content:
        line = _line(content, content.index(b"\0"))
        raise NotTextError(line, _HAS_NUL)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = _line(content, error.start)
    # outside the handler, because UnicodeDecodeError carries the content and would be this error's context
    raise NotTextError(line, _NOT_UTF_8)


def is_utf_16(content: bytes) -> bool:
    """Return whether `content` starts like Windows' "Unicode" text, which random bytes hardly ever do."""
    return content.startswith(_UTF_16) and (len(content) == len(codecs.BOM_UTF16_LE) or b"\0" in content)


def lines(text: str) -> list[str]:
    """Split `text` at CR LF, LF or CR only; `str.splitlines` also splits at U+2028 and others."""
    return _LINE_END.split(text)


def lines_in(path: Path) -> Iterator[str]:
    """Yield `lines(decoded(content))` of a file, which is never whole in memory.

    Raises:
        NotTextError: the file is UTF-16; or a line is not UTF-8 or contains a NUL byte.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if is_utf_16(file.peek()):
            raise NotTextError(0, _IS_UTF_16)
        # ends lines as `lines` does; bytes that are not UTF-8 become surrogates, which UTF-8 cannot spell
        with TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=None) as text:
            for number, line in enumerate(text, start=1):
                if "\0" in line:
                    raise NotTextError(number, _HAS_NUL)
                if not is_unicode(line):
                    raise NotTextError(number, _NOT_UTF_8)
                yield line[:-1] if line.endswith("\n") else line.removesuffix("\x1a")


def json_lines(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line that is not blank; the value is `MALFORMED` if the line is not JSON.

    Each JSON number becomes a `Number`. Byte order marks inside a file, which come from joining files, are dropped.
    """
    for number, line in enumerate(lines, start=1):
        if line := line.strip().removeprefix("\ufeff").strip():
            yield number, _parsed(line)


def is_unicode(text: str) -> bool:
    """Return whether `text` has no surrogates, which JSON can spell but no encoding can write."""
    return _SURROGATE.search(text) is None


def toml(content: bytes) -> dict[str, Any]:
    """Parse the content of a TOML file.

    Raises:
        NotTextError: `content` is not text, or not TOML.
    """
    text = "\n".join(lines(decoded(content)))
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise NotTextError(0, "not TOML: nested too deeply") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise NotTextError(0, f"not TOML: {error}") from error


def _parsed(line: str) -> Any:
    try:
        return json.loads(line, parse_int=Number, parse_float=Number)
    except (ValueError, RecursionError):
        return MALFORMED


def _line(content: bytes, position: int) -> int:
    return len(_LINE_END_BYTES.findall(content, 0, position)) + 1
