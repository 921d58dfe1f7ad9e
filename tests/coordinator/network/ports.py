"""What tests of this room share."""

import select
import socket
from contextlib import ExitStack

from coordinator.network.admission import Admission, AdmissionLimits

GOOD, STRANGER = "127.0.0.1", "127.0.0.2"


class Street:
    """A port of this process whose connections are accepted and held, and a door whose clock stands."""

    def __init__(self, stack: ExitStack, limits: AdmissionLimits) -> None:
        self.now, self._stack = 100.0, stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.door = Admission(limits, clock=lambda: self.now)
        self.door._port = self._listener.getsockname()[1]

    def comes(self, host: str) -> socket.socket:
        """A connection from an address, seen by the door a second after the one before."""
        theirs = self._stack.enter_context(
            socket.create_connection(self._listener.getsockname(), 5, (host, 0))
        )
        self._stack.enter_context(self._listener.accept()[0])
        self.now += 1
        self.door.look()
        return theirs


def is_open(connection: socket.socket) -> bool:
    return not select.select([connection], [], [], 0)[0]
