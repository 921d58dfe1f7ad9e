"""Public text, for distilling proxies and transferring prompts. Its labels are never read.

It is a .jsonl file (field `text`), a .txt file (a text a line), a .parquet file (column `text`), or a directory. Of a
directory all such files are read, by name, and those of its directories where their name stands. Passed over is what
is hidden, and what tells about the text, as README.md, SOURCE.txt and LICENSE do. Everything else in it is refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.errors import DataError
from transfer.files import parquet
from transfer.files.digests import sha256_of
from transfer.files.text import MALFORMED, NotTextError, is_unicode, json_lines, lines_in

ABOUT = {"README", "SOURCE", "LICENSE", "LICENCE", "COPYING", "NOTICE", "CITATION", "CHANGELOG"}
"""Names, in any case, of files that tell about the text of their directory, if they end as `PROSE` does."""
PROSE = {"", ".md", ".rst", ".txt"}
CHANGED = "the public text changed while it was read; run the command again"


@dataclass(frozen=True, slots=True, eq=False)
class PublicText:
    """Public text that was read once and is read anew, text by text, whenever you iterate over it.

    Attributes:
        source: a file or directory, or the texts themselves.
        count: number of texts.
        digest: SHA-256 of all texts, each but the first behind a NUL byte.
    """

    source: Path | Sequence[str]
    count: int
    digest: str

    @staticmethod
    def of(source: "Path | Sequence[str] | PublicText") -> "PublicText":
        """Read a file or directory once, from end to end.

        Raises:
            DataError: see `read_texts`.
        """
        if isinstance(source, PublicText):
            return source
        tally = _Tally()
        for text in _texts(source):
            tally.add(text)
        return PublicText(source, tally.count, tally.digest)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        tally = _Tally()
        for text in _texts(self.source):
            tally.add(text)
            yield text
        if (tally.count, tally.digest) != (self.count, self.digest):
            raise DataError(f"{self.source}: {CHANGED}" if isinstance(self.source, Path) else CHANGED)


class _Tally:
    """The number of texts so far, and their digest."""

    def __init__(self) -> None:
        self.count, self._hash = 0, hashlib.sha256()

    def add(self, text: str) -> None:
        self._hash.update(f"\0{text}".encode() if self.count else text.encode())
        self.count += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def read_texts(path: Path) -> list[str]:
    """Return all texts of a file or directory, stripped and without empty ones.

    Raises:
        DataError: a file is missing, of another kind, not UTF-8 or malformed; or there is no text.
    """
    return list(_texts(path))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a directory's list of them: `DIGEST  NAME` and a newline for each file.

    Raises:
        DataError: there is no such file or directory, or it holds a file of another kind.
    """
    if not path.is_dir():
        return _sha256(path)
    listed = (f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path))
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path, fresh=True)
    except OSError as error:
        raise _unreadable(path, error) from error


def _texts(source: Path | Sequence[str]) -> Iterator[str]:
    if not isinstance(source, Path):
        yield from source
        return
    empty = True
    for file in _files(source) if source.is_dir() else [source]:
        for text in _in_file(file):
            if stripped := text.strip():
                yield stripped
                empty = False
    if empty:
        raise DataError(f"{source}: holds no text; at least one line must have some")


def _in_file(path: Path) -> Iterator[str]:
    try:
        yield from _reader(path)(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except NotTextError as error:
        raise DataError(error.of(path)) from error


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files of a directory in the order of their names; those of a directory stand where its name does."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise _unreadable(directory, error) from error
    for entry in entries:
        if entry.name.startswith(".") or (entry.stem.upper() in ABOUT and entry.suffix.lower() in PROSE):
            continue
        if entry.is_dir() and not entry.is_symlink():  # a link could lead in a circle
            yield from _files(entry)
        else:
            _reader(entry)
            yield entry


def _reader(path: Path) -> Callable[[Path], Iterator[str]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: public text must be .jsonl, .txt or .parquet; convert the file, or move it away"
        )
    return reader


def _jsonl(path: Path) -> Iterator[str]:
    for number, record in json_lines(lines_in(path)):
        if record is MALFORMED:
            raise DataError(f'{path}:{number}: not a JSON object; write one per line: {{"text": …}}')
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DataError(f"{path}:{number}: field 'text' is missing or not a string")
        if not is_unicode(text):
            raise DataError(f"{path}:{number}: field 'text': half of a surrogate pair: not valid Unicode")
        if "\0" in text:  # texts are hashed with NUL bytes between them
            raise DataError(f"{path}:{number}: field 'text' has a NUL character; take it out")
        yield text


def _parquet(path: Path) -> Iterator[str]:
    for number, text in parquet.rows(path):
        if text is None:
            raise DataError(f"{path}: row {number}: 'text' is missing, not UTF-8, or has a NUL byte")
        yield text


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot read: {error.strerror}")


_READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    ".jsonl": _jsonl,
    ".txt": lines_in,
    ".parquet": _parquet,
}
