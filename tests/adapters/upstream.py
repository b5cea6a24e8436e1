"""A local model provider for tests: real HTTP, real wire formats, every call counted, every answer numbered.

Because answers are numbered, two equal answers prove that the second one did not come from here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

from wire_answers import Answer, answer_for


@dataclass(slots=True)
class Seen:
    """One call as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Upstream:
    """What tests steer and read. Hooks run in the server's threads."""

    url: str = ""
    calls: list[Seen] = field(default_factory=list)
    failures: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    script: Callable[[int, Seen], Answer | None] = lambda _number, _seen: None
    before_answer: Callable[[int], object] = lambda _number: None
    before_event: Callable[[int], object] = lambda _index: None
    break_after: int | None = None
    cut_every: int | None = None
    hung_up: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        return len(self.calls)

    def receive(self, seen: Seen) -> Answer:
        with self._lock:
            self.calls.append(seen)
            number = len(self.calls)
            if self.failures:
                status, error = self.failures.pop(0)
                return Answer(error, status=status)
        self.before_answer(number)
        return self.script(number, seen) or answer_for(number, seen.method, seen.path, seen.body)


def _handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = upstream.receive(Seen(self.command, self.path, headers, body))
            try:
                if answer.events is not None:
                    self._stream(answer.events)
                else:
                    self._whole(answer)
            except (BrokenPipeError, ConnectionResetError):
                upstream.hung_up.set()
                self.close_connection = True

        do_GET = do_POST = do_DELETE = _serve

        def _whole(self, answer: Answer) -> None:
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(content)))
            self.send_header("x-request-id", f"req_{upstream.count}")
            self.send_header("set-cookie", "__cf_bm=secret-cookie")
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, events: list[bytes]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for index, event in enumerate(events):
                if upstream.break_after == index:
                    self.close_connection = True
                    return
                upstream.before_event(index)
                for piece in _cut(event, upstream.cut_every):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    return Handler


def _cut(event: bytes, every: int | None) -> Iterator[bytes]:
    places = [*range(0, len(event), every), len(event)] if every else [0, len(event)]
    for begin, end in pairwise(places):
        yield event[begin:end]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextmanager
def serve() -> Iterator[Upstream]:
    """A server on a free port of this machine, for the length of the block."""
    upstream = Upstream()
    server = _Server(("127.0.0.1", 0), _handler(upstream))
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
