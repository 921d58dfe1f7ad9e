"""The coordinator's side of Flower: sends bytes to named nodes and returns their replies by a deadline.

with Federation(settings) as federation:
    federation.register(public_key_pem, "clinic-a")
    outcomes = federation.exchange({"clinic-a": request}, deadline_s=600)
    outcomes["clinic-a"].reply
"""

import os

# Flower reads both at its import; otherwise it reports starts and stops to its makers and looks for updates.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Self

from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.constant import NodeStatus
from sqlalchemy.exc import SQLAlchemyError

from coordinator.flower import key_format
from coordinator.flower.app_bundle import manifest
from coordinator.flower.exchange import Awaited, Exchange, Presence
from coordinator.flower.run import BROKEN, Run, answering, stop_earlier_runs
from coordinator.flower.superlink import SuperLink
from coordinator.network.https_server import LinkSettings
from coordinator.rounds.fleet import IsOver, OnOutcome, Outcome, ignore
from transfer.errors import AlreadyExistsError, NotFoundError, UnavailableError

logger = logging.getLogger(__name__)
SLOWEST_POLL_S = 1.0
LAST_LOOK_S = 2.0  # for the remaining parts of a reply that started before the deadline
LATE_S = 3600.0
"""Time after an exchange in which replies of working nodes still arrive, in seconds."""


class Federation:
    """The registered nodes and their server; a context manager that listens while it is open.

    Attributes:
        address: `host:port` where nodes connect, once open.

    Raises:
        UnavailableError: On opening, when the port is in use or the server does not start.
        ConfigError: On opening, when a certificate, key or database file is not usable.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._bundle = manifest()
        self._run: Run | None = None
        self._awaited: list[Awaited] = []
        self._registering, self._exchanging = threading.Lock(), threading.RLock()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._closing.clear()
        with ExitStack() as stack:
            self._superlink = stack.enter_context(SuperLink(self._settings))
            self._control = stack.enter_context(self._superlink.control())
            stack.callback(self._end_run)
            self.address = self._superlink.address
            with answering():
                stop_earlier_runs(self._control)  # before any node pulls a message
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with self._exchanging:  # wait until an exchange of another thread ends
            self._stack.close()

    def register(self, public_key: bytes, name: str) -> int:
        """Admit a node; the same key under the same name is admitted once.

        Args:
            public_key: EC P-384, PEM or OpenSSH.
            name: Name of the node.

        Returns:
            The node's id.

        Raises:
            UsageError: When the key is not of that kind, or the name is empty.
            AlreadyExistsError: When the name has another key, or the key another name or was unregistered.
        """
        pem = key_format.pem(public_key, name)
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
            with answering():
                return self._control.RegisterNode(RegisterNodeRequest(public_key=pem, name=name)).node_id

    def unregister(self, node: str | int) -> None:
        """Unregister a node for good, by name or id; its key is never admitted again.

        Raises:
            NotFoundError: When no such node is registered.
        """
        for known in self._nodes():
            if node in (known.name, known.node_id) and known.status != NodeStatus.UNREGISTERED:
                with answering():
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
        is_over: IsOver | None = None,
        on_outcome: OnOutcome = ignore,
        on_late: OnOutcome = ignore,
    ) -> dict[str, Outcome]:
        """Ask the named nodes and wait for their replies, `is_over` or the deadline.

        An offline node receives its request when it connects. A node that reconnects receives the same bytes again.
        At the end, a node that has not received its request never will. Only one exchange runs at a time.

        Args:
            requests: Request bytes by node name.
            deadline_s: Longest duration of the exchange, in seconds.
            poll_s: First pause between two polls for replies; grows with the time waited, up to 1 s.
            is_over: Returns, for the outcomes so far, whether to stop waiting.
            on_outcome: Receives each outcome as soon as it is known.
            on_late: Receives the replies of working nodes that arrive within `LATE_S` after the end.

        Returns:
            One outcome for every name in `requests`.

        Raises:
            UnavailableError: When the federation closes during the exchange.
        """
        exchange, started = Exchange(requests), time.monotonic()

        def is_done() -> bool:
            return not exchange.unanswered or bool(is_over and is_over(dict(exchange.outcomes)))

        with self._exchanging:
            self._awaited.append(Awaited(exchange, on_outcome))
            try:
                done, left_s = is_done(), deadline_s
                while not done and left_s > 0:
                    left_s = started + deadline_s - time.monotonic()
                    # poll once more after the deadline, because a reply just before it is in time
                    self._step(exchange, left_s)
                    done = is_done()
                    if not done:
                        self._pause(poll_s, time.monotonic() - started, deadline_s)
            finally:
                self._leave(exchange, on_late)
            for name in exchange.end(in_time=done):
                on_outcome(name, exchange.outcomes[name])
            return dict(exchange.outcomes)

    def listen(self) -> None:
        """Receive replies that arrived too late, and pass each to the `on_late` of its exchange."""
        with self._exchanging:
            self._awaited = [item for item in self._awaited if item.is_alive]
            if self._awaited:
                self._step(None, 0.0)

    def _leave(self, exchange: Exchange, on_late: OnOutcome) -> None:
        """Withdraw messages that no node pulled, and keep waiting for the nodes that work on theirs."""
        self._awaited = [item for item in self._awaited if item.exchange is not exchange and item.is_alive]
        if self._run is None or not exchange.message_ids:
            return
        try:
            rest = exchange.overdue(self._run.withdraw(exchange.node_ids))
            self._awaited.append(Awaited(rest, on_late, time.monotonic() + LATE_S))
        except SQLAlchemyError:
            logger.exception("Flower's database fails")
            self._end_run()

    def _pause(self, poll_s: float, waited_s: float, deadline_s: float) -> None:
        pause_s = max(poll_s, min(waited_s / 20, SLOWEST_POLL_S))
        if self._closing.wait(max(0.0, min(pause_s, deadline_s - waited_s))):
            raise UnavailableError("the Flower server was closed during an exchange")

    def _step(self, exchange: Exchange | None, left_s: float) -> None:
        """Push the due messages of an exchange while time remains; then pull and pass on replies to any exchange."""
        awaited, arrivals = {}, []
        try:
            run = self._running()
            if exchange is not None and left_s > 0:
                self._push(run, exchange, left_s)
            awaited = {number: item for item in self._awaited for number in item.exchange.message_ids}
            arrivals = run.pull(awaited.keys(), max(left_s, LAST_LOOK_S)) if awaited else []
        except BROKEN as error:
            logger.warning("Flower's run broke off (%s); a new one asks again", type(error).__name__)
            self._end_run()
        for arrival in arrivals:
            awaited[arrival.message_id].note(arrival.message_id, arrival.source, arrival.outcome)

    def _push(self, run: Run, exchange: Exchange, left_s: float) -> None:
        for name, presence in exchange.due(self._presences()).items():
            # an exchange withdraws its messages itself, because an expired message looks like a lost node
            message_id = run.push(presence.node_id, exchange.requests[name], left_s + LATE_S)
            if message_id is not None:
                exchange.sent(message_id, name, presence)

    def _running(self) -> Run:
        """Return the current run; start a new one if there is none, or if Flower gave it up."""
        if self._run is not None and self._run.lapsed:
            logger.info("this process stood still and Flower gave its run up; a new one asks again")
            self._end_run()
        if self._run is None:
            self._run = Run(self._superlink, self._control, self._bundle)
        return self._run

    def _end_run(self) -> None:
        """End the run: unpulled messages are withdrawn, later replies refused, and unanswered requests due again."""
        for item in self._awaited:
            item.exchange.forget()
        if self._run is not None:
            self._run.close()
            self._run = None

    def _nodes(self) -> list[NodeInfo]:
        with answering():
            return list(self._control.ListNodes(ListNodesRequest()).nodes_info)

    def _presences(self) -> dict[str, Presence]:
        return {
            node.name: Presence(node.node_id, node.last_activated_at)
            for node in self._nodes()
            if node.status == NodeStatus.ONLINE
        }
