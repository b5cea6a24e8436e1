"""What does reading 1 KB objects from S3 cost, one and fifty at a time, beside s3fs and obstore?"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from agentcache_core.testing.servers import S3Server
from agentcache_core.urls import open_backend
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call

SIZE, BATCH = 1024, 50
Contender = Callable[[], object]
KEY = "testing"


def run(settings: Settings) -> Report:
    data, left_out = os.urandom(SIZE), dict[str, str]()
    names = [f"bench/{number}" for number in range(BATCH)]
    with S3Server() as server, asyncio.Runner() as runner:
        singles, batches = {}, {}
        for peer, opens in {"s3fs": _s3fs, "agentcache s3://": _ours, "obstore": _obstore}.items():
            try:
                single, batch = opens(server, names, data, runner)
            except ImportError as error:
                left_out[peer] = f"not installed: {error.name}"
                continue
            singles[f"one get, {peer}"] = single
            batches[f"fifty gets, {peer}"] = batch
        values = nanoseconds_per_call(singles, settings, loops=20) | nanoseconds_per_call(batches, settings, loops=1)
    rows = tuple(
        Row(name, value / 1000, value / values[f"{name.partition(',')[0]}, s3fs"]) for name, value in values.items()
    )
    goals = (
        Goal("one get, agentcache s3://", "one get, s3fs", 1.2),
        Goal("fifty gets, agentcache s3://", "fifty gets, s3fs", 0.5),
    )
    note = {"server": "moto, one Python process: it bounds every contender"}
    return Report(__doc__ or "", "µs", rows, goals, left_out, note)


def _s3fs(server: S3Server, names: list[str], data: bytes, runner: asyncio.Runner) -> tuple[Contender, Contender]:
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=server.endpoint, key=KEY, secret=KEY)
    paths = [f"{server.bucket}/s3fs/{name}" for name in names]
    for path in paths:
        fs.pipe_file(path, data)
    return lambda: fs.cat_file(paths[0]), lambda: fs.cat(paths)


def _ours(server: S3Server, names: list[str], data: bytes, runner: asyncio.Runner) -> tuple[Contender, Contender]:
    place, _, options = server.url.partition("?")
    backend: Any = open_backend(f"{place}/ours?{options}")
    ours = [name.encode() for name in names]
    for name in ours:
        backend.put(name, data)
    return lambda: backend.get(ours[0]), lambda: backend.get_many(ours)


def _obstore(server: S3Server, names: list[str], data: bytes, runner: asyncio.Runner) -> tuple[Contender, Contender]:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=KEY,
        secret_access_key=KEY,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    for name in names:
        obstore.put(store, f"obstore/{name}", data)

    async def one(name: str) -> object:
        return await (await obstore.get_async(store, f"obstore/{name}")).bytes_async()

    async def many() -> object:
        return await asyncio.gather(*(one(name) for name in names))

    return lambda: obstore.get(store, f"obstore/{names[0]}").bytes(), lambda: runner.run(many())
