"""Who reaches what: registration, the gate, and what is wrong with the settings."""

import http.client
import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from starlette.responses import PlainTextResponse

from client.daemon import node as own_node
from client.daemon.link import Link
from coordinator.flower.app_bundle import manifest
from coordinator.flower.federation import Federation
from coordinator.network.admission import Admission, AdmissionLimits
from coordinator.network.https_server import HttpsServer
from tests.coordinator.flower.flowers import public
from transfer.errors import (
    AlreadyExistsError,
    ConfigError,
    NotFoundError,
    UnavailableError,
)


def test_a_taken_port_is_named(federation, link_settings):
    port = int(federation.address.rpartition(":")[2])
    with (
        pytest.raises(
            UnavailableError, match=rf"another process listens on 127\.0\.0\.1:{port}; .*\[flower\] port"
        ),
        Federation(replace(link_settings, port=port)),
    ):
        pass


def test_a_key_that_does_not_fit_the_certificate_is_named(link_settings, tmp_path):
    key = tmp_path / "other.key"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
    mismatched = HttpsServer(
        PlainTextResponse("hello"), replace(link_settings, certificate_key=key), Admission(AdmissionLimits())
    )
    with pytest.raises(ConfigError, match=r"other\.key cannot be used"), mismatched:
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 65536}, "65536 is outside"),
        ({"ca": Path("/nowhere/ca.pem")}, r"/nowhere/ca\.pem does not exist"),
    ],
)
def test_impossible_settings_are_named(link_settings, change, message):
    with pytest.raises(ConfigError, match=message):
        replace(link_settings, **change)


def test_a_file_that_is_no_database_is_named(link_settings):
    link_settings.database.write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match=r"flower\.db cannot be used"), Federation(link_settings):
        pass


def test_registering_is_idempotent_and_names_and_keys_belong_together(federation):
    key, other = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    node_id = federation.register(public(key), "clinic")
    assert federation.register(public(key, "OpenSSH", "OpenSSH"), "clinic") == node_id
    with pytest.raises(AlreadyExistsError, match="registered as 'clinic'"):
        federation.register(public(key), "hospital")
    with pytest.raises(AlreadyExistsError, match="another key"):
        federation.register(public(other), "clinic")
    federation.unregister(node_id)
    with pytest.raises(NotFoundError, match="clinic"):
        federation.unregister("clinic")
    with pytest.raises(AlreadyExistsError, match="revoked"):
        federation.register(public(key), "clinic")
    assert federation.register(public(other), "clinic") != node_id


CLOSED = (
    "/v1/control/start-run",
    "/v1/control/register-node",
    "/v1/control/list-nodes",
    "/v1/control/get-login-details",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-messages",
    "/docs",
    "/openapi.json",
    "/v1/responses",
    "/v1/fleet",
    "//v1/control/list-nodes",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/",
)


@pytest.mark.parametrize("path", CLOSED)
def test_a_stranger_finds_nothing_but_the_fleet_paths(federation, pki, path):
    url = httpx.URL(f"https://{federation.address}").copy_with(raw_path=path.encode())
    with httpx.Client(verify=str(pki / "ca.pem"), trust_env=False) as stranger:
        guess = {"x-promptferry-gate": "0" * 64, "authorization": "Bearer " + "0" * 64}
        for method in ("GET", "POST", "PUT", "OPTIONS"):
            assert stranger.request(method, url).status_code == 404
            assert stranger.request(method, url, headers=guess).status_code == 404


def test_a_stranger_meets_authentication_on_the_fleet_paths(federation, pki):
    with httpx.Client(base_url=f"https://{federation.address}", verify=str(pki / "ca.pem")) as stranger:
        assert stranger.get("/health").status_code == 200
        assert stranger.get("/v1/fleet/pull-messages").status_code == 404
        body = {"content-type": "application/protobuf"}
        assert stranger.post("/v1/fleet/pull-messages", headers=body).status_code == 401
        assert stranger.post("/v1/fleet/pull-messages", content=iter([b"x"])).status_code == 413
    trust = ssl.create_default_context(cafile=pki / "ca.pem")
    host, _, port = federation.address.rpartition(":")
    flood = http.client.HTTPSConnection(host, int(port), context=trust)
    flood.putrequest("POST", "/v1/fleet/push-object")
    flood.putheader("content-length", str(2**40))
    flood.endheaders()
    assert flood.getresponse().status == 413
    flood.close()


@pytest.mark.promise("no-foreign-code")
def test_flowers_own_clients_can_neither_start_a_run_nor_register_a_node(federation, pki):
    ca = (pki / "ca.pem").read_bytes()
    fab = fab_to_proto(Fab("0" * 64, manifest(), {}))
    key = public(ec.generate_private_key(ec.SECP384R1()))
    with ControlHttpClient.from_server_address(federation.address, False, ca, interceptors=[]) as stock:
        for call, request in (
            (stock.StartRun, StartRunRequest(fab=fab)),
            (stock.RegisterNode, RegisterNodeRequest(public_key=key, name="rogue")),
        ):
            with pytest.raises(httpx.HTTPStatusError, match="404"):
                call(request)


def test_the_gate_alone_does_not_open_the_control_interface(federation):
    """Two locks: whoever came to know the gate's secret still needs the token."""
    with federation._superlink.control() as ours:
        ours._interceptors = ours._interceptors[:1]
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            ours.RegisterNode(RegisterNodeRequest(public_key=b"", name="rogue"))
    with federation._superlink.runtime("guessed token") as ours:
        ours._interceptors = ours._interceptors[:1]
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            ours.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))


def test_a_node_cannot_register_itself(federation, pki):
    link = Link(federation.address, (pki / "ca.pem").read_bytes(), ec.generate_private_key(ec.SECP384R1()))
    with own_node.Fleet(link) as fleet, pytest.raises(httpx.HTTPStatusError, match="412"):
        fleet.RegisterNode(RegisterNodeFleetRequest(public_key=fleet.public_key))
