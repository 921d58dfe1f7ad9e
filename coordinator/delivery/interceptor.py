"""A gRPC interceptor that counts every call for admission and bounds the wait for its request.

A unary call starts when its headers arrive; its message may never follow. The interceptor therefore turns each
handler into one that reads a stream of requests, which is the same on the wire, and waits for the first itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc

from coordinator.delivery.errors import Context
from coordinator.network.admission import Admission
from coordinator.network.open_sockets import Peer, plain
from transfer.errors import BusyError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls and bounds the wait for their requests.

    Args:
        door: admission of the server's port.
        request_s: longest time between a call's headers and its request, in seconds.
    """

    def __init__(self, door: Admission, request_s: float) -> None:
        self._door, self._request_s = door, request_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler that admits the call first; None stays None."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._admitted(handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._admitted(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _admitted(self, answer: Any) -> Callable[..., Any]:
        async def admitted(requests: AsyncIterator[Any], context: Context) -> Any:
            peer = peer_of(context.peer())
            try:
                with self._door.call(peer):
                    request = await self._first(requests, context)
                    self._door.noted(peer)
                    return await answer(request, context)
            except BusyError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

        return admitted

    async def _first(self, requests: AsyncIterator[Any], context: Context) -> Any:
        try:
            async with asyncio.timeout(self._request_s):
                return await anext(aiter(requests))
        except StopAsyncIteration:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request")
        except TimeoutError:
            text = f"no request came within {self._request_s:g} s"
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)


@lru_cache(4096)
def peer_of(text: str) -> Peer:
    """Parse gRPC's text for a peer, such as ipv4:127.0.0.1:5000 or ipv6:%5B::1%5D:5000."""
    host, _, port = unquote(text).partition(":")[2].rpartition(":")
    return plain(host.strip("[]")), int(port)
