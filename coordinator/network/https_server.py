"""An HTTPS server for one ASGI application in a thread of this process."""

import errno
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from coordinator.network.admission import Admission, AdmissionLimits
from transfer.errors import ConfigError, UnavailableError

START_TIMEOUT_S = 30.0
STOP_GRACE_S = 3


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The endpoint of Flower's nodes, and its files.

    Attributes:
        host: Address to listen on.
        port: Port to listen on, 0..65535; 0 means any free one.
        certificate: PEM certificate chain for the nodes.
        certificate_key: Its private key, PEM.
        ca: PEM certificate of its authority, which the nodes pin.
        database: SQLite file of node keys and messages in transit.
        door: Limits of the port for strangers.

    Raises:
        ConfigError: When the port is out of range or a certificate file is missing.
    """

    host: str
    port: int
    certificate: Path
    certificate_key: Path
    ca: Path
    database: Path
    door: AdmissionLimits = field(default_factory=AdmissionLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"[flower] port {self.port} is outside 0..65535")
        for path in (self.certificate, self.certificate_key, self.ca):
            if not path.is_file():
                raise ConfigError(f"{path} does not exist; run `promptferry-coordinator init`")


class HttpsServer:
    """Serves an application over TLS 1.3 under an admission, while open as a context manager.

    Raises:
        UnavailableError: On opening, when the port is in use or the server does not start.
        ConfigError: On opening, when certificate and key are not usable.
    """

    def __init__(self, app: ASGIApp, settings: LinkSettings, door: Admission) -> None:
        self.settings, self._door = settings, door
        self.address = ""
        self._config = uvicorn.Config(
            app,
            http="h11",  # h11 bounds a request's head; httptools keeps a head of any size
            ws="none",
            ssl_certfile=settings.certificate,
            ssl_keyfile=str(settings.certificate_key),
            log_config=None,
            log_level="error",  # below, it warns of every malformed request
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_GRACE_S,
        )

    def __enter__(self) -> Self:
        self._load()
        bound = self._bind()
        self.address = f"{self.settings.host}:{bound.getsockname()[1]}"
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [bound]}, name="listener", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.__exit__()
                bound.close()
                raise UnavailableError(f"the server on {self.address} did not start; its log says why")
            time.sleep(0.01)
        self._door.open(bound.getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._door.close()

    def _load(self) -> None:
        try:
            self._config.load()
        except OSError as error:
            raise ConfigError(
                f"certificate {self.settings.certificate} and key {self.settings.certificate_key} "
                f"cannot be used ({error}); run `promptferry-coordinator init` again"
            ) from error
        if self._config.ssl is not None:
            self._config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3

    def _bind(self) -> socket.socket:
        """Bind the socket, because uvicorn would end the process if the port is in use."""
        host, port = self.settings.host, self.settings.port
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host.strip("[]"), port))
            bound.listen(128)
        except OSError as error:
            bound.close()
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(
                    f"another process listens on {host}:{port}; stop it or change [flower] port"
                ) from error
            raise UnavailableError(
                f"cannot listen on {host}:{port} ({error.strerror}); change [flower] host or port"
            ) from error
        return bound
