"""This client as a node of Flower: signed on, kept alive, and signed off."""

import os

# Flower reports starts and stops to its makers and looks for updates, unless told not to before its import.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from flwr.proto import fleet_pb2 as pb
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.daemon.link import LEASE_S, Link

logger = logging.getLogger(__name__)
HEARTBEAT_EVERY_S = 5.0

# What goes wrong between this process and the coordinator; ValueError: a response is not its protobuf message.
BROKEN = (httpx.HTTPError, ObjectPullError, ObjectPushError, ValueError)


class Fleet(FleetHttpClient):
    """Flower's Fleet client, signing with the node key and trusting the pinned CA alone."""

    def __init__(self, link: Link) -> None:
        trust, public = link.trust(), link.node_key.public_key()
        self.public_key = public_key_to_bytes(public)
        signer = NodeAuthHttpInterceptor(link.node_key, public)
        super().__init__(f"https://{link.address}", interceptors=[signer], verify=trust)
        self._client.close()
        self._client = link.http(trust)


@contextmanager
def signed_on(fleet: Fleet, held: list[int]) -> Iterator[Node]:
    """Activate this node, keep its lease with a heartbeat thread, and sign it off in the end.

    `held` remembers a node id whose sign-off did not get through: signing it off first spares the wait for
    its lease to run out.
    """
    sign_off(fleet, held)
    wish = pb.ActivateNodeRequest(public_key=fleet.public_key, heartbeat_interval=LEASE_S / 2)
    node, over = Node(node_id=fleet.ActivateNode(wish).node_id), threading.Event()
    held.append(node.node_id)
    beat = threading.Thread(target=_beat, args=(fleet, node, over), name="flower-heartbeat", daemon=True)
    beat.start()
    try:
        yield node
    finally:
        over.set()
        beat.join()
        sign_off(fleet, held)


def sign_off(fleet: Fleet, held: list[int]) -> None:
    """Sign off the nodes of `held`, the last first; those that could not be told stay in it."""
    while held:
        try:
            fleet.DeactivateNode(pb.DeactivateNodeRequest(node_id=held[-1]))
        except httpx.HTTPStatusError as error:  # offline or unregistered already
            logger.debug("sign-off answered with status %d", error.response.status_code)
        except BROKEN as error:
            logger.debug("sign-off did not get through: %s", type(error).__name__)
            return
        held.pop()


def _beat(fleet: Fleet, node: Node, over: threading.Event) -> None:
    request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=LEASE_S / 2)
    while not over.wait(HEARTBEAT_EVERY_S):
        try:
            fleet.SendNodeHeartbeat(request)
        except BROKEN as error:  # the loop that asks for work meets the same trouble and deals with it
            logger.debug("heartbeat failed: %s", type(error).__name__)
