"""Maintenance beside programs that invalidate and store anew: whatever falls between any two of its steps, nothing
that may be served is removed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentcache_core import MISSING, Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.space import Space
from agentcache_core.store import ledger
from agentcache_core.store.ledger import Ledger
from agentcache_core.store.sweep import sweep
from agentcache_core.testing import DictBackend, ManualClock
from agentcache_core.testing.driving import Stepwise
from agentcache_core.urls import open_backend
from agentcache_core.verdicts import Verdicts
from agentcache_core.wrapping import Around

KEYS = [f"key {number}" for number in range(6)]
WAYS = ["tag", "namespace", "pattern", "request"]


class Interrupted(Around):
    """Does `acts[n]` just before its call number n."""

    def __init__(self, inner: Any, acts: dict[int, Callable[[], object]]) -> None:
        super().__init__(inner)
        self.acts = acts
        self.calls = 0

    def run(self, verb: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        act = self.acts.pop(self.calls, None)
        if act is not None:
            act()
        return call(*args, **kwargs)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of six entries is read in three batches, so that a sweep has steps between which things happen."""
    monkeypatch.setattr(ledger, "BATCH", 2)


@pytest.fixture(params=["dict", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Answers a new, empty store at every call, which two caches can open."""
    numbers = itertools.count()
    if request.param == "dict":
        return DictBackend
    if request.param == "sqlite":
        return lambda: open_backend(f"sqlite:///{tmp_path}/{next(numbers)}.db?timeout=10s")
    url: str = request.getfixturevalue("redis_url")
    return lambda: open_backend(url.replace("prefix=", f"prefix={next(numbers)}-"))


def drop(cache: Cache, how: str) -> None:
    if how == "tag":
        cache.invalidate(tag="t")
    elif how == "namespace":
        cache.invalidate(namespace="")
    elif how == "pattern":
        cache.invalidate(pattern="key *")
    else:
        for key in KEYS:
            cache.delete(key)


def swept_while(store: Any, *, acts: dict[int, Callable[[Cache], object]]) -> tuple[int, Cache]:
    """Maintain a store of six entries while another program acts before some of its calls; answers how many calls
    maintenance made, and the other program's cache."""
    other = Cache(store, background=False, maintenance="manual", deadline="1h")  # whatever else the machine does
    other.set_many([(key, f"old {key}") for key in KEYS], tags=["t"])
    interrupted = Interrupted(store, {step: lambda act=act: act(other) for step, act in acts.items()})  # type: ignore[misc]  # mypy infers no type for the bound default
    assert Cache(interrupted, background=False, maintenance="manual", deadline="1h").maintain(grace=0).trouble == {}
    return interrupted.calls, other


def anew(cache: Cache) -> None:
    cache.set_many([(key, f"new {key}") for key in KEYS], tags=["t"])


@pytest.mark.parametrize("how", WAYS)
def test_what_is_invalidated_and_stored_anew_between_any_two_steps_of_a_sweep_stays(
    how: str, places: Callable[[], Any]
) -> None:
    def both(cache: Cache) -> None:
        drop(cache, how)
        anew(cache)

    for step in itertools.count(1):
        calls, other = swept_while(store := places(), acts={step: both})
        if calls < step:
            break
        assert other.get_many(KEYS) == [f"new {key}" for key in KEYS], f"before call {step}"
        store.close()
    assert step > 10


@pytest.mark.parametrize("how", WAYS)
def test_invalidating_at_one_step_and_storing_anew_at_a_later_one_loses_nothing_either(how: str) -> None:
    calls, _ = swept_while(DictBackend(), acts={})
    for first, second in itertools.combinations(range(1, calls + 1), 2):
        calls, other = swept_while(DictBackend(), acts={first: lambda cache: drop(cache, how), second: anew})
        if calls >= second:
            assert other.get_many(KEYS) == [f"new {key}" for key in KEYS], f"before calls {first} and {second}"


@pytest.mark.parametrize("how", WAYS)
def test_what_was_invalidated_before_or_during_a_sweep_is_gone_after_the_next(how: str) -> None:
    store = DictBackend()
    swept_while(store, acts={3: lambda cache: drop(cache, how)})
    cache = Cache(store, background=False, maintenance="manual")
    cache.maintain(grace=0)
    assert cache.get_many(KEYS) == [MISSING] * len(KEYS)
    if how != "request":  # a tombstone stays until a late answer can no longer come
        assert not [stat for stat in store.scan(b"") if b"/e/" in stat.name]


def test_many_dead_entries_cost_one_reading_of_what_they_name() -> None:
    store = DictBackend()
    cache = Cache(store, background=False, maintenance="manual")
    for number in range(40):
        cache.set(f"key {number}", number, tags=["a", "b"])
    cache.invalidate(tag="b")
    cache.namespace("n").set_many([(f"key {number}", number) for number in range(40)])
    cache.invalidate(namespace="n")
    asked: list[bytes] = []

    class Counting(Around):
        def get(self, name: bytes) -> Any:
            asked.append(name[32:35])
            return super().get(name)

    report = Cache(Counting(store), background=False, maintenance="manual").maintain(grace=0)
    assert next(iter(report.swept.values())).dead == 80
    assert asked.count(b"/t/") == 2
    assert asked.count(b"/g") == 3


def test_a_list_of_patterns_left_by_a_lost_generation_condemns_nobody() -> None:
    store = DictBackend()
    cache = Cache(store, background=False, maintenance="manual")
    for _ in range(5):
        cache.invalidate(pattern="key *")
    (generation,) = [stat.name for stat in store.scan(b"") if stat.name.endswith(b"/g")]
    store.delete(generation)  # as a full Redis might
    fresh = Cache(store, background=False, maintenance="manual")
    fresh.set("key 1", "new")
    assert fresh.get("key 1") == "new"
    fresh.maintain(grace=0)
    assert Cache(store).get("key 1") == "new"


class SweepersBesideWriters(RuleBasedStateMachine):
    """Two sweepers are stopped between any two of their steps while a writer stores and invalidates."""

    @initialize()
    def open(self) -> None:
        self.batches = mock.patch.object(ledger, "BATCH", 1)
        self.batches.start()
        self.clock = ManualClock()
        self.store = DictBackend(clock=self.clock)
        self.writer = Cache(
            self.store, clock=self.clock, inline_max=16, background=False, maintenance="manual", deadline="1h"
        )
        self.truth: dict[str, str] = {}
        self.tagged: set[str] = set()
        self.count = 0
        self.sweepers: list[Coroutine[Any, Any, None] | None] = [None, None]

    @rule(key=st.sampled_from(KEYS[:4]), tagged=st.booleans())
    def set(self, key: str, tagged: bool) -> None:
        self.count += 1
        self.truth[key] = f"answer number {self.count % 3}, longer than goes inline"
        (self.tagged.add if tagged else self.tagged.discard)(key)
        assert self.writer.set(key, self.truth[key], tags=["t"] if tagged else [])

    @rule(how=st.sampled_from(WAYS))
    def invalidate(self, how: str) -> None:
        drop(self.writer, how)
        self.truth = {key: value for key, value in self.truth.items() if how == "tag" and key not in self.tagged}

    @rule(seconds=st.sampled_from([60.0, 7200.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    @precondition(lambda self: None in self.sweepers)
    def begin(self) -> None:
        self.sweepers[self.sweepers.index(None)] = self._sweeping()

    async def _sweeping(self) -> None:
        store, space = Stepwise(self.store), Space("", "", None)
        judged = Verdicts(store, space, Pipeline())
        work = Ledger(store, Pipeline(), space.tenant_prefix)
        await sweep(work, now=self.clock.now(), grace=3600.0, dead=judged.dead)

    @rule(which=st.integers(0, 1), steps=st.integers(1, 8))
    @precondition(lambda self: any(self.sweepers))
    def go_on(self, which: int, steps: int) -> None:
        sweeper = self.sweepers[which] or self.sweepers[1 - which]
        assert sweeper is not None
        try:
            for _ in range(steps):
                sweeper.send(None)
        except StopIteration:
            self.sweepers[self.sweepers.index(sweeper)] = None

    @invariant()
    def what_was_stored_and_not_invalidated_is_served(self) -> None:
        for key in KEYS[:4] if hasattr(self, "truth") else ():
            assert self.writer.get(key) == self.truth.get(key, MISSING)

    def teardown(self) -> None:
        for sweeper in getattr(self, "sweepers", ()):
            if sweeper is not None:
                sweeper.close()
        if hasattr(self, "batches"):
            self.batches.stop()


SweepersBesideWriters.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSweepersBesideWriters = SweepersBesideWriters.TestCase
