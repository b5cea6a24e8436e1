"""The straight way of a hit on a stored tier and the way through the engine answer, count and forget alike."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core import MISSING, AsyncCache, Cache, CacheControl, Cost
from agentcache_core.clock import ManualClock
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend, FaultyBackend, TornBackend
from agentcache_core.wrapping import Around

KEYS = st.sampled_from(["a", "b", b"a", "\ud800", {"model": "m", "messages": []}, {"q": 1}])
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, "text", b"bytes", (1, (2,)), [1, [2]], {"a": {"b": []}}, {1, 2}, b"x" * 5000]
)


def _little_trouble(steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A history without its third trouble and more: three in a row open a breaker, which counts by requests, and the
    long way makes one more of them where it asks whether memory may be trusted."""
    troubles = [at for at, step in enumerate(steps) if step[0] == "trouble"]
    return [step for at, step in enumerate(steps) if at not in troubles[2:]]


CONTROLS = st.sampled_from([None, CacheControl(semantic=False), CacheControl(max_age=3), CacheControl(refresh=True)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES, st.sampled_from([None, 5, 50])),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("lookup"), KEYS, CONTROLS),
        st.tuples(st.just("get_many"), st.lists(KEYS, max_size=4)),
        st.tuples(st.just("set_many"), st.lists(st.tuples(KEYS, VALUES), max_size=4)),
        st.tuples(st.just("ask"), KEYS, VALUES),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("advance"), st.sampled_from([1, 4, 30])),
        st.tuples(st.just("invalidate"), st.sampled_from(["t", "u"])),
        st.tuples(st.just("ban"), st.sampled_from(["a", "b*"])),
        st.tuples(st.just("elsewhere"), st.sampled_from(["tag", "set", "clear", "ban"])),
        st.tuples(st.just("trouble"), st.sampled_from(["get_many", "put"])),
    ),
    max_size=30,
).map(_little_trouble)


@pytest.fixture(autouse=True)
def _nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cache learns behind its callers comes at another moment in each run, and both runs are to be equal."""
    monkeypatch.setattr("agentcache_core.following.EVERY", 3600.0)


class Awaited:
    """An async cache whose calls are run to their end, one after the other, on a loop of their own."""

    def __init__(self, tiers: list[Any], **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._cache = AsyncCache([tier if isinstance(tier, str) else in_threads(tier) for tier in tiers], **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cache, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._runner.run(found(*args, **options))

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._cache.close())
        self._runner.close()


FACES: dict[str, Any] = {"blocking": Cache, "async": Awaited}


def _play(
    tiers: list[Any], clock: ManualClock, steps: list[tuple[Any, ...]], *, face: str, listening: bool
) -> list[Any]:
    """What a cache answers and counts; `tiers` end with a DictBackend that another cache writes to as well."""
    seen: list[Any] = []
    faulty = FaultyBackend(tiers[-1])
    options: dict[str, Any] = {"clock": clock, "background": False, "maintenance": "manual", "inline_max": 1024}
    with FACES[face]([*tiers[:-1], faulty], **options) as cache, Cache(tiers[-1], **options) as other:
        if listening:
            cache.events.subscribe(lambda event: None)  # who listens is told of every hit: the long way
        for step in steps:
            match step:
                case ("set", key, value, ttl):
                    cache.set(key, value, ttl=ttl, tags=["t"], cost=Cost(usd_micros=3))
                case ("get", key):
                    value = cache.get(key)
                    seen.append(value)
                    if isinstance(value, list):
                        value.append("changed by its owner")
                case ("lookup", key, control):
                    seen.append(cache.lookup(key, control=control))
                case ("get_many", keys):
                    seen.append(cache.get_many(keys))
                case ("set_many", pairs):
                    seen.append(cache.set_many(pairs, ttl=50, tags=["t"]))
                case ("ask", key, value):
                    seen.append(cache.get_or_compute(key, lambda value=value: value, tags=["u"]))
                case ("delete", key):
                    seen.append(cache.delete(key))
                case ("advance", seconds):
                    clock.advance(seconds)
                case ("invalidate", tag):
                    cache.invalidate(tag=tag)
                case ("ban", pattern):
                    cache.invalidate(pattern=pattern)
                case ("elsewhere", "tag"):
                    other.invalidate(tag="t")
                case ("elsewhere", "set"):
                    other.set("a", "other", tags=["t"])
                case ("elsewhere", "clear"):
                    other.invalidate(namespace="")
                case ("elsewhere", "ban"):
                    other.invalidate(pattern="?")
                case ("trouble", verb):
                    faulty.fail(verb, times=1)
        faulty.heal()
        stats = cache.stats()
    return [*seen, stats.hits, stats.misses, stats.saved, stats.bytes_served, stats.errors]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("near", [[], ["memory://"]], ids=["alone", "behind memory"])
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_both_ways_are_equal(face: str, near: list[str], steps: list[tuple[Any, ...]]) -> None:
    answers = []
    for listening in (False, True):
        clock = ManualClock(0)
        answers.append(_play([*near, DictBackend(clock=clock)], clock, steps, face=face, listening=listening))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("inline_max", ["1MiB", 0], ids=["inline", "blob"])
def test_the_straight_way_is_really_taken(face: str, inline_max: Any) -> None:
    with FACES[face]([DictBackend()], background=False, maintenance="manual", inline_max=inline_max) as cache:
        cache.set("k", "v")
        assert cache.get("k") == "v"  # the first look-up also asks when figures are due
        cache._engine.look = None  # whoever takes the long way now fails
        assert cache.get("k") == "v"
        assert cache.get_or_compute("k", lambda: "computed") == "v"
        assert cache.get("absent") is MISSING
        assert cache.lookup("k", control=CacheControl(semantic=False)).value == "v"
        assert cache.lookup("absent") is None
        cache._engine.lookup_many = None
        assert cache.get_many(["absent", "k", "k"]) == [MISSING, "v", "v"]


def test_one_unusual_entry_of_a_batch_alone_takes_the_long_way() -> None:
    clock = ManualClock()
    backend = FaultyBackend(DictBackend(clock=clock))
    with Cache(backend, background=False, maintenance="manual", inline_max=0, clock=clock) as cache:
        cache.set_many([(f"k{number}", f"{number}") for number in range(9)])
        cache.set("stale", "v", ttl=1, stale_if_error=60)
        clock.advance(2)
        cache.get("absent")
        asked: list[list[Any]] = []
        look = cache._engine.lookup_many

        async def noting(rt: Any, space: Any, keys: Any, wish: Any, **options: Any) -> Any:
            asked.append(options["requests"])
            return await look(rt, space, keys, wish, **options)

        cache._engine.lookup_many = noting  # type: ignore[method-assign]
        backend.calls.clear()
        keys = [f"k{number}" for number in range(9)]
        assert cache.get_many([*keys, "stale"]) == [*(f"{number}" for number in range(9)), MISSING]
        assert asked == [["stale"]]
        assert backend.calls["get_many"] <= 4
        assert cache.stats().hits == 9


def test_a_damaged_entry_takes_the_long_way_and_is_removed() -> None:
    backend = DictBackend()
    torn = TornBackend(backend, None)
    with Cache(torn, background=False, maintenance="manual") as cache:
        cache.set("k", "v")
        assert cache.get("k") == "v"
        torn.how = "flip"
        assert cache.get("k") is MISSING
        torn.how = None
        assert cache.get("k") is MISSING
        assert cache.stats().errors


class NoBlobs(Around):
    """A backend of somebody else's whose blobs cannot be read, and that says so in its own words."""

    def run(self, verb: str, call: Any, /, *args: Any, **options: Any) -> Any:
        named = args[0] if args and isinstance(args[0], list | tuple) else args[:1]
        if verb.startswith("get") and any(b"/x/" in name for name in named if isinstance(name, bytes)):
            raise OSError("the disk is gone")
        return call(*args, **options)


@pytest.mark.parametrize("face", FACES)
def test_a_blob_that_cannot_be_read_is_a_miss_whatever_is_raised(face: str) -> None:
    options: dict[str, Any] = {"background": False, "maintenance": "manual", "inline_max": 0}
    inner = DictBackend()
    with Cache(inner, **options) as writer:
        writer.set("k", "v" * 100)
    with FACES[face]([NoBlobs(inner)], **options) as cache:
        assert cache.get("k") is MISSING
        assert cache.lookup("k") is None
        assert cache.get_many(["k", "k"]) == [MISSING, MISSING]
        assert cache.get_or_compute("k", lambda: "computed") == "computed"
        assert cache.stats().errors
