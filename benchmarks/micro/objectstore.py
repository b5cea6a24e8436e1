"""What does reading 1 KB objects from S3 cost, one and fifty at a time, beside s3fs and obstore?

On moto by itself; `--backend ceph` starts Ceph's RADOS gateway instead (`make test-servers` fetches it), and
`--backend s3://bucket/folder?…` takes a store of your own, in which objects are written and left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentcache_backends.filesystem.s3.settings import S3Settings, settings_of
from agentcache_core.testing.ceph import CephGateway
from agentcache_core.testing.servers import S3Server
from agentcache_core.urls import open_backend, parse_url
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call

SIZE, BATCH = 1024, 50
Contender = Callable[[], object]
Pair = tuple[Contender, Contender]
OVER_S3FS, OVER_OBSTORE = "agentcache over s3fs", "agentcache over obstore"


def run(settings: Settings) -> Report:
    data, left_out = os.urandom(SIZE), dict[str, str]()
    names = [f"bench/{number}" for number in range(BATCH)]
    with _store(settings.url) as (url, what), asyncio.Runner() as runner:
        place = settings_of(parse_url(url))
        singles, batches = {}, {}
        for peer, opens in {
            "s3fs": lambda: _s3fs(place, names, data),
            OVER_S3FS: lambda: _ours(url, "s3fs", names, data),
            "obstore": lambda: _obstore(place, names, data, runner),
            OVER_OBSTORE: lambda: _ours(url, "obstore", names, data),
        }.items():
            try:
                single, batch = opens()
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
        Goal(f"one get, {OVER_S3FS}", "one get, s3fs", 1.2),
        Goal(f"fifty gets, {OVER_S3FS}", "fifty gets, s3fs", 0.5),
        Goal(f"fifty gets, {OVER_OBSTORE}", "fifty gets, s3fs", 0.5),
        # At least 0.8 of obstore's own throughput.
        Goal(f"one get, {OVER_OBSTORE}", "one get, obstore", 1.25),
        Goal(f"fifty gets, {OVER_OBSTORE}", "fifty gets, obstore", 1.25),
    )
    question = f"{(__doc__ or '').partition(chr(10))[0]} On {what}."
    return Report(question, "µs", rows, goals, left_out)


@contextmanager
def _store(chosen: str | None) -> Iterator[tuple[str, str]]:
    """The URL of the store to measure, and what it is."""
    if chosen is None:
        with S3Server() as server:
            yield server.url, "moto, one Python process that bounds every contender"
    elif chosen == "ceph":
        with CephGateway() as gateway:
            yield gateway.url, "Ceph's RADOS gateway 16, one storage daemon in memory, on the same machine"
    else:
        yield chosen, parse_url(chosen).shown


def _inside(url: str, folder: str) -> str:
    place, _, options = url.partition("?")
    return f"{place}/{folder}?{options}"


def _s3fs(place: S3Settings, names: list[str], data: bytes) -> Pair:
    import s3fs

    from agentcache_backends.filesystem.s3.through_s3fs import s3fs_options

    options = s3fs_options(place)
    del options["config_kwargs"]  # as it comes
    fs = s3fs.S3FileSystem(**options)
    paths = [f"{place.bucket}/{place.folder}s3fs/{name}" for name in names]
    for path in paths:
        fs.pipe_file(path, data)
    return lambda: fs.cat_file(paths[0]), lambda: fs.cat(paths)


def _ours(url: str, client: str, names: list[str], data: bytes) -> Pair:
    backend: Any = open_backend(_inside(f"{url}&client={client}", f"ours-{client}"))
    ours = [name.encode() for name in names]
    for name in ours:
        backend.put(name, data)
    return lambda: backend.get(ours[0]), lambda: backend.get_many(ours)


def _obstore(place: S3Settings, names: list[str], data: bytes, runner: asyncio.Runner) -> Pair:
    import obstore
    from obstore.store import S3Store

    named = {"access_key_id": place.key, "secret_access_key": place.secret} if place.key else {}
    store = S3Store(
        place.bucket,
        prefix=f"{place.folder}obstore",
        region=place.region or "us-east-1",
        client_options={"allow_http": True},
        **({"endpoint": place.endpoint} if place.endpoint else {}),
        **named,
    )
    for name in names:
        obstore.put(store, name, data)

    async def one(name: str) -> object:
        return await (await obstore.get_async(store, name)).bytes_async()

    async def many() -> object:
        return await asyncio.gather(*(one(name) for name in names))

    return lambda: obstore.get(store, names[0]).bytes(), lambda: runner.run(many())
