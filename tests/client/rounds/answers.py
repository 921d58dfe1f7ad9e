"""What tests of this room share."""

import threading
from pathlib import Path

from client.ledger.ledger import Ledger
from client.rounds.agreements import Agreements
from client.rounds.consent import Consent
from client.vault.vault import UNLOCKED
from transfer.privacy import Budget, Spend

BUDGET = Budget(8.0, 1e-4)
EACH = Spend(2.0, 0.5, 10)


class Owner:
    """Somebody who is asked, and the client directory that remembers."""

    def __init__(self, directory: Path, ledger: Ledger) -> None:
        self.file, self.ledger, self.stop = directory / "consents.json", ledger, threading.Event()
        self.says, self.questions, self.vault = True, list[str](), UNLOCKED
        self.consent = self.started()

    def started(self) -> Consent:
        return Consent.by(self.answer, Agreements(self.file, self.vault), self.ledger, BUDGET, self.stop)

    def answer(self, question: str, _stop: threading.Event) -> bool:
        self.questions.append(question)
        return self.says
