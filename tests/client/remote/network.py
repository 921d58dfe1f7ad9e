"""What tests of this room share."""

import socket
import threading
from contextlib import suppress

import grpc

from promptferry.v1 import service_pb2, service_pb2_grpc


class Cable:
    """A TCP relay to a port that cuts each connection after some bytes to the caller; None never does."""

    def __init__(self, port: int, cuts: list[int | None]) -> None:
        self._port, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would let a waiting accept finish
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            left = self._cuts.pop(0) if self._cuts else None
            far = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, left), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        try:
            while (left is None or left > 0) and (data := source.recv(4096)):
                sink.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Hostile(service_pb2_grpc.PromptServiceServicer, service_pb2_grpc.ProxyServiceServicer):
    """Answers with whatever it was given."""

    def __init__(self, version: service_pb2.PromptVersion, proxy: service_pb2.Proxy) -> None:
        self.version, self.proxy = version, proxy

    def GetPromptVersion(self, _request, _context):  # noqa: N802
        return self.version

    def GetProxy(self, _request, context):  # noqa: N802
        context.set_trailing_metadata((("promptferry-error", "not_found"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "\x1b[2Jgone\nforever")
