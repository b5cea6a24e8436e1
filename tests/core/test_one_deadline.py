"""A tier costs a call at most its deadline, however many requests the call makes; what is left over goes behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.allowance import SILENT, Allowance, current, each_request, no_call, one_call, replenish, used_up
from agentcache_core.backend import Capabilities
from agentcache_core.clock import ManualClock
from agentcache_core.computing import FLIGHTS
from agentcache_core.errors import BackendUnavailable, NotWritten
from agentcache_core.guarding import AsyncGuarded, Circuit, Guarded
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend, FaultyBackend, SlowBackend
from agentcache_core.wrapping import Around

DEADLINE = 0.25


class Timed(Around):
    """A store that bounds its own requests, as told by `within`; each takes `seconds` of a clock."""

    capabilities = Capabilities(native_deadline=True)

    def __init__(self, inner: DictBackend, clock: ManualClock, seconds: float) -> None:
        super().__init__(inner)
        self.clock, self.seconds = clock, seconds
        self.asked: list[str] = []
        self.limits: list[float] = []

    def run(self, verb: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.asked.append(verb)
        self.clock.advance(self.seconds)
        return call(*args, **kwargs)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self.limits.append(round(seconds, 3))
        yield


def _guarded(store: Any, clock: ManualClock) -> Any:
    circuit = Circuit("store", deadline=DEADLINE, monotonic=clock.monotonic, told=lambda _: None, timer=clock.monotonic)
    return Guarded(store, circuit)


def test_the_requests_of_a_call_share_one_deadline_and_later_ones_are_not_made() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 0.1)
    guarded = _guarded(store, clock)
    with one_call():
        for _ in range(3):
            guarded.get(b"k")
        with pytest.raises(BackendUnavailable, match="used up the time of this call"):
            guarded.put(b"k", b"v")
    assert store.asked == ["get"] * 3
    assert store.limits == [0.15, 0.05]
    with one_call():
        guarded.get(b"k")
    for _ in range(9):
        guarded.get(b"k")  # outside of a call each has a deadline of its own
    assert store.limits == [0.15, 0.05]


def test_stores_are_charged_each_for_itself_and_calls_within_a_call_are_one() -> None:
    clock = ManualClock()
    one, other = _guarded(Timed(DictBackend(), clock, 1.0), clock), _guarded(Timed(DictBackend(), clock, 1.0), clock)
    other._circuit.name = "other"
    with one_call():
        one.get(b"k")
        other.get(b"k")
        with one_call(), pytest.raises(BackendUnavailable):
            one.get(b"k")
        with no_call():
            one.get(b"k")
        replenish()
        one.get(b"k")


def test_what_moves_many_bytes_or_names_is_given_their_time_and_not_charged_for_it() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 1.0)
    guarded = _guarded(store, clock)
    with one_call():
        guarded.put(b"large", bytes(2 << 20))  # takes its second and nothing of the deadline
        guarded.get(b"large")  # what came back takes a second as well
        guarded.get_many([b"%d" % number for number in range(128)])
        assert store.limits == [1.25, 1.25]
        assert not used_up("store")


def test_a_store_that_did_not_answer_in_time_is_silent_until_the_call_ends() -> None:
    clock = ManualClock()
    faulty = FaultyBackend(DictBackend())
    store = SlowBackend(faulty, DEADLINE, wait=clock.advance)
    guarded = _guarded(store, clock)
    faulty.fail("get")
    with one_call():
        with pytest.raises(BackendUnavailable, match="planned"):
            guarded.get(b"k")
        faulty.heal()
        replenish()
        with each_request(), pytest.raises(BackendUnavailable, match="used up"):
            guarded.get(b"k")
        assert current() == {"store": SILENT}


def test_each_request_has_its_own_deadline_where_that_was_asked_for() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 0.2)
    guarded = _guarded(store, clock)
    with one_call(), each_request():
        for _ in range(9):
            guarded.get(b"k")
    assert len(store.asked) == 9
    assert Allowance({"store": -1.0}).left("store", 1.0) == -1.0


async def test_the_async_guard_counts_the_same() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 0.1)
    circuit = Circuit("store", deadline=DEADLINE, monotonic=clock.monotonic, told=lambda _: None, timer=clock.monotonic)
    guarded = AsyncGuarded(in_threads(store), circuit)
    with one_call():
        for _ in range(3):
            await guarded.get(b"k")
        with pytest.raises(BackendUnavailable, match="used up the time of this call"):
            await guarded.get(b"k")
    assert store.asked == ["get"] * 3


# Whole calls


class Held(Around):
    """A store without a deadline of its own. Its `verb` (all when empty) hangs until let go, the next `times` times
    after the first `spared`; `asked` counts requests."""

    capabilities = Capabilities(shared=True)

    def __init__(self, inner: DictBackend, verb: str = "") -> None:
        super().__init__(inner)
        self.verb, self.times, self.spared, self.asked = verb, 0, 0, 0
        self.go = threading.Event()

    def run(self, verb: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.times and self.verb in ("", verb):
            if self.spared:
                self.spared -= 1
            else:
                self.times -= 1
                self.go.wait(60)
        return call(*args, **kwargs)


FOR_EVER = 1 << 30


@pytest.mark.parametrize("tiers", [0, 1])
def test_a_call_that_misses_asks_a_hung_tier_once_and_the_next_once_more(tiers: int) -> None:
    stores = [Held(DictBackend()) for _ in range(tiers + 1)]
    with Cache([*stores], deadline="50ms", clock=ManualClock(), background=False) as cache:
        cache.set("k", 1)
        for store in stores:
            store.times = FOR_EVER
        for number in range(2):
            before = [store.asked for store in stores]
            assert cache.get_or_compute(f"new{number}", lambda: 2) == 2
            assert [store.asked for store in stores] == [count + 1 for count in before]
        before = [store.asked for store in stores]
        assert cache.get_many(["k", "j", "l"]) == [MISSING] * 3
        assert [store.asked for store in stores] == [count + 1 for count in before]
        assert [tier.breaker for tier in cache.stats().tiers] == ["open"] * (tiers + 1)
        for store in stores:
            store.go.set()


async def test_the_async_face_asks_a_hung_tier_once_in_a_call_and_its_followers_wait_no_longer() -> None:
    store = Held(DictBackend())
    async with AsyncCache(in_threads(store), deadline="50ms", clock=ManualClock(), background=False) as cache:
        await cache.set("k", 1)
        store.times = FOR_EVER
        before, computed = store.asked, 0

        async def compute() -> int:
            nonlocal computed
            computed += 1
            while sum(flight.followers for flight in FLIGHTS._open.values()) < followers:
                await asyncio.sleep(0.001)
            return 2

        followers = 0
        assert await cache.get_or_compute("new", compute) == 2
        assert store.asked == before + 1
        followers = 4
        calls = [cache.get_or_compute("other", compute) for _ in range(5)]
        assert await asyncio.wait_for(asyncio.gather(*calls), 30) == [2] * 5
        assert store.asked == before + 6  # each looked once, at the same time
        assert computed == 2
        store.go.set()


@pytest.mark.parametrize("strict", [True, False])
def test_who_wants_to_know_is_told_and_does_not_wait_twice(strict: bool) -> None:
    store = Held(DictBackend())
    with Cache(store, deadline="50ms", clock=ManualClock(), strict=strict, maintenance="manual") as cache:
        cache.set("k", 1)
        store.times, before = FOR_EVER, store.asked
        with pytest.raises(NotWritten):
            cache.get_or_compute("new", lambda: 2, durable=True)
        assert store.asked == before + 1
        with pytest.raises(NotWritten):
            cache.set("k", 2, durable=True)
        assert store.asked == before + 2
        store.go.set()


def test_a_durable_write_has_a_deadline_for_each_request_while_the_store_answers() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 0.2)
    with Cache(store, clock=clock) as cache:
        cache._core.tiers.stored[0].circuit.timer = clock.monotonic
        assert cache.set("k", 1, durable=True)
        assert cache.set("k", 2, durable=True)  # reads, writes, moves the generation: more than a second
        assert cache.set("k", 3) is False
        assert cache.get("k") == 2 or cache._core.background.drain()


def _drained(cache: Cache) -> None:
    cache._core.background.drain(60)


@pytest.mark.parametrize("present", [False, True])
def test_the_write_of_a_computed_answer_goes_on_behind_a_caller_who_may_wait_no_longer(present: bool) -> None:
    store, clock = Held(DictBackend(), "put"), ManualClock()
    pending: list[str] = []
    with Cache(store, deadline="300ms", clock=clock) as cache:
        cache.set("other", 1)
        if present:
            cache.set("k", "stale", ttl=1, stale_if_error=1000)
            clock.advance(2)
        cache.events.subscribe(lambda event: pending.append(event.reason) if event.name == "pending" else None)
        store.times, store.spared = 1, int(present)
        assert cache.get_or_compute("k", lambda: "new") == "new"
        assert pending == ["the call may wait no longer: its write goes on behind it"]
        assert cache.stats().stores == 1 + present
        _drained(cache)
        assert cache.get("k") == "new"
        assert cache.stats().stores == 2 + present
        store.go.set()


@pytest.mark.parametrize("meanwhile", ["set", "delete", "invalidate"])
def test_a_write_behind_its_caller_takes_the_place_of_nothing_newer(meanwhile: str) -> None:
    store = Held(DictBackend(), "put")
    with Cache(store, deadline="100ms", clock=ManualClock(), maintenance="manual") as cache:
        cache.set("other", 1)
        gate = threading.Event()

        async def wait() -> None:
            gate.wait(60)

        from agentcache_core.runtime import BLOCKING, drive

        drive(cache._core.background.submit(BLOCKING, "wait", wait))  # so that the write stands in line
        store.times = 1
        assert cache.get_or_compute("k", lambda: "computed", tags=["t"]) == "computed"
        if meanwhile == "set":
            assert cache.set("k", "newer")
        elif meanwhile == "delete":
            cache.delete("k")
        else:
            cache.invalidate(tag="t")
        gate.set()
        _drained(cache)
        assert cache.get("k") == ("newer" if meanwhile == "set" else MISSING)
        store.go.set()
        assert cache.get("k") == ("newer" if meanwhile == "set" else MISSING)


def test_without_a_background_such_a_write_is_left_out_and_told() -> None:
    store = Held(DictBackend(), "put")
    with Cache(store, deadline="50ms", clock=ManualClock(), background=False) as cache:
        cache.set("other", 1)
        store.times = 1
        assert cache.get_or_compute("k", lambda: 1) == 1
        assert cache.stats().reasons["the authority did not take the write"] == 1
        assert cache.get("k") is MISSING
        store.go.set()


def test_a_lease_is_given_back_behind_a_caller_who_may_wait_no_longer() -> None:
    store = Held(DictBackend(), "put")
    with Cache(store, deadline="100ms", clock=ManualClock()) as cache, Cache(store, clock=ManualClock()) as other:
        cache.set("other", 1)
        store.times = 1
        assert cache.get_or_compute("k", lambda: 1, store_if=lambda _: True) == 1
        _drained(cache)
        other.delete("k")
        assert other.get_or_compute("k", lambda: 2) == 2  # else it would wait for the lease to run out
        store.go.set()


def test_an_invalidation_that_took_too_long_is_recorded_behind_its_caller() -> None:
    store = Held(DictBackend(), "put")
    with Cache(store, deadline="200ms", clock=ManualClock()) as cache, Cache(store) as other:
        cache.set("k", 1, tags=["t"])
        store.times = 1
        cache.invalidate(tag="t")
        _drained(cache)
        assert cache.stats().further["pending_invalidations"] == 0
        assert other.get("k") is MISSING
        store.go.set()


def test_waiting_for_another_process_is_not_waiting_for_the_store() -> None:
    clock = ManualClock()
    store = Timed(DictBackend(), clock, 0.1)
    with Cache(store, clock=clock) as cache:
        cache.set("other", 1)
        circuit = cache._core.tiers.stored[0].circuit
        circuit.timer = clock.monotonic
        space = cache._space
        grant = store.inner.acquire(space.lease_name(cache.key("k")), 3600.0)
        answers: list[Any] = []
        waiting = threading.Thread(target=lambda: answers.append(cache.get_or_compute("k", lambda: "mine")))
        asked = len(store.asked)
        waiting.start()
        until = time.monotonic() + 60
        while len(store.asked) < asked + 12:
            assert time.monotonic() < until
            threading.Event().wait(0.001)
        circuit.timer = ManualClock().monotonic
        Cache(store.inner).set("k", "theirs")
        assert grant is not None
        waiting.join(60)
        assert answers == ["theirs"]


def test_the_users_own_code_does_not_run_on_the_time_of_its_call() -> None:
    seen: list[Allowance | None] = []
    store = DictBackend()
    with Cache(store) as cache:
        cache.get_or_compute("k", lambda: seen.append(current()))
    assert seen == [None]
    assert current() is None


def test_a_tier_goes_by_the_timeout_of_its_own_url(tmp_path: Any) -> None:
    with Cache([f"sqlite:///{tmp_path}/a.db?timeout=3s", f"sqlite:///{tmp_path}/b.db"], deadline="1s") as cache:
        assert [tier.circuit.deadline for tier in cache._core.tiers.stored] == [3.0, 1.0]


def test_a_listing_that_is_only_begun_does_not_close_the_breaker() -> None:
    clock = ManualClock()

    class Refuses(DictBackend):
        def scan(self, prefix: bytes, *, after: bytes = b"") -> Any:
            yield from ()
            raise BackendUnavailable("refused")

        def get(self, name: bytes) -> Any:
            raise BackendUnavailable("refused")

    guarded = _guarded(Refuses(), clock)
    for _ in range(2):
        for ask in (lambda: guarded.get(b"k"), lambda: list(guarded.scan(b""))):
            with pytest.raises(BackendUnavailable):
                ask()
    assert guarded._circuit.is_open
    clock.advance(LONGEST_REST)
