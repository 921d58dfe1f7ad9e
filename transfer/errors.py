"""Every error promptferry raises on purpose, and the exit status each ends a command with.

    PromptferryError                    1  failed
    ├── UsageError                      2  the caller can fix it by changing what was passed
    │   ├── ConfigError                    a settings file: file and key
    │   ├── DataError                      a text file: file, line and field
    │   ├── TaskError                      labels, label words, template
    │   └── ModelError                     a model directory or hub name
    ├── DeadlineError                   3  time ran out
    ├── PolicyRefusedError              4  the data owner's policy says no
    ├── BudgetRefusedError              5  the privacy budget does not cover it
    ├── VerificationError               6  a signature, digest or statement does not hold
    ├── LedgerError                     1  the ledger cannot be trusted or written
    ├── NotFoundError                   1  no such resource
    ├── AlreadyExistsError              1  the name is taken
    ├── AuthenticationError             1  unknown, revoked or unproven identity
    ├── BusyError                       1  as much is going on already as can be borne
    └── UnavailableError                1  nobody answers, or a port is taken

A command catches them in one place:

    try:
        fetch(...)
    except PromptferryError as error:
        print(error.symbol, error)
        raise SystemExit(error.exit_status)
"""

import re
from typing import ClassVar


class PromptferryError(Exception):
    """Root of the tree. The message is one line that names the value at fault and the way out."""

    exit_status: ClassVar[int] = 1

    @property
    def symbol(self) -> str:
        """Name for machines: `BudgetRefusedError` is `budget_refused`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__.removesuffix("Error")).lower()


class UsageError(PromptferryError):
    """Something passed in is wrong; nothing was changed."""

    exit_status = 2


class ConfigError(UsageError):
    """A settings file has a missing, unknown or impossible value."""


class DataError(UsageError):
    """A text file cannot be read as records; names file, line and field."""


class TaskError(UsageError):
    """Labels, label words or template do not fit the task or the tokeniser."""


class ModelError(UsageError):
    """No language model can be loaded from where we were told to look, or it does not fit."""


class DeadlineError(PromptferryError):
    """Time ran out before enough answers came."""

    exit_status = 3


class PolicyRefusedError(PromptferryError):
    """The data owner's policy does not allow what was asked."""

    exit_status = 4


class BudgetRefusedError(PromptferryError):
    """The privacy budget of the data set does not cover the spend."""

    exit_status = 5


class VerificationError(PromptferryError):
    """A signature, a digest or a signed statement does not hold; nothing was parsed or written."""

    exit_status = 6


class LedgerError(PromptferryError):
    """The privacy ledger is damaged, was tampered with, or cannot be written durably."""


class NotFoundError(PromptferryError):
    """No such resource."""


class AlreadyExistsError(PromptferryError):
    """The name is taken."""


class AuthenticationError(PromptferryError):
    """The other side does not know us, revoked us, or could not prove who it is."""


class UnavailableError(PromptferryError):
    """Nobody answers at an address, or the address is taken."""


class BusyError(PromptferryError):
    """As much is going on already as can be borne; later there may be room."""
