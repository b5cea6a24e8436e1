"""What does a hit on Redis cost through the backend and through the whole engine, beside redis-py and other caches?"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, cast

from agentcache_core import AsyncCache, Cache
from agentcache_core.testing.servers import RedisServer
from agentcache_core.urls import open_backend
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call

SIZES = {"1 KB": 1024, "100 KB": 102_400}
THREADS, BATCH, TURNS = 8, 100, 50
Contender = Callable[[], object]


def redis_py(port: int, data: bytes) -> Contender:
    import redis

    client = redis.Redis(port=port)
    client.set("peer", data)
    return lambda: client.get("peer")


def dogpile(port: int, data: bytes) -> Contender:
    from dogpile.cache import make_region

    arguments = {"port": port, "distributed_lock": False, "thread_local_lock": False}
    region = make_region().configure("dogpile.cache.redis", arguments=arguments)
    region.set("dogpile", data)
    return lambda: region.get("dogpile")


def litellm(port: int, data: bytes) -> Contender:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
    from litellm.caching.redis_cache import RedisCache

    cache = RedisCache(host="127.0.0.1", port=port)
    cache.set_cache("litellm", {"answer": data.hex()[: len(data)]})
    return lambda: cache.get_cache("litellm")


def langchain(port: int, data: bytes) -> Contender:
    import redis
    from langchain_core.outputs import Generation

    # It says that it is no longer developed, and at each look-up that a default will change.
    for said in ("`langchain-community` is being sunset", "The default value of `allowed_objects`"):
        warnings.filterwarnings("ignore", message=said)
    from langchain_community.cache import RedisCache

    cache = RedisCache(redis.Redis(port=port))
    cache.update("prompt", "model", [Generation(text=data.hex()[: len(data)])])
    return lambda: cache.lookup("prompt", "model")


def our_backend(port: int, data: bytes) -> Contender:
    backend: Any = open_backend(f"redis://127.0.0.1:{port}/0?timeout=5s")
    backend.put(b"bench/k", data)
    return lambda: backend.get(b"bench/k")


def our_engine(port: int, data: bytes) -> Contender:
    url = f"redis://127.0.0.1:{port}/0?timeout=5s"
    cache = Cache(url, background=False, maintenance="manual", inline_max="1MiB", namespace=f"bench{len(data)}")
    cache.set("a plain key", data)
    return lambda: cache.get("a plain key")


def our_blob(port: int, data: bytes) -> Contender:
    """What the engine does with large values unless told otherwise: two round trips, stored once."""
    url = f"redis://127.0.0.1:{port}/0?timeout=5s"
    cache = Cache(url, background=False, maintenance="manual", inline_max=0, namespace=f"blob{len(data)}")
    cache.set("a plain key", data)
    return lambda: cache.get("a plain key")


PEERS = {
    "redis-py": redis_py,
    "agentcache backend": our_backend,
    "agentcache engine": our_engine,
    "agentcache engine, as a blob": our_blob,
    "dogpile": dogpile,
    "LiteLLM RedisCache": litellm,
    "LangChain RedisCache": langchain,
}


def in_threads(get: Contender) -> Contender:
    """`TURNS` gets on each of eight threads at once."""

    def many() -> None:
        for _ in range(TURNS):
            get()

    def together() -> None:
        threads = [threading.Thread(target=many) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return together


def batches(port: int, data: bytes) -> dict[str, Contender]:
    import redis

    url = f"redis://127.0.0.1:{port}/0?timeout=5s"
    client, store = redis.Redis(port=port), cast(Any, open_backend(url))
    cache = Cache(url, background=False, maintenance="manual", namespace="batch")
    names = [f"bench/{number}" for number in range(BATCH)]
    ours = [name.encode() for name in names]
    for name in names:
        client.set(name, data)
        store.put(name.encode(), data)
    cache.set_many([(name, data) for name in names])
    return {
        "batch of 100: redis-py mget": lambda: client.mget(names),
        "batch of 100: agentcache backend": lambda: store.get_many(ours),
        "batch of 100: agentcache engine": lambda: cache.get_many(names),
    }


def on_a_loop(port: int, data: bytes, runner: asyncio.Runner) -> tuple[dict[str, Contender], dict[str, str]]:
    import redis.asyncio

    client = redis.asyncio.Redis(port=port)
    url = f"redis://127.0.0.1:{port}/0?timeout=5s"
    backend: Any = open_backend(url, face="async")
    cache = AsyncCache(url, background=False, maintenance="manual", namespace="loop")
    gets: dict[str, Callable[[], Awaitable[object]]] = {
        "redis.asyncio": lambda: client.get("loop"),
        "agentcache backend": lambda: backend.get(b"bench/loop"),
        "agentcache engine": lambda: cache.get("a plain key"),
    }

    async def fill() -> None:
        await client.set("loop", data)
        await backend.put(b"bench/loop", data)
        await cache.set("a plain key", data)

    runner.run(fill())
    left_out: dict[str, str] = {}
    for name, opens in {"aiocache": _aiocache, "cashews": _cashews}.items():
        try:
            gets[name] = runner.run(opens(port, data))
        except ImportError as error:
            left_out[f"asyncio: {name}"] = f"not installed: {error.name}"

    def turns(get: Callable[[], Awaitable[object]]) -> Contender:
        async def many() -> None:
            for _ in range(TURNS):
                await get()

        return lambda: runner.run(many())

    return {f"asyncio: {name}": turns(get) for name, get in gets.items()}, left_out


async def _aiocache(port: int, data: bytes) -> Callable[[], Awaitable[object]]:
    from aiocache import RedisCache
    from aiocache.serializers import NullSerializer

    cache = RedisCache(serializer=NullSerializer(encoding=None), endpoint="127.0.0.1", port=port)
    await cache.set("aiocache", data)
    return lambda: cache.get("aiocache")


async def _cashews(port: int, data: bytes) -> Callable[[], Awaitable[object]]:
    from cashews import Cache as Cashews

    cache = Cashews()
    cache.setup(f"redis://127.0.0.1:{port}/0", client_side=False)
    await cache.set("cashews", data)
    return lambda: cache.get("cashews")


def run(settings: Settings) -> Report:
    values: dict[str, float] = {}
    left_out: dict[str, str] = {}
    with RedisServer() as server, asyncio.Runner() as runner:
        for label, size in SIZES.items():
            data, gets = os.urandom(size), dict[str, Contender]()
            for name, opens in PEERS.items():
                try:
                    gets[f"{label}: {name}"] = opens(server.port, data)
                except ImportError as error:
                    left_out[name] = f"not installed: {error.name}"
            values |= nanoseconds_per_call(gets, settings, loops=400)
            if label == "1 KB":
                ours = {f"8 threads: {name}": in_threads(gets[f"{label}: {name}"]) for name in list(PEERS)[:3]}
                for name, value in nanoseconds_per_call(ours, settings, loops=1).items():
                    values[name] = value / THREADS / TURNS
                values |= nanoseconds_per_call(batches(server.port, data), settings, loops=40)
                loop, missing = on_a_loop(server.port, data, runner)
                left_out |= missing
                for name, value in nanoseconds_per_call(loop, settings, loops=2).items():
                    values[name] = value / TURNS
    first = {"1 KB": "redis-py", "100 KB": "redis-py", "8 threads": "redis-py", "batch of 100": "redis-py mget"}
    rows = tuple(
        Row(name, value / 1000, value / values[f"{group}: {first.get(group, 'redis.asyncio')}"])
        for name, value in values.items()
        for group in (name.partition(":")[0],)
    )
    goals = (
        Goal("1 KB: agentcache engine", "1 KB: redis-py", 1.0, 0.8),
        Goal("100 KB: agentcache engine", "100 KB: redis-py", 1.0, 0.8),
        Goal("batch of 100: agentcache backend", "batch of 100: redis-py mget", 1.3),
        Goal("batch of 100: agentcache engine", "batch of 100: redis-py mget", 1.3),
        Goal("asyncio: agentcache engine", "asyncio: redis.asyncio", 1.2),
    )
    return Report(__doc__ or "", "µs", rows, goals, left_out)
