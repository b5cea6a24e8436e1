"""Upstash passes the conformance suite: its REST interface, spoken strictly, in front of a real Redis."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from agentcache_backends.upstash import UpstashBackend
from agentcache_core import Cache, Tier
from agentcache_core.clock import Clock
from agentcache_core.errors import BackendError, BackendUnavailable, ConfigurationError
from agentcache_core.testing import BackendSuite

pytestmark = pytest.mark.redis
TOKEN = "upstash-token"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def rest(_redis_address: str) -> Iterator[str]:
    """The address of a REST interface as Upstash documents it, over a real Redis."""
    client = redis.Redis.from_url(_redis_address.partition("?")[0], decode_responses=True)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self._answer(401, {"error": "Unauthorized"})
            elif self.path == "/pipeline":
                self._answer(200, [self._one(command) for command in body])
            else:
                answer = self._one(body)
                self._answer(400 if "error" in answer else 200, answer)

        def _one(self, command: list[str]) -> dict[str, Any]:
            if not command or not all(isinstance(part, str) for part in command):
                return {"error": "ERR a command is a list of texts"}
            try:
                return {"result": _plain(client, command)}
            except redis.ResponseError as error:
                return {"error": str(error)}

        def _answer(self, status: int, answer: Any) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
    client.close()


def _plain(client: redis.Redis, command: list[str]) -> Any:
    """The server's own answer, as Upstash passes it on."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


class TestUpstash(BackendSuite):
    @pytest.fixture(autouse=True)
    def _rest(self, rest: str) -> None:
        self.address = rest
        self.prefix = f"t{next(_numbers)}:"

    def open(self, place: Path, clock: Clock) -> Any:
        return UpstashBackend(self.address, TOKEN, prefix=self.prefix, clock=clock)


def test_a_cache_uses_it_as_its_shared_tier(rest: str) -> None:
    tier = Tier(UpstashBackend(rest, TOKEN, prefix="shared:"))
    with Cache(["memory://", tier], deadline="10s") as writer:
        writer.set("question", {"answer": 42}, ttl="1h")
    with Cache(["memory://", Tier(UpstashBackend(rest, TOKEN, prefix="shared:"))], deadline="10s") as reader:
        assert reader.get("question") == {"answer": 42}


def test_trouble_is_told_without_the_token(rest: str) -> None:
    with contextlib.closing(UpstashBackend(rest, "wrong")) as backend:
        with pytest.raises(BackendError, match="refuses the token"):
            backend.get(b"k")
        assert "wrong" not in repr(backend)
    with (
        contextlib.closing(UpstashBackend("http://127.0.0.1:9", TOKEN)) as backend,
        pytest.raises(BackendUnavailable, match="did not answer"),
    ):
        backend.get(b"k")
    with pytest.raises(ConfigurationError, match="https"):
        UpstashBackend("redis://example.com", TOKEN)
