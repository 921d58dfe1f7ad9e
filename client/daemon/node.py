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

# Failures between this process and the coordinator; ValueError: a response is not the expected protobuf message.
BROKEN = (httpx.HTTPError, ObjectPullError, ObjectPushError, ValueError)


class Fleet(FleetHttpClient):
    """Flower's Fleet client; it signs with the node key and trusts only the pinned CA."""

    def __init__(self, link: Link) -> None:
        trust, public = link.trust(), link.node_key.public_key()
        self.public_key = public_key_to_bytes(public)
        signer = NodeAuthHttpInterceptor(link.node_key, public)
        super().__init__(f"https://{link.address}", interceptors=[signer], verify=trust)
        self._client.close()
        self._client = link.http(trust)


@contextmanager
def signed_on(fleet: Fleet, open_nodes: list[int]) -> Iterator[Node]:
    """Activate this node, keep its lease with a heartbeat thread, and sign it off at the end.

    `open_nodes` has the node ids whose sign-off failed. Signing them off first avoids waiting until their lease ends.
    """
    sign_off(fleet, open_nodes)
    request = pb.ActivateNodeRequest(public_key=fleet.public_key, heartbeat_interval=LEASE_S / 2)
    node, over = Node(node_id=fleet.ActivateNode(request).node_id), threading.Event()
    open_nodes.append(node.node_id)
    beat = threading.Thread(target=_beat, args=(fleet, node, over), name="flower-heartbeat", daemon=True)
    beat.start()
    try:
        yield node
    finally:
        over.set()
        beat.join()
        sign_off(fleet, open_nodes)


def sign_off(fleet: Fleet, open_nodes: list[int]) -> None:
    """Sign off the nodes of `open_nodes`, the last first; those whose sign-off fails stay in it."""
    while open_nodes:
        try:
            fleet.DeactivateNode(pb.DeactivateNodeRequest(node_id=open_nodes[-1]))
        except httpx.HTTPStatusError as error:  # offline or unregistered already
            logger.debug("sign-off answered with status %d", error.response.status_code)
        except BROKEN as error:
            logger.debug("sign-off failed: %s", type(error).__name__)
            return
        open_nodes.pop()


def _beat(fleet: Fleet, node: Node, over: threading.Event) -> None:
    request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=LEASE_S / 2)
    while not over.wait(HEARTBEAT_EVERY_S):
        try:
            fleet.SendNodeHeartbeat(request)
        except BROKEN as error:  # the loop that polls for work meets the same failure and handles it
            logger.debug("heartbeat failed: %s", type(error).__name__)
