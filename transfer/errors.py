"""Every error promptferry raises on purpose, and the exit status each ends a command with.

    PromptferryError                    1  failed
    ├── UsageError                      2  the caller can fix it by passing something else
    │   ├── ConfigError                    a settings file: file and key
    │   ├── DataError                      a text file: file, line and field
    │   ├── TaskError                      labels, label words, template
    │   └── ModelError                     a model directory or hub name
    ├── DeadlineError                   3  time ran out
    ├── PolicyRefusedError              4  the data owner's policy does not allow it
    ├── BudgetRefusedError              5  the privacy budget does not cover it
    ├── VerificationError               6  a signature, digest or statement does not hold
    ├── LedgerError                     1  the ledger cannot be trusted or written
    ├── NotFoundError                   1  no such resource
    ├── AlreadyExistsError              1  the name is taken
    ├── AuthenticationError             1  unknown, revoked or unproven identity
    ├── BusyError                       1  too much other work is in progress
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
    """Root of the tree. The message is one line that names the value, the rule and the next step."""

    exit_status: ClassVar[int] = 1

    @property
    def symbol(self) -> str:
        """Machine-readable name: `BudgetRefusedError` is `budget_refused`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__.removesuffix("Error")).lower()


class UsageError(PromptferryError):
    """An argument or a setting is wrong; nothing was changed."""

    exit_status = 2


class ConfigError(UsageError):
    """A settings file lacks a value, or has an unknown or impossible one."""


class DataError(UsageError):
    """A text file cannot be read as records; the message names file, line and field."""


class TaskError(UsageError):
    """Labels, label words or template do not fit the task or the tokeniser."""


class ModelError(UsageError):
    """The given directory or hub name has no language model, or one that does not fit."""


class DeadlineError(PromptferryError):
    """Time ran out before enough answers arrived."""

    exit_status = 3


class PolicyRefusedError(PromptferryError):
    """The data owner's policy does not allow the request."""

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
    """The resource does not exist."""


class AlreadyExistsError(PromptferryError):
    """The name is taken."""


class AuthenticationError(PromptferryError):
    """The other side does not know this one, has revoked it, or could not prove its own identity."""


class UnavailableError(PromptferryError):
    """Nobody answers at an address, or the address is taken."""


class BusyError(PromptferryError):
    """Too much other work is in progress; try again later."""
