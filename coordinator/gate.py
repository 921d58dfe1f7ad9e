"""The door in front of Flower's server: which paths a stranger reaches, and how large a request may be."""

import hmac
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-promptferry-gate"
FLEET = "/v1/fleet/"
OPEN = ("/health",)
MAX_BODY_BYTES = 64 * 2**20  # prompts are a few MiB; Flower reads a whole body before it checks who sent it


class Gate:
    """ASGI middleware: without the secret, only `POST /v1/fleet/*` and `/health` exist.

    The peer's address is no criterion: on one machine, strangers come from loopback too.

    Args:
        app: Flower's application.
        secret: Value of the header that opens every path.
        is_registered: Whether the node key that signed a request is known, given the request's headers.
    """

    def __init__(self, app: ASGIApp, secret: str, is_registered: Callable[[Headers], bool]) -> None:
        self.app, self._secret, self._is_registered = app, secret.encode(), is_registered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one connection on, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal:
            await Response(status_code=refusal)(scope, receive, send)
        elif scope["path"] == FLEET + "activate-node":
            await self.app(scope, receive, self._tell_unregistered(headers, send))
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> int | None:
        if scope["type"] != "http":
            return 404
        if hmac.compare_digest(headers.get(HEADER, "").encode(), self._secret):
            return None
        if not (scope["path"].startswith(FLEET) and scope["method"] == "POST") and scope["path"] not in OPEN:
            return 404
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413
        return None

    def _tell_unregistered(self, headers: Headers, send: Send) -> Send:
        """Turn 412 into 403 for an unregistered key.

        Flower answers 412 both to an unknown key and to a known one whose previous connection is not over
        yet; a node gives up on the first and waits for the second. The request's signature was verified
        before that answer, so nobody learns about the keys of others.
        """

        async def tell(message: Message) -> None:
            if (
                message["type"] == "http.response.start"
                and message["status"] == 412
                and not await run_in_threadpool(self._is_registered, headers)
            ):
                message = {**message, "status": 403}
            await send(message)

        return tell
