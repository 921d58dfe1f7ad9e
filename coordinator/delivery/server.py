"""The delivery server: promptferry.v1 and health over TLS 1.3, on an event loop in its own thread.

On an event loop, a call without a request or a download without a reader costs a little memory. With threads it
would block one of a few.
"""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.file_cache import FileCache
from coordinator.delivery.interceptor import AdmissionInterceptor
from coordinator.delivery.service import SERVICES, Limits, ServiceResources, add_services
from coordinator.home.pki import PkiPaths, load_server
from coordinator.network.admission import Admission, AdmissionLimits
from coordinator.store.store import Store
from transfer.errors import PromptferryError, UnavailableError

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 65_536
"""Largest request: every request is a few names or keys."""
STORE_THREADS = 8
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # a second coordinator on this port must fail, not share it
    ("grpc.max_concurrent_streams", 100),
    ("grpc.server_handshake_timeout_ms", 10_000),  # TLS and the first frames of HTTP/2
    ("grpc.max_connection_idle_ms", 60_000),
    # a download that this interrupts continues at its offset
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a record reports more than a caller that disconnected or was disconnected."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError | grpc.aio.InternalError)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


class DeliveryServer:
    """Serves a store to data owners and recipients.

    Args:
        store: holds the prompts, proxies and clients.
        host: address to listen on.
        port: port to listen on; 0 means any free one.
        pki: paths of the server's certificate and key.
        enrolment: enrols clients.
        copies: directory that caches prompts' files for downloads; see `coordinator.delivery.file_cache`.
        limits: limits of one call.
        door: limits of the port for strangers.
    """

    def __init__(
        self,
        store: Store,
        host: str,
        port: int,
        pki: PkiPaths,
        enrolment: Enrolment,
        copies: Path,
        limits: Limits | None = None,
        door: AdmissionLimits | None = None,
    ) -> None:
        self._store, self._host, self._port, self._pki = store, host, port, pki
        self._enrolment, self._limits, self._cache = enrolment, limits or Limits(), FileCache(copies)
        self._door = Admission(door or AdmissionLimits())
        self._listening: Future[int] = Future()
        self._stop: Callable[[float], object] = lambda _grace_s: None
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> int:
        """Listen and return the port; call it once.

        Raises:
            UnavailableError: the port is in use, or the address does not belong to this machine.
            ConfigError: the certificate or its key is not usable.
        """
        credentials = grpc.ssl_server_credentials([load_server(self._pki)])
        self._credentials = credentials
        self._thread.start()
        return self._listening.result()

    def stop(self, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new calls, wait up to `grace_s` seconds for running ones, and stop."""
        if not self._thread.is_alive():
            return
        self._stop(grace_s)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except PromptferryError as error:
            self._listening.set_exception(error)
        finally:
            if not self._listening.done():
                self._listening.set_exception(
                    UnavailableError("the delivery server did not start; see the log")
                )

    async def _serve(self) -> None:
        with ThreadPoolExecutor(STORE_THREADS, "delivery-store") as pool:
            # a second bound beside the admission's, because calls that it ended take a moment to disappear
            server = grpc.aio.server(
                interceptors=[AdmissionInterceptor(self._door, self._limits.request_s)],
                options=OPTIONS,
                maximum_concurrent_rpcs=2 * self._door.limits.calls,
            )
            resources = ServiceResources(pool, self._limits, self._door)
            add_services(server, self._store, self._enrolment, resources, self._cache)
            check = health.aio.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(check, server)
            for service in SERVICES:
                await check.set(service, health_pb2.HealthCheckResponse.SERVING)
            port = self._bind(server)
            await server.start()
            self._door.open(port)
            loop, stopping = asyncio.get_running_loop(), asyncio.Future[float]()
            self._stop = lambda grace_s: loop.call_soon_threadsafe(stopping.set_result, grace_s)
            self._listening.set_result(port)
            logger.info("delivery listens on %s:%d", self._host, port)
            grace_s = await stopping
            await check.enter_graceful_shutdown()
            await server.stop(grace_s)
            if rest := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(
                    rest, timeout=1.0
                )  # ended calls; gRPC would log them if they were cancelled
            self._door.close()

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            return server.add_secure_port(f"{_bracketed(self._host)}:{self._port}", self._credentials)
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen on {self._host}:{self._port}: {_reason(self._host, self._port)}; "
                "change [delivery] host or port"
            ) from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reason(host: str, port: int) -> str:
    """Return why a server cannot listen at an address, which gRPC does not report."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.bind(address)
    except socket.gaierror:
        return "no such host"
    except OSError as error:
        return os.strerror(error.errno or errno.EADDRINUSE)
    return "the address is not available"
