"""A Flower run: carries requests and replies while the coordinator waits for them."""

import os

# Flower reads both at its import; otherwise it reports starts and stops to its makers and looks for updates.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    HEARTBEAT_PATIENCE,
    SUPERLINK_NODE_ID,
    ErrorCode,
    Status,
)
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from coordinator.flower.superlink import SuperLink
from coordinator.rounds.fleet import Outcome
from transfer.errors import UnavailableError

logger = logging.getLogger(__name__)

RECORD = "promptferry"
ACQUIRE_TIMEOUT_S = 10.0
LEASE_S = HEARTBEAT_PATIENCE * HEARTBEAT_DEFAULT_INTERVAL - 2.0
"""Longest time between two heartbeats, in seconds; after it, Flower gives up the run and its token."""
MAX_PARTS = 3  # a reply is a message, its dictionary of records, and one record
LOST = {ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE}
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

# Failures between this process and its own server; flwr raises ValueError for a response that is not protobuf.
BROKEN = (httpx.HTTPError, ObjectPushError, UnavailableError, ValueError)


@contextmanager
def answering() -> Iterator[None]:
    """Turn a failure of this process's own Flower server into an error of one line."""
    try:
        yield
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(f"this process's Flower server fails ({type(error).__name__})") from error


@dataclass(frozen=True, slots=True)
class Arrival:
    """A reply to a message: an outcome under a node's id, or None for a lost message."""

    message_id: str
    source: int
    outcome: Outcome | None


class Run:
    """A run on this process's SuperLink; a heartbeat keeps it alive until it is closed.

    Args:
        superlink: The open server.
        control: A client of its Control interface.
        bundle: The application that Flower requires for a run: a manifest without code.

    Raises:
        UnavailableError: When the server does not hand out the run's task.
        httpx.HTTPError: When the server does not answer.
    """

    def __init__(self, superlink: SuperLink, control: ControlHttpClient, bundle: bytes) -> None:
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        self._control = control
        self._superlink = superlink
        self._run_id = control.StartRun(StartRunRequest(fab=fab_to_proto(fab))).run_id
        self._client = superlink.runtime(_acquire(superlink, self._run_id))
        task = self._client.PullTaskInput(PullTaskInputRequest())
        self._task_id = task.task_id
        self._grid = _Grid(superlink.address, self._client)
        self._grid.set_run(run_from_proto(task.run))
        self._renewed = time.time()
        self._heart = HeartbeatSender(self._beat)
        self._heart.start()

    @property
    def lapsed(self) -> bool:
        """Whether this process or its machine paused for so long that Flower gave up the run.

        It uses wall time, as the lease does; a monotonic clock may not count the time that a machine slept.
        """
        return time.time() - self._renewed > LEASE_S

    def push(self, node_id: int, request: bytes, ttl_s: float) -> str | None:
        """Send a request to a node and return the message's id, or None when the node is not registered."""
        # Flower reads the sender of new messages from these process-wide variables.
        TaskIdentity.task_id, TaskIdentity.run_id = self._task_id, self._run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        content = RecordDict({RECORD: ConfigRecord({"request": request})})
        # Flower accepts a reply from whoever knows the message's id, a digest of its content. The random
        # group makes that id unguessable.
        group = secrets.token_hex(16)
        message = Message(content, node_id, MessageType.TRAIN, ttl=ttl_s, group_id=group)
        return next(iter(self._grid.push_messages([message])), None) or None

    def pull(self, message_ids: Collection[str], left_s: float) -> list[Arrival]:
        """Return the replies to these messages; `left_s` bounds the wait for a reply's last parts, in seconds."""
        answer = self._client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))
        arrivals = []
        for proto, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            # Flower verified sender and subject in the envelope; those inside are only the sender's claim.
            envelope = proto.metadata
            outcome = self._open(tree, left_s)
            arrivals.append(Arrival(envelope.reply_to_message_id, envelope.src_node_id, outcome))
        return arrivals

    def withdraw(self, node_ids: Collection[int]) -> set[str]:
        """Withdraw messages that these nodes have not pulled, and return their ids.

        Raises:
            SQLAlchemyError: When Flower's database does not answer.
        """
        return self._superlink.withdraw(self._run_id, node_ids)

    def _open(self, tree: ObjectTree, left_s: float) -> Outcome | None:
        if len(list(iterate_object_tree(tree))) > MAX_PARTS:
            return Outcome(error="malformed_reply")
        at = self._grid.node, self._run_id
        try:
            reply = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self._client.PullObject, *at),
                make_confirm_message_received_fn_protobuf(self._client.ConfirmMessageReceived, *at),
                return_type=Message,
                max_time=left_s,
                # A reply is often seen before its last part is stored; Flower would pause for 1 s then.
                initial_backoff=0.05,
                backoff_cap=1.0,
            )
            return _read(reply)
        except httpx.HTTPError:
            raise
        except ObjectPullError:
            return None
        except Exception as error:  # noqa: BLE001 -- parsers of hostile bytes raise what they like
            logger.warning("a reply cannot be rebuilt: %s", type(error).__name__)
            return Outcome(error="malformed_reply")

    def close(self) -> None:
        """Stop the run; Flower withdraws its unpulled messages and refuses late replies."""
        if self._heart.is_running:
            self._heart.stop()
        try:
            _stop(self._control, ListRunsRequest(run_id=self._run_id))
        except httpx.HTTPError as error:
            logger.debug("stopping the run failed: %s", type(error).__name__)
        self._client.close()

    def _beat(self) -> bool:
        """Renew the task's lease; after an error, the next push or pull fails and a new run starts.

        A lapsed run is not renewed, because Flower would log each use of its stale token as an error.
        """
        if self.lapsed:
            return True
        now = time.time()
        try:
            self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            self._renewed = now
        except (httpx.HTTPError, ValueError) as error:
            logger.debug("the run's heartbeat failed: %s", type(error).__name__)
        return True


class _Grid(HttpGrid):
    """Flower's grid over a client with this process's secrets; unlike Flower's own, it never ends the process."""

    def __init__(self, address: str, client: RuntimeHttpClient) -> None:
        super().__init__(address, token="in the client")  # noqa: S106
        self._client = client


def stop_earlier_runs(control: ControlHttpClient) -> None:
    """Stop the runs of a coordinator that was killed."""
    _stop(control, ListRunsRequest())


def _stop(control: ControlHttpClient, listing: ListRunsRequest) -> None:
    """Stop the unfinished runs of a listing; Flower itself finishes runs whose lease expired."""
    for run_id, run in control.ListRuns(listing).run_dict.items():
        if run.status.status != Status.FINISHED:
            control.StopRun(StopRunRequest(run_id=run_id))


def _acquire(superlink: SuperLink, run_id: int) -> str:
    request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
    deadline = time.monotonic() + ACQUIRE_TIMEOUT_S
    with superlink.runtime() as client:
        while time.monotonic() < deadline:
            answer = client.AcquireTask(request)
            if answer.token and answer.task.run_id == run_id:
                return answer.token
            time.sleep(0.05)
    raise UnavailableError(f"Flower did not hand out run {run_id} within {ACQUIRE_TIMEOUT_S:.0f} s")


def _read(reply: Message) -> Outcome | None:
    if reply.has_error():
        if reply.error.code in LOST:
            return None
        reason = reply.error.reason or ""
        if reply.error.code == ErrorCode.MOD_FAILED_PRECONDITION:
            return Outcome(error="malformed_request")
        # The reason is a stranger's text, so only a possible class name is passed on.
        return Outcome(error=f"client_error:{reason if _CLASS_NAME.fullmatch(reason) else 'unnamed'}")
    record = reply.content.get(RECORD)
    answer = record.get("reply") if isinstance(record, ConfigRecord) else None
    return Outcome(reply=answer) if isinstance(answer, bytes) else Outcome(error="malformed_reply")
