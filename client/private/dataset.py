"""The file with the private records, and the data set of the ledger that its records belong to."""

import logging
from pathlib import Path

from client.ledger.ledger import Ledger
from client.private.lengths import Lengths
from client.private.records import PrivateRecords, read
from transfer import hints
from transfer.models.language_model import LanguageModel
from transfer.privacy import Unit
from transfer.tasks import Task

logger = logging.getLogger(__name__)


class DataFile:
    """The private records of one file, and the data set of the ledger that they belong to."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._current: tuple[object, PrivateRecords, str] | None = None

    def open(self, task: Task, model: LanguageModel, unit: Unit) -> tuple[PrivateRecords, str]:
        """Return the records and their data set id; read again only if file, task, model or unit changed.

        Every text is encoded once, so a text that the tokeniser refuses fails here, before any budget is spent.

        Raises:
            DataError: the file or a record cannot be read.
            BudgetRefusedError: the records belong to data sets of different units.
        """
        key = (task, model.ref.digest, unit, _stamp(self._path))
        if self._current is None or self._current[0] != key:
            records = read(self._path, task.label_names, unit, many=task.many)
            lengths = Lengths.of(model.encoder(task), records.texts, records.answers)
            _warn_of_cuts(self._path, lengths, len(records.texts))
            users = (self._ledger.fingerprint(user, "user") for user in records.users)
            data_set = self._ledger.data_set([*map(self._ledger.fingerprint, records.texts), *users])
            self._current = (key, records, data_set)
        return self._current[1], self._current[2]


def _warn_of_cuts(path: Path, lengths: Lengths, records: int) -> None:
    """Log once per reading what the task cuts. The log stays on this machine."""
    if lengths.cut_records or lengths.cut_answers:
        logger.warning(
            "%s: %d of %d texts and %d answers are longer than the task allows and are cut; for details run %s",
            *(path, lengths.cut_records, records, lengths.cut_answers, hints.client("data check")),
        )


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()  # `read` fails next and reports the cause
    return status.st_mtime_ns, status.st_size, status.st_ino
