"""The coordinator's end of Flower: bytes to named nodes, bytes back, by a deadline.

with Federation(settings) as federation:
    federation.register(public_key_pem, "clinic-a")
    outcomes = federation.exchange({"clinic-a": request}, deadline_s=600)
    outcomes["clinic-a"].reply
"""

import os

# Flower reports starts and stops to its makers and looks for updates, unless told not to before its import.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Self

import httpx
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from coordinator.exchange import Exchange, Outcome, Presence
from coordinator.listener import LinkSettings
from coordinator.node_key import pem as node_pem
from coordinator.run import Run, manifest, stop_earlier_runs
from coordinator.superlink import SuperLink
from transfer.errors import AlreadyExistsError, NotFoundError, UnavailableError

__all__ = ["Federation", "LinkSettings", "Outcome"]

logger = logging.getLogger(__name__)

TTL_MARGIN_S = 30.0
SLOWEST_POLL_S = 1.0

Quorum = Callable[[dict[str, Outcome]], bool]
OnOutcome = Callable[[str, Outcome], None]

# What can go wrong between this process and its own server; ValueError is flwr's word for a response that is
# not the protobuf message it should be.
_BROKEN = (httpx.HTTPError, ObjectPushError, UnavailableError, ValueError)


class Federation:
    """The registered nodes and the server they connect to; a context manager that listens while it is open.

    Attributes:
        address: `host:port` where nodes connect, once open.

    Raises:
        UnavailableError: On opening, when the port is taken or the server does not start.
        ConfigError: On opening, when a certificate, key or database file cannot be used.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._bundle = manifest()
        self._run: Run | None = None
        self._registering, self._exchanging = threading.Lock(), threading.RLock()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._closing.clear()
        with ExitStack() as stack:
            self._superlink = stack.enter_context(SuperLink(self._settings))
            self._control = stack.enter_context(self._superlink.control())
            stack.callback(self._end_run)
            self.address = self._superlink.address
            with _answering():
                stop_earlier_runs(self._control)  # before any node asks for work
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with self._exchanging:  # until an exchange of another thread has noticed
            self._stack.close()

    def register(self, public_key: bytes, name: str) -> int:
        """Admit a node; the same key under the same name is admitted once.

        Args:
            public_key: EC P-384, PEM or OpenSSH.
            name: Names the node from now on.

        Returns:
            The node's id.

        Raises:
            UsageError: When the key is not of that kind, or the name is empty.
            AlreadyExistsError: When the name has another key, or the key another name or was unregistered.
        """
        pem = node_pem(public_key, name)
        with self._registering:
            for node in self._nodes():
                if node.public_key == pem and node.status == NodeStatus.UNREGISTERED:
                    raise AlreadyExistsError(f"the key of {name!r} was revoked; enrol with a new key")
                if node.public_key == pem and node.name == name:
                    return node.node_id
                if node.public_key == pem:
                    raise AlreadyExistsError(f"the key of {name!r} is registered as {node.name!r} already")
                if node.name == name and node.status != NodeStatus.UNREGISTERED:
                    raise AlreadyExistsError(
                        f"a node {name!r} with another key is registered; revoke it first"
                    )
            with _answering():
                return self._control.RegisterNode(RegisterNodeRequest(public_key=pem, name=name)).node_id

    def unregister(self, node: str | int) -> None:
        """Shut a node out for good, by name or id; its key is never admitted again.

        Raises:
            NotFoundError: When no such node is registered.
        """
        for known in self._nodes():
            if node in (known.name, known.node_id) and known.status != NodeStatus.UNREGISTERED:
                with _answering():
                    self._control.UnregisterNode(UnregisterNodeRequest(node_id=known.node_id))
                return
        raise NotFoundError(f"no node {node!r} is registered")

    def online(self) -> dict[str, int]:
        """Return name and id of every node that is connected."""
        return {name: presence.node_id for name, presence in self._presences().items()}

    def exchange(
        self,
        requests: Mapping[str, bytes],
        *,
        deadline_s: float,
        poll_s: float = 0.1,
        quorum: Quorum | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> dict[str, Outcome]:
        """Ask the named nodes and wait for their replies, the quorum or the deadline.

        Nodes that are offline are asked when they come online; nodes that went away are asked again when
        they come back, with the same bytes. One exchange runs at a time.

        Args:
            requests: Request bytes by node name.
            deadline_s: Time for the whole exchange, in seconds.
            poll_s: Pause between two looks for replies; grows with the time waited, to 1 s at most.
            quorum: Given the outcomes so far, says whether to stop waiting.
            on_outcome: Told each outcome as soon as it is known.

        Returns:
            One outcome for every name in `requests`.

        Raises:
            UnavailableError: When the federation is closed meanwhile.
        """
        tell: OnOutcome = on_outcome or (lambda _name, _outcome: None)
        exchange, started = Exchange(requests), time.monotonic()

        def is_over() -> bool:
            return not exchange.unanswered or bool(quorum and quorum(dict(exchange.outcomes)))

        with self._exchanging:
            try:
                over = is_over()
                while not over and (left_s := started + deadline_s - time.monotonic()) > 0:
                    for name in self._step(exchange, left_s):
                        tell(name, exchange.outcomes[name])
                    over = is_over()
                    if not over:
                        self._pause(poll_s, time.monotonic() - started, deadline_s)
            finally:
                if exchange.message_ids:
                    self._end_run()  # withdraws what was not pulled and refuses replies to this exchange
            for name in exchange.end(in_time=over):
                tell(name, exchange.outcomes[name])
            return dict(exchange.outcomes)

    def _pause(self, poll_s: float, waited_s: float, deadline_s: float) -> None:
        pause_s = max(poll_s, min(waited_s / 20, SLOWEST_POLL_S))
        if self._closing.wait(max(0.0, min(pause_s, deadline_s - waited_s))):
            raise UnavailableError("the Flower server was closed during an exchange")

    def _step(self, exchange: Exchange, left_s: float) -> list[str]:
        """Push what is due and pull what has come; return the names that have an outcome now."""
        try:
            run = self._running(exchange)
            for name, presence in exchange.due(self._presences()).items():
                # an exchange withdraws its messages itself: one that expired first would look like a lost node
                message_id = run.push(presence.node_id, exchange.requests[name], left_s + TTL_MARGIN_S)
                if message_id is not None:
                    exchange.sent(message_id, name, presence)
            awaited = exchange.message_ids
            news = []
            for arrival in run.pull(awaited, left_s) if awaited else []:
                if arrival.outcome is not None:
                    news.append(exchange.settle(arrival.message_id, arrival.source, arrival.outcome))
                elif (lost := exchange.lost(arrival.message_id)) is not None:
                    logger.info("node %s lost its request; it is asked again when it is back", lost)
            return [name for name in news if name is not None]
        except _BROKEN as error:
            logger.warning("Flower's run broke off (%s); a new one asks again", type(error).__name__)
            exchange.forget()
            self._end_run()
            return []

    def _running(self, exchange: Exchange) -> Run:
        """The run that messages travel in: a new one if there is none, or Flower gave it up."""
        if self._run is not None and self._run.lapsed:
            logger.info("this process stood still and Flower gave its run up; a new one asks again")
            exchange.forget()
            self._end_run()
        if self._run is None:
            self._run = Run(self._superlink, self._control, self._bundle)
        return self._run

    def _end_run(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None

    def _nodes(self) -> list[NodeInfo]:
        with _answering():
            return list(self._control.ListNodes(ListNodesRequest()).nodes_info)

    def _presences(self) -> dict[str, Presence]:
        return {
            node.name: Presence(node.node_id, node.last_activated_at)
            for node in self._nodes()
            if node.status == NodeStatus.ONLINE
        }


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(f"this process's Flower server fails ({type(error).__name__})") from error
