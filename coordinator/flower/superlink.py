"""Flower's server, run inside the coordinator's process and closed to everyone but its nodes.

A stock SuperLink serves three interfaces on one port, without accounts. Whoever reaches the port may register a node
key or start a run. Here a filter opens only the Fleet paths to strangers, where a registered node key signs every
request. Control and Runtime accept only clients that this module makes. These carry secrets that each process draws
at random and never stores.
"""

import os

# Flower reads both at its import; otherwise it reports starts and stops to its makers and looks for updates.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# These would open Flower's older interfaces on ports of their own, outside the filter.
os.environ.pop("FLWR_INTERNAL_GRPC_CONTROL_API", None)
os.environ.pop("FLWR_INTERNAL_GRPC_FLEET_API", None)

import base64
import binascii
import hmac
import logging
import secrets
import ssl
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self, TypeVar

import httpx
from flwr.common.constant import (
    ACCESS_TOKEN_KEY,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    TRANSPORT_TYPE_GRPC_RERE,
)
from flwr.supercore.auth.typing import AccountAuthCredentials, AccountAuthLoginDetails, AccountInfo
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.protobuf.client import (
    ProtobufCall,
    ProtobufClient,
    ProtobufClientInterceptor,
    ProtobufRequestContext,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp

from coordinator.flower import path_filter as gate
from coordinator.network.admission import Admission
from coordinator.network.https_server import HttpsServer, LinkSettings
from coordinator.store.database import sqlite_url
from transfer.errors import ConfigError

TIMEOUT_S = 30.0

# Flower's console handler prints each line a second time. httpx logs every poll, and alembic each of the 40
# migrations of Flower's database.
logging.getLogger("flwr").handlers.clear()
for _name in ("flwr", "httpx", "httpcore", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)

logger = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return false for a refused request of a node, which Flower logs as an error although the server works.

    After every restart of either side, for example, nodes sign off although Flower already signed them off.
    """
    refused = record.getMessage().startswith("[/v1/fleet/") and "[ApiError:" in record.getMessage()
    if refused:
        logger.debug("Flower refused a node: %s", record.getMessage())
    return not refused


logging.getLogger("flwr").addFilter(_is_ours)

Client = TypeVar("Client", bound=ProtobufClient)


class SuperLink:
    """The embedded server; a context manager that listens while it is open.

    Attributes:
        address: `host:port`, once open.

    Raises:
        UnavailableError: On opening, when the port is in use or the server does not start.
        ConfigError: On opening, when a certificate, key or database file is not usable.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self.settings, self._door = settings, Admission(settings.door)
        self._token, self._gate = secrets.token_hex(32), secrets.token_hex(32)
        self._superexec = secrets.token_bytes(32)

    def __enter__(self) -> Self:
        self._listener = HttpsServer(self._app(), self.settings, self._door).__enter__()
        self.address = self._listener.address
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.__exit__()

    def control(self) -> ControlHttpClient:
        """Return a client of the Control interface, for nodes and runs."""
        return self._dial(ControlHttpClient, [_Headers({"authorization": f"Bearer {self._token}"})])

    def runtime(self, token: str | None = None) -> RuntimeHttpClient:
        """Return a client of the Runtime interface: without a token it acquires a task, with one it works on it."""
        if token is not None:
            return self._dial(RuntimeHttpClient, [RuntimeTokenHttpInterceptor(token)])
        proof = SuperExecAuthHttpInterceptor(
            master_secret=self._superexec,
            protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"}),
        )
        return self._dial(RuntimeHttpClient, [proof])

    def withdraw(self, run_id: int, node_ids: Collection[int]) -> set[str]:
        """Withdraw a run's messages that these nodes have not pulled, and return their ids.

        Flower delivers a message once, so pulling it here withdraws it.

        Raises:
            SQLAlchemyError: Flower's database does not answer.
        """
        pulled = (self._state.get_message_ins(node_id, None, run_id=run_id) for node_id in node_ids)
        return {message.metadata.message_id for messages in pulled for message in messages}

    def _dial(self, kind: type[Client], interceptors: Sequence[ProtobufClientInterceptor]) -> Client:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # This process connects to its own socket, perhaps under an address that the certificate does not name.
        trust.check_hostname = False
        trust.load_verify_locations(self.settings.ca)
        host, _, port = self.address.rpartition(":")
        url = f"https://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        client = kind(url, interceptors=[_Headers({gate.HEADER: self._gate}), *interceptors], verify=trust)
        client._client.close()  # noqa: SLF001 -- the stock client obeys proxies named in the environment
        client._client = httpx.Client(verify=trust, timeout=TIMEOUT_S, trust_env=False)  # noqa: SLF001
        return client

    def _app(self) -> ASGIApp:
        try:
            _keep_private(self.settings.database)
            app = create_app(self._config(), SuperLinkLifespan)
            self._state = state = app.state.linkstate_factory.state()
        except (SQLAlchemyError, OSError) as error:
            raise ConfigError(
                f"{self.settings.database} cannot be used as Flower's database ({type(error).__name__}); "
                "name another file in a writable directory"
            ) from error

        def is_registered(headers: Headers) -> bool:
            try:
                key = base64.b64decode(headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER, ""), validate=True)
            except binascii.Error:
                return False
            return state.get_node_id_by_public_key(key) is not None

        return gate.PathFilter(app, self._gate, is_registered, self._door)

    def _config(self) -> SuperLinkLifespanConfig:
        settings = self.settings
        return SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host=settings.host,
            port=settings.port,
            insecure=False,
            certificates=None,
            superexec_auth_secret=self._superexec,
            authn_plugin=_TokenAuthn(self._token),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=True,
            fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=str(settings.ca),
            ssl_certfile=str(settings.certificate),
            ssl_keyfile=str(settings.certificate_key),
            database=sqlite_url(settings.database.resolve()),
            isolation="process",
            runtime_dependency_install=False,
        )


def _keep_private(database: Path) -> None:
    """Create the file for its owner alone before Flower writes to it; its journals get the same mode."""
    os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
    database.chmod(0o600)


class _TokenAuthn(ControlAuthnPlugin):
    """One account with one bearer token and no login."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Accept only the token of this process."""
        shown = str(dict(metadata).get(ACCESS_TOKEN_KEY, ""))
        if not hmac.compare_digest(shown.encode(), self._token):
            return False, None
        return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

    def get_login_details(self) -> AccountAuthLoginDetails | None:
        """Offer no login."""
        return None

    def get_auth_tokens(self, device_code: str) -> AccountAuthCredentials | None:  # noqa: ARG002
        """Issue no token."""
        return None

    def refresh_tokens(
        self,
        metadata: Sequence[tuple[str, str | bytes]],  # noqa: ARG002
    ) -> tuple[Sequence[tuple[str, str | bytes]] | None, AccountInfo | None]:
        """Renew no token."""
        return None, None


class _Headers:
    """A client interceptor that adds fixed headers to every request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the headers and continue."""
        add_headers(context.request, self._headers)
        return call_next(context)
