"""Ways to make a real Redis and a real S3 endpoint misbehave, and to make them well again."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentcache_core.testing.servers import RedisServer, S3Server


class SlowlyLoading(RedisServer):
    """A Redis that, when started again, takes seconds to load what it saved, and says so meanwhile."""

    def answers(self) -> bool:
        return self.ask("PING").startswith(("+PONG", "-LOADING"))

    def load_slowly(self) -> None:
        for number in range(10):
            self.ask("SET", f"filler{number}", f"{number:x}" * 2_200_000)  # it looks up after every 2 MB loaded
        self.ask("SAVE")
        self.kill()
        self._options = ("--key-load-delay", "300000", "--rdbcompression", "no")
        self.start()

    def load_quickly(self) -> None:
        self.kill()
        self._options = ()
        self.start()


@contextmanager
def cutting_proxy(port: int, after: Callable[[], int | None]) -> Iterator[int]:
    """A TCP proxy in front of a port of this machine that cuts every connection after `after()` bytes of reply (None =
    never); answers its own port."""
    listener = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as server:
            threading.Thread(target=pump, args=(client, server, lambda: None), daemon=True).start()
            pump(server, client, after)

    def pump(source: socket.socket, sink: socket.socket, limit: Callable[[], int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                most = limit()
                sink.sendall(data if most is None else data[:most])
                if most is not None:
                    sink.shutdown(socket.SHUT_RDWR)
                    return

    def accept() -> None:
        while not closing.is_set():
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        closing.set()
        listener.close()


class S3Proxy:
    """An HTTP proxy in front of an S3 endpoint. `mode`: "" passes everything on, a status answers it, "hang" never
    answers, "cut" breaks the body off."""

    def __init__(self, server: S3Server) -> None:
        proxy = self
        self.mode: str | int = ""
        self.go = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.mode == "hang":
                    proxy.go.wait(60)
                    self.close_connection = True
                elif isinstance(proxy.mode, int):
                    self.send_response(proxy.mode)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.forward(body)

            def forward(self, body: bytes) -> None:
                upstream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                cut = proxy.mode == "cut" and len(data) > 1
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.close_connection = True
                upstream.close()

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self.go.set()
        self._http.shutdown()
        self._http.server_close()
