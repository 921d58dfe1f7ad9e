"""The delivery server: promptferry.v1 and health over TLS 1.3, on an event loop in a thread of its own.

An event loop, because a call whose request never comes or a download nobody reads then costs a little memory
and not one of a few threads.
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
from coordinator.delivery.file_cache import Shelf
from coordinator.delivery.interceptor import Guard
from coordinator.delivery.service import SERVICES, Hall, Limits, add_services
from coordinator.home.pki import PkiPaths, load_server
from coordinator.network.admission import Admission, AdmissionLimits
from coordinator.store.store import Store
from transfer.errors import PromptferryError, UnavailableError

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 65_536
"""Every request is a few names or keys."""
STORE_THREADS = 8
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # a second coordinator on our port is to fail, not to share it
    ("grpc.max_concurrent_streams", 100),
    ("grpc.server_handshake_timeout_ms", 10_000),  # TLS and the first frames of HTTP/2
    ("grpc.max_connection_idle_ms", 60_000),
    # a download broken by it goes on from where it was
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether gRPC tells of something else than a caller that went away or was sent away."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError | grpc.aio.InternalError)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


class DeliveryServer:
    """Serves a store to data owners and prompt users.

    Args:
        store: what is served.
        host: address to listen on.
        port: port to listen on; 0 for any free one.
        pki: where the server's certificate and key lie.
        enrolment: takes data owners in.
        copies: directory for the files of prompts while they are served; see `coordinator.delivery.file_cache`.
        limits: what one call may take.
        door: what strangers may take of the port.
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
        self._enrolment, self._limits, self._shelf = enrolment, limits or Limits(), Shelf(copies)
        self._door = Admission(door or AdmissionLimits())
        self._listening: Future[int] = Future()
        self._stop: Callable[[float], object] = lambda _grace_s: None
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> int:
        """Listen and return the port; may be called once.

        Raises:
            UnavailableError: the port is taken, or the address is not this machine's.
            ConfigError: the certificate or its key cannot be used.
        """
        credentials = grpc.ssl_server_credentials([load_server(self._pki)])
        self._credentials = credentials
        self._thread.start()
        return self._listening.result()

    def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no more calls, give running ones `grace_s` to end, and stop listening."""
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
            # a second bound beside the door's: calls that it ended take a moment to go
            server = grpc.aio.server(
                interceptors=[Guard(self._door, self._limits.request_s)],
                options=OPTIONS,
                maximum_concurrent_rpcs=2 * self._door.limits.calls,
            )
            hall = Hall(pool, self._limits, self._door)
            add_services(server, self._store, self._enrolment, hall, self._shelf)
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
                await asyncio.wait(rest, timeout=1.0)  # calls that were ended: gRPC tells of cancelled ones
            self._door.close()

    def _bind(self, server: grpc.aio.Server) -> int:
        try:
            return server.add_secure_port(f"{_bracketed(self._host)}:{self._port}", self._credentials)
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen on {self._host}:{self._port}: {_reason(self._host, self._port)}; "
                "set [delivery] host and port"
            ) from error


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reason(host: str, port: int) -> str:
    """Why nothing can listen there: gRPC does not say."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.bind(address)
    except socket.gaierror:
        return "no such host"
    except OSError as error:
        return os.strerror(error.errno or errno.EADDRINUSE)
    return "the address is not available"
