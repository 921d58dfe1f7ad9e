"""The filter in front of Flower's server: the paths open to strangers, and the largest request.

Flower reads a whole body before it checks the sender. The filter therefore reads bodies first. It bounds the size,
number and duration of bodies from senders without a registered node key.
"""

import asyncio
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.network.admission import Admission
from coordinator.network.open_sockets import plain

HEADER = "x-promptferry-gate"
FLEET = "/v1/fleet/"
OPEN = ("/health",)
MAX_BODY_BYTES = 64 * 2**20  # prompts are a few MiB


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Limits of request bodies from unverified senders.

    Attributes:
        unknown_bytes: largest body whose sender is not looked up; a larger one from an unknown sender is refused.
        unknown_sum: most bytes of such bodies at once; beyond, every sender is looked up.
        unknown_s: longest time from head to end of such a body, in seconds.
        known_s: longest time from head to end of a registered sender's body, in seconds.
    """

    unknown_bytes: int = 65_536
    unknown_sum: int = 16 * 2**20
    unknown_s: float = 10.0
    known_s: float = 300.0


class PathFilter:
    """ASGI middleware: without the secret, only `POST /v1/fleet/*` and `/health` exist.

    The peer's address is not a criterion, because on one machine strangers connect from loopback too.

    Args:
        app: Flower's application.
        secret: Value of the header that opens every path.
        is_registered: Returns, for a request's headers, whether the node key that signed it is registered.
        door: Admission of the server's port; receives every sign of life.
        limits: Limits of bodies from unverified senders.
    """

    def __init__(
        self,
        app: ASGIApp,
        secret: str,
        is_registered: Callable[[Headers], bool],
        door: Admission,
        limits: BodyLimits | None = None,
    ) -> None:
        self.app, self._secret, self._is_registered = app, secret.encode(), is_registered
        self._door, self._limits = door, limits or BodyLimits()
        self._unknown_sum = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._noted(scope, known=self._is_ours(headers))
        refusal = self._refusal(scope, headers)
        if refusal:
            await _refuse(refusal, scope, receive, send)
        elif self._is_ours(headers):
            await self.app(scope, receive, send)
        else:
            await self._pass_on(scope, headers, receive, self._watched(scope, headers, send))

    def _is_ours(self, headers: Headers) -> bool:
        return hmac.compare_digest(headers.get(HEADER, "").encode(), self._secret)

    def _refusal(self, scope: Scope, headers: Headers) -> int | None:
        if scope["type"] != "http":
            return 404
        if self._is_ours(headers):
            return None
        if not (scope["path"].startswith(FLEET) and scope["method"] == "POST") and scope["path"] not in OPEN:
            return 404
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413
        return None

    async def _pass_on(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        size = int(headers.get("content-length", "0"))
        is_small = size <= self._limits.unknown_bytes and self._unknown_sum + size <= self._limits.unknown_sum
        if not is_small and not await run_in_threadpool(self._is_registered, headers):
            status = 413 if size > self._limits.unknown_bytes else 503
            await _refuse(status, scope, receive, send)
            return
        try:
            with self._counted(size if is_small else 0):
                async with asyncio.timeout(self._limits.unknown_s if is_small else self._limits.known_s):
                    body = await self._body(scope, receive)
        except TimeoutError:
            await _refuse(408, scope, receive, send)
            return
        if body is not None:
            await self.app(scope, _replayed(body, receive), send)

    @contextmanager
    def _counted(self, size: int) -> Iterator[None]:
        self._unknown_sum += size
        try:
            yield
        finally:
            self._unknown_sum -= size

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """Return the whole body; None if the sender disconnected."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body)
            self._noted(scope)

    def _noted(self, scope: Scope, *, known: bool = False) -> None:
        if scope["client"]:  # None after a disconnection
            host, port = scope["client"]
            self._door.noted((plain(host), port), known=known)

    def _watched(self, scope: Scope, headers: Headers, send: Send) -> Send:
        """Record senders that prove to be registered nodes, and turn 412 into 403 for an unregistered key.

        Flower answers 412 both to an unknown key and to a known key whose previous connection is still open.
        A node must give up on the first and wait for the second. Flower verifies the request's signature before
        that answer, so nobody learns about the keys of others.
        """
        path = scope["path"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                if (
                    status == 412
                    and path == FLEET + "activate-node"
                    and not await run_in_threadpool(self._is_registered, headers)
                ):
                    message = {**message, "status": 403}
                if status == 200 and path.startswith(FLEET):
                    self._noted(scope, known=True)
            await send(message)

        return watched


async def _refuse(status: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request and close the connection, so that nothing more of the request is read."""
    await Response(status_code=status, headers={"connection": "close"})(scope, receive, send)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receiver that yields the body first, and then the messages of `receive`."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
