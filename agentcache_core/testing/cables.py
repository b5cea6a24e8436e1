"""A cable between a program and a server of this machine, that a test can cut and mend."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Cable:
    """A TCP proxy in front of a port of 127.0.0.1. While it is cut, connections through it end and new ones are closed
    at once. `port` is its own port."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._lock = threading.Lock()
        self._cut = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def cut(self) -> None:
        """End every connection, and let none through from now on."""
        with self._lock:
            self._cut = True
            ended, self._open = self._open, set()
        for end in ended:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """Cut for good and give the port back."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), name="cable", daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._server), 5) as server:
            ends = {client, server}
            with self._lock:
                if self._cut:
                    return
                self._open |= ends
            try:
                threading.Thread(target=_pump, args=(client, server), name="cable", daemon=True).start()
                _pump(server, client)
            finally:
                with self._lock:
                    self._open -= ends

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until one end is closed, then close the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
