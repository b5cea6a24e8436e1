"""A load generator that costs little: one process, one thread, requests encoded beforehand, answers hardly looked at.

Clients and servers share the machine's cores here, so every microsecond of a client is one that a server does not get.
This one takes a twentieth of what a server takes for a call. Run as a program it prints one JSON object.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Driven:
    """What came of it: calls answered, how many not with 200, seconds, and CPU seconds of the generator itself."""

    calls: int
    refused: int
    seconds: float
    cpu: float


def drive(port: int, key: str, body: bytes, *, connections: int, seconds: float) -> Driven:
    """Have a process of its own ask for `/api/cache/get` over several connections, one call at a time on each."""
    command = [sys.executable, "-m", "benchmarks.load._wire", str(port), key, str(connections), str(seconds)]
    done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=seconds + 120)
    return Driven(**json.loads(done.stdout))


def _request(key: str, body: bytes) -> bytes:
    head = (
        "POST /api/cache/get HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-API-Key: {key}\r\nX-Namespace: storage\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection:
    """One connection: sends, and says when an answer is complete."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self._due = 0

    def receive(self) -> int:
        """The status of an answer that is complete now, else 0. Raises when the server closes."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection under load")
        got = self._got + data if self._got else data
        if not self._due:
            end = got.find(_END)
            if end < 0:
                self._got = got
                return 0
            at = got.find(_LENGTH) + len(_LENGTH)
            self._due = end + len(_END) + int(got[at : got.find(b"\r", at)])
        if len(got) < self._due:
            self._got = got
            return 0
        self._got, self._due = b"", 0
        return int(got[9:12])


def _run(port: int, key: str, connections: int, seconds: float, body: bytes) -> Driven:
    request, waiting = _request(key, body), selectors.DefaultSelector()
    lines = [_Connection(port) for _ in range(connections)]
    for line in lines:
        waiting.register(line.socket, selectors.EVENT_READ, line)
        line.socket.sendall(request)
    calls = refused = 0
    began, spent = time.perf_counter(), time.process_time()
    until = began + seconds
    while time.perf_counter() < until:
        for ready, _ in waiting.select(1.0):
            status = ready.data.receive()
            if status:
                calls += 1
                refused += status != 200
                ready.data.socket.sendall(request)
    took, cpu = time.perf_counter() - began, time.process_time() - spent
    for line in lines:
        line.socket.close()
    return Driven(calls, refused, took, cpu)


if __name__ == "__main__":
    found = _run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.stdin.buffer.read())
    print(json.dumps({name: getattr(found, name) for name in Driven.__slots__}))
