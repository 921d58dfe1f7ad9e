"""Our errors as gRPC statuses: one table, and the only place that turns a call's exception into a status.

The error's symbol travels with the status, so that a client can raise the same class.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf.message import Message

from transfer import names
from transfer.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BudgetRefusedError,
    BusyError,
    ConfigError,
    DataError,
    DeadlineError,
    LedgerError,
    ModelError,
    NotFoundError,
    PolicyRefusedError,
    PromptferryError,
    TaskError,
    UnavailableError,
    UsageError,
    VerificationError,
)

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Message, Message]
MAX_TEXT = 1000
"""Most characters of an error's text: it may quote the caller's request, and it travels in a header."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An error's status, and a text that replaces the error's own if that would disclose internals."""

    status: grpc.StatusCode
    text: str | None = None


_OURS = Answer(grpc.StatusCode.INTERNAL, "internal error")
ANSWERS: Mapping[type[PromptferryError], Answer] = {
    PromptferryError: _OURS,
    UsageError: Answer(grpc.StatusCode.INVALID_ARGUMENT),
    ConfigError: _OURS,
    DataError: _OURS,
    TaskError: _OURS,
    ModelError: _OURS,
    DeadlineError: Answer(grpc.StatusCode.DEADLINE_EXCEEDED),
    PolicyRefusedError: Answer(grpc.StatusCode.PERMISSION_DENIED),
    BudgetRefusedError: Answer(grpc.StatusCode.FAILED_PRECONDITION),
    VerificationError: Answer(grpc.StatusCode.INVALID_ARGUMENT),
    LedgerError: _OURS,
    NotFoundError: Answer(grpc.StatusCode.NOT_FOUND),
    AlreadyExistsError: Answer(grpc.StatusCode.ALREADY_EXISTS),
    AuthenticationError: Answer(grpc.StatusCode.UNAUTHENTICATED),
    BusyError: Answer(grpc.StatusCode.RESOURCE_EXHAUSTED),
    UnavailableError: Answer(grpc.StatusCode.UNAVAILABLE, "the coordinator cannot answer now; try again"),
}


@asynccontextmanager
async def errors_as_status(context: Context, limit_s: float | None = None) -> AsyncIterator[None]:
    """End the call with a status for every exception of the body; an unexpected one discloses nothing.

    Args:
        context: context of the call.
        limit_s: longest duration of the body in seconds, whatever the client's deadline; None means no limit.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        await _end(context, DeadlineError(f"the call took longer than {limit_s:g} s"))
    except PromptferryError as error:
        await _end(context, error)
    except grpc.aio.BaseError:  # the call ended already, or the caller disconnected
        raise
    except Exception:
        logger.exception("a call failed")
        await context.abort(_OURS.status, str(_OURS.text))


async def _end(context: Context, error: PromptferryError) -> NoReturn:
    answer = ANSWERS[type(error)]
    if answer.text is not None:
        logger.error("a call failed: %s: %s", error.symbol, error)
    known = ((names.ERROR_KEY, error.symbol),) if answer is not _OURS else ()
    await context.abort(answer.status, (answer.text or str(error))[:MAX_TEXT], known)
