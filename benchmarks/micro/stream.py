"""When does the first token of a stream arrive with the caching transport and without it, and how fast is a replay?"""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against

TOKENS = 60
BARE = "first token, bare client"


def _events() -> list[bytes]:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    return [*(event({"content": f"token{i} "}) for i in range(TOKENS)), event({}, "stop"), b"data: [DONE]\n\n"]


@contextmanager
def _provider() -> Iterator[str]:
    """A server on a free port that answers every call with the same stream, over real sockets, one event a chunk."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in _events()]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as incoming:
            while line := incoming.readline():
                length = 0
                while line not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    line = incoming.readline()
                incoming.read(length)
                connection.sendall(head)
                for chunk in chunks:
                    connection.sendall(chunk)
                connection.sendall(b"0\r\n\r\n")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def run(settings: Settings) -> Report:
    try:
        import httpx2

        from agentcache_adapters.http.httpx2 import CacheTransport
    except ImportError as error:
        return Report(__doc__ or "", "ns", (), left_out={"everything": f"not installed: {error.name}"})
    turn = itertools.count()
    body: dict[str, Any] = {"model": "gpt-5", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    def first(client: httpx2.Client, url: str, asked: dict[str, Any]) -> list[bytes]:
        with client.stream("POST", url, json=asked) as response:
            chunks = response.iter_raw()
            seen = [next(chunks)]
            times.append(clock() - started[0])
            seen.extend(chunks)
        return seen

    import time

    clock, started, times = time.perf_counter_ns, [0], []

    def first_token(client: httpx2.Client, url: str, *, fresh: bool) -> float:
        started[0] = clock()
        first(client, url, {**body, "seed": next(turn)} if fresh else body)
        return float(times[-1])

    with (
        _provider() as url,
        Cache(settings.url or "memory://", background=False, maintenance="manual") as cache,
        httpx2.Client() as bare,
        httpx2.Client(transport=CacheTransport(cache)) as caching,
    ):
        for client in (bare, caching, caching):
            first_token(client, url, fresh=False)
        samples: dict[str, list[float]] = {BARE: [], "first token, a miss": [], "first token, a replay": []}
        for _ in range(settings.loops(2000) if not settings.small else 3):
            samples[BARE].append(first_token(bare, url, fresh=True))
            samples["first token, a miss"].append(first_token(caching, url, fresh=True))
            samples["first token, a replay"].append(first_token(caching, url, fresh=False))
        values = {name: sorted(found)[len(found) // 2] for name, found in samples.items()}
        whole = nanoseconds_per_call(
            {
                "whole stream, bare client": lambda: first(bare, url, {**body, "seed": next(turn)}),
                "whole stream, a miss": lambda: first(caching, url, {**body, "seed": next(turn)}),
                "whole stream, a replay": lambda: first(caching, url, body),
            },
            settings,
            loops=30,
        )
    goals = (
        Goal("first token, a miss", BARE, 1.5, 1.2),
        Goal("whole stream, a miss", "whole stream, bare client", 1.5, 1.2),
        Goal("whole stream, a replay", "whole stream, bare client", 1.0),
    )
    return Report(__doc__ or "", "ns", rows_against(values | whole, BARE), goals, extra={"events": TOKENS + 2})
