"""Ways to make a real Redis and a real S3 endpoint misbehave, and to make them well again."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import subprocess
import sys
import threading
from typing import Self

import redis

from agentcache_core import Cache
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


class RedisProxy:
    """A TCP proxy in front of a port of this machine; a context manager. Of every reply, "cut" lets three bytes pass
    and hangs up, "drip" one in a tenth of a second, "" all."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._mode = ""
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def to(self, mode: str) -> None:
        """Change what becomes of replies. Connections stay, but for those that wait for dripping bytes."""
        self._mode = mode

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for each in [self._listener, *self._open]:
            each.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._behind), 5) as server:
            threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
            while data := server.recv(65536):
                if self._mode == "cut":
                    client.sendall(data[:3])
                    client.shutdown(socket.SHUT_RDWR)  # to close it would wait for who reads from it
                    return
                for at in range(len(data)):
                    if self._mode != "drip":
                        client.sendall(data[at:])
                        break
                    client.sendall(data[at : at + 1])
                    self._closing.wait(0.1)

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


def set_password(port: int, old: str, new: str) -> None:
    """Change the password of a Redis and hang up on everybody who knew the old one."""
    with redis.Redis(port=port, password=old) as client:
        client.config_set("requirepass", new)
        client.client_kill_filter(_type="normal", skipme=True)


class OtherProcess:
    """A second process with a cache on the same Redis and a memory tier before it; a context manager."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OTHER, self._url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _ask(self, *words: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def remember_what_is_invalidated(self) -> None:
        """Have an answer in its memory and in the Redis that this process then invalidates."""
        with Cache(self._url, deadline="10s") as here:
            assert self._ask("set", "shared", "old") == "True"
            assert self._ask("get", "shared") == "old"
            here.invalidate(tag="old")
            assert not here.stats().further["pending_invalidations"]

    def has_forgotten(self) -> bool:
        """Whether it no longer serves that answer, asked several times, and stores what it computes."""
        gone = all(self._ask("get", "shared") == "MISSING" for _ in range(3))
        return gone and self._ask("set", "own", "new") == "True" and self._ask("get", "own") == "new"


_OTHER = """
import sys
from agentcache_core import Cache
with Cache(["memory://", sys.argv[1]], deadline="10s", max_staleness="1s", maintenance="manual") as cache:
    for line in sys.stdin:
        verb, key, *value = line.split()
        print(cache.set(key, *value, tags=["old"]) if verb == "set" else cache.get(key, default="MISSING"), flush=True)
"""


class S3Proxy:
    """An HTTP proxy in front of an S3 endpoint. `mode`: "" passes everything on, a status answers it, "hang" never
    answers, "cut" breaks the body off."""

    def __init__(self, server: S3Server) -> None:
        proxy = self
        self.mode: str | int = ""
        self._go = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.mode == "hang":
                    proxy._go.wait(60)
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

    def to(self, mode: str | int) -> None:
        """Change what becomes of requests, and let go of those that hang."""
        held, self._go = self._go, threading.Event()
        self.mode = mode
        held.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._http.shutdown()
        self._http.server_close()
