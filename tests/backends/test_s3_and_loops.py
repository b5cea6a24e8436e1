"""A slow S3 store never stops an event loop: it answers only after the loop went on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentcache_core.model import MISSING
from agentcache_core.urls import open_backend

pytestmark = pytest.mark.s3


class _Slow:
    """An S3 endpoint that has nothing, and says so only when it is let."""

    def __init__(self) -> None:
        self.asked, self.let, self.in_vain = threading.Event(), threading.Event(), False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.set()
                outer.in_vain = outer.in_vain or not outer.let.wait(15)
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_DELETE = do_GET

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()


@pytest.fixture
def slow() -> Iterator[_Slow]:
    store = _Slow()
    yield store
    store.let.set()
    store.server.shutdown()
    store.server.server_close()
    store.thread.join(10)


@pytest.mark.parametrize("client", ["obstore", "s3fs"])
async def test_a_loop_goes_on_while_a_slow_store_is_asked(slow: _Slow, client: str) -> None:
    port = slow.server.server_address[1]
    url = f"s3://b/p?endpoint=http://127.0.0.1:{port}&key=K&secret=S&timeout=20s&client={client}"
    backend: Any = open_backend(url, face="async")
    for call in (lambda: backend.get(b"k"), lambda: backend.get_many([b"a", b"b"]), lambda: backend.delete(b"k")):
        slow.asked.clear()
        slow.let.clear()
        asking = asyncio.create_task(call())
        ticks = 0
        while not slow.asked.is_set() or ticks < 100:
            ticks += 1
            await asyncio.sleep(0.001 if ticks > 100 else 0)
            assert not asking.done()
        slow.let.set()
        assert await asking in (MISSING, [MISSING, MISSING], False)
    assert not slow.in_vain
    await backend.close()
