"""The file with the private records, and the data set its records are to the ledger."""

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
    """The private records of one file, and the data set the ledger knows them as."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._ledger = ledger
        self._held: tuple[object, PrivateRecords, str] | None = None

    def open(self, task: Task, model: LanguageModel, unit: Unit) -> tuple[PrivateRecords, str]:
        """Records and data set id, every text known to encode; read again if file, task, model or unit changed."""
        key = (task, model.ref.digest, unit, _stamp(self._path))
        if self._held is None or self._held[0] != key:
            records = read(self._path, task.label_names, unit)
            lengths = Lengths.of(model.encoder(task), records.texts, records.answers)
            _tell(self._path, lengths, len(records.texts))
            users = (self._ledger.fingerprint(user, "user") for user in records.users)
            data_set = self._ledger.data_set([*map(self._ledger.fingerprint, records.texts), *users])
            self._held = (key, records, data_set)
        return self._held[1], self._held[2]


def _tell(path: Path, lengths: Lengths, records: int) -> None:
    """Once for each reading, in this machine's log alone."""
    if lengths.cut_records or lengths.cut_answers:
        logger.warning(
            "%s: %d of %d texts and %d answers are longer than the task takes and are cut; %s tells more",
            *(path, lengths.cut_records, records, lengths.cut_answers, hints.client("data check")),
        )


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()  # reading it will say what is wrong
    return status.st_mtime_ns, status.st_size, status.st_ino
