"""The async face holds no event loop up: what takes long for large values and assets is done on other threads."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from agentcache_core import AsyncCache, Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import is_bulky
from agentcache_core.resilience import in_threads
from agentcache_core.store import cuts
from agentcache_core.store.blobs import OFFLOAD_FROM
from agentcache_core.testing import DictBackend
from agentcache_core.writing import Writer

LARGE = random.Random(1).randbytes(2_000_000)
NESTED = {"rows": [{"number": number, "pair": (number, "text")} for number in range(5000)]}
CONTENT = random.Random(2).randbytes(9_000_000)


class Kept(DictBackend):
    """A backend that outlives the caches on it."""

    def close(self) -> None:
        """What is stored can still be looked at."""


WAYS: dict[str, Callable[[AsyncCache], Awaitable[object]]] = {
    "set a large value": lambda cache: cache.set("key", LARGE),
    "set a value of many items": lambda cache: cache.set("key", NESTED),
    "set several": lambda cache: cache.set_many([("a", LARGE), ("b", NESTED)]),
    "compute": lambda cache: cache.get_or_compute("key", lambda: LARGE),
    "get a large value": lambda cache: cache.get("stored"),
    "get several": lambda cache: cache.get_many(["stored", "stored too"]),
    "put an asset": lambda cache: cache.put_asset("asset", CONTENT),
    "put a small asset": lambda cache: cache.put_asset("asset", CONTENT[:200_000]),
    "read an asset": lambda cache: _read(cache),
}


async def _read(cache: AsyncCache) -> bytes:
    return await (await cache.open_asset("stored asset")).readall()


@pytest.mark.parametrize("inline_max", ["16KiB", "64MiB"], ids=["as blobs", "inline"])
@pytest.mark.parametrize("how", WAYS)
def test_nothing_that_takes_long_runs_on_the_loops_thread(
    how: str, inline_max: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Kept()
    with Cache(store, inline_max=inline_max, maintenance="manual") as cache:
        cache.set("stored", LARGE)
        cache.set("stored too", NESTED)
        cache.put_asset("stored asset", CONTENT[:200_000])
    took: list[tuple[str, int, bool]] = []
    the_loops = threading.get_ident()

    def watched(name: str, work: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            took.append((name, size(*args, **options), threading.get_ident() == the_loops))
            return work(*args, **options)

        return run

    for name, size in (
        ("seal", lambda self, content, header, body, **_: len(body)),
        ("open", lambda self, content, data, **_: len(data)),
        ("digest", lambda self, payload: len(payload)),
    ):
        monkeypatch.setattr(Pipeline, name, watched(name, getattr(Pipeline, name), size))
    monkeypatch.setattr(Writer, "pack", watched("pack", Writer.pack, lambda self, value, _: 10**9 * is_bulky(value)))
    monkeypatch.setattr(cuts.ContentCuts, "cut", watched("cut", cuts.ContentCuts.cut, lambda self, it, **_: len(it)))

    async def work() -> None:
        async with AsyncCache(
            in_threads(store), inline_max=inline_max, maintenance="manual", background=False, deadline="60s"
        ) as cache:
            assert await WAYS[how](cache)

    asyncio.run(work())
    large = [(name, size) for name, size, on_the_loop in took if size >= OFFLOAD_FROM and on_the_loop]
    assert large == []
    assert any(size >= OFFLOAD_FROM or how.endswith("asset") for _, size, _ in took)
    together = sum(size for _, size, on_the_loop in took if on_the_loop)
    assert together < 2 * OFFLOAD_FROM + 200_000 * (how == "read an asset"), "nor many small ones in a row"


class Heartbeat:
    """How long a loop did not come to its other tasks, at worst, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._going = True

    async def beat(self) -> None:
        last = time.perf_counter()
        while self._going:
            await asyncio.sleep(0)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

    def stop(self) -> None:
        self._going = False


def costs(what: str) -> Iterator[tuple[float, float]]:
    """The seconds that something takes on the blocking face, and the longest gap of a loop while it goes on there."""
    value, other = (random.Random(seed).randbytes(6 << 20).hex().encode() for seed in (4, 5))
    for _ in range(5):
        with Cache(Kept(), maintenance="manual", background=False, deadline="60s") as blocking:
            before = time.perf_counter()
            blocking.put_asset("key", value) if what == "asset" else blocking.set("key", value)
            alone = time.perf_counter() - before

        async def work() -> float:
            heart = Heartbeat()
            async with AsyncCache(in_threads(Kept()), maintenance="manual", background=False, deadline="60s") as cache:
                await cache.set("opened", 1)
                beating = asyncio.create_task(heart.beat())
                await asyncio.sleep(0)
                await (cache.put_asset("other", other) if what == "asset" else cache.set("other", other))
                heart.stop()
                await beating
            return heart.longest

        yield alone, asyncio.run(work())


@pytest.mark.parametrize("what", ["value", "asset"])
def test_a_loop_beats_on_while_something_large_is_stored(what: str) -> None:
    """Compared with what the same costs in the same run. The best of a few runs counts: a machine that is busy with
    other things stops everybody, and copying large bytes holds the interpreter wherever it is done."""
    assert min(gap / alone for alone, gap in costs(what)) < 0.2


def test_what_is_bulky_is_told_by_a_look() -> None:
    assert is_bulky("x" * 300_000)
    assert is_bulky({"a": [b"x" * 100_000] * 3})
    assert is_bulky(list(range(5000)))
    assert is_bulky({"rows": [[number] * 10 for number in range(500)]})
    assert not is_bulky({"a": "x" * 100_000, "b": [1, 2.0, None, (True, {3})]})
    assert not is_bulky(object())
