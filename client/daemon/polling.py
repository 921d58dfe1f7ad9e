"""The data owner's end of Flower: it receives requests as bytes and sends replies as bytes.

Only installed code runs here. A usual Flower node executes the application bundle of a run. This node never fetches
the bundle: it passes each request to one function that was installed before.
"""

import os

# Flower reports starts and stops to its makers and looks for updates, unless told not to before its import.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import cast

import httpx
from flwr.app import ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2 as pb
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    pull_and_inflate_object_from_tree,
    push_objects,
)

from client.daemon.link import TIMEOUT_S, Link
from client.daemon.node import BROKEN, Fleet, signed_on
from client.rounds.consent import Reconnect

logger = logging.getLogger(__name__)
RECORD = "promptferry"
MALFORMED = "malformed_request"
RETRY_FIRST_S, RETRY_LONGEST_S = 0.2, 5.0

# Flower's own console handler would print each line a second time, and httpx one line for every poll.
logging.getLogger("flwr").handlers.clear()
for _name in ("flwr", "httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def serve(link: Link, answer: Callable[[bytes], bytes], stop: threading.Event) -> None:
    """Answer the coordinator's requests until `stop` is set, through crashes and restarts of either side.

    A lost connection is retried for ever, with pauses from 0.2 s doubling to 5 s. After a crash of this process the
    coordinator refuses the node until the old lease ends; the loop waits for that too. On each new connection the
    coordinator sends unanswered requests again, so `answer` must be idempotent.

    Args:
        link: the coordinator and the node's key.
        answer: turns request bytes into reply bytes; may take minutes. `Reconnect` makes the coordinator send the
            request again. Of any other exception only the class's name leaves this machine.
        stop: ends the loop after the current request; the node signs off, so a restart is immediate.

    Raises:
        UnavailableError: the coordinator's certificate is not accepted.
        AuthenticationError: the coordinator does not know this node's key, or no longer.
    """
    app, open_nodes = _app(answer), list[int]()
    last_reason, pause_s, since = "", RETRY_FIRST_S, math.inf
    with Fleet(link) as fleet:
        while not stop.is_set():
            try:
                with signed_on(fleet, open_nodes) as node:
                    logger.info("connected to the coordinator at %s", link.address)
                    last_reason, since = "", time.monotonic()
                    _Worker(fleet, node, app, stop).run(link.poll_s)
            except Reconnect:
                continue
            except BROKEN as error:
                if (reason := link.explain(error)) != last_reason:
                    last_reason = reason
                    logger.info("%s; trying until it works", reason)
                if time.monotonic() - since > 1:  # the connection lasted: start with short pauses again
                    pause_s, since = RETRY_FIRST_S, math.inf
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_LONGEST_S)


class _Worker:
    """One connection's loop: pull a message, run the app on it, push the reply."""

    def __init__(self, fleet: Fleet, node: Node, app: ClientApp, stop: threading.Event) -> None:
        self.fleet, self.node, self.app, self.stop = fleet, node, app, stop

    def run(self, poll_s: float) -> None:
        """Work until `stop` is set or the connection breaks."""
        worked_at = time.monotonic()
        while not self.stop.is_set():
            response = self.fleet.PullMessages(pb.PullMessagesRequest(node=self.node))
            for proto, tree in zip(response.messages_list, response.message_object_trees, strict=True):
                self._serve_one(message_from_proto(proto), tree)
                worked_at = time.monotonic()
            if not response.messages_list:
                idle_s = time.monotonic() - worked_at
                self.stop.wait(min(max(poll_s, idle_s / 20), 5 * poll_s))

    def _serve_one(self, header: Message, tree: ObjectTree) -> None:
        try:
            reply = self._reply(header, tree)
            if reply.has_error() and self.stop.is_set():
                return  # `answer` was stopped: the coordinator sends the request again when this node is back
            self._push(reply)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.FORBIDDEN:
                raise
            logger.info("the coordinator no longer waits for message %s", header.metadata.message_id[:8])

    def _reply(self, header: Message, tree: ObjectTree) -> Message:
        message = self._pull(header, tree)
        if message is None or _request(message) is None:
            logger.warning("refused a message that is not a promptferry request")
            return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, MALFORMED), reply_to=header)
        try:
            run = Context(header.metadata.run_id, self.node.node_id, {}, RecordDict(), {})
            return self.app(message, run)
        except Exception as error:  # its text may quote private data: only its class leaves
            if isinstance(error, Reconnect):
                raise
            logger.warning("answering failed: %s", type(error).__name__)
            failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__)
            return Message(failure, reply_to=header)

    def _pull(self, header: Message, tree: ObjectTree) -> Message | None:
        """Fetch a message's parts and rebuild it; None if the parts make no message."""
        at = self.node, header.metadata.run_id
        try:
            message = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self.fleet.PullObject, *at),
                make_confirm_message_received_fn_protobuf(self.fleet.ConfirmMessageReceived, *at),
                return_type=Message,
                max_time=TIMEOUT_S,
                # A message is often visible before its last part is stored; Flower would then pause for 1 s.
                initial_backoff=0.05,
                backoff_cap=1.0,
            )
        except (httpx.HTTPError, ObjectPullError):
            raise
        except Exception as error:  # noqa: BLE001 -- parsers of hostile bytes may raise anything
            logger.warning("a message cannot be rebuilt: %s", type(error).__name__)
            return None
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _push(self, reply: Message) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        header = remove_content_from_message(reply) if reply.has_content() else reply
        envelope, tree = message_to_proto(header), get_object_tree(reply)
        response = self.fleet.PushMessages(
            pb.PushMessagesRequest(node=self.node, messages_list=[envelope], message_object_trees=[tree])
        )
        at = self.node, reply.metadata.run_id, response.session_id
        push = make_push_object_fn_protobuf(self.fleet.PushObject, *at)
        push_objects(get_all_nested_objects(reply), push, object_ids_to_push=set(response.objects_to_push))


def _request(message: Message) -> bytes | None:
    if message.metadata.message_type != MessageType.TRAIN or not message.has_content():
        return None
    record = message.content.get(RECORD) if len(message.content) == 1 else None
    request = record.get("request") if isinstance(record, ConfigRecord) and len(record) == 1 else None
    return request if isinstance(request, bytes) else None


def _app(answer: Callable[[bytes], bytes]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:  # noqa: ARG001 -- Flower passes both
        reply = answer(cast(bytes, _request(message)))
        return Message(RecordDict({RECORD: ConfigRecord({"reply": reply})}), reply_to=message)

    return app
