"""Blobs: once per tenant, never lost while an entry names them, damage told apart from absence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core.backend import Capabilities, Stat, Stored
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import BackendUnavailable, CorruptFrame, MissingBlob
from agentcache_core.runtime import Immediate, drive
from agentcache_core.store.blobs import GRACE, OUTLIVES, REFRESH, Blobs
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock, TornBackend

PAYLOAD = b"a payload worth storing once, " * 1000


class Untouchable:
    """A store without further powers, such as an object store: the plain verbs of a DictBackend."""

    def __init__(self, inner: DictBackend) -> None:
        self.inner = inner
        self.capabilities: Capabilities = inner.capabilities
        self.puts = 0

    def get(self, name: bytes) -> Any:
        return self.inner.get(name)

    def put(self, name: bytes, data: bytes, **options: Any) -> Any:
        self.puts += 1
        return self.inner.put(name, data, **options)

    def delete(self, name: bytes, **options: Any) -> bool:
        return self.inner.delete(name, **options)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Any:
        return self.inner.scan(prefix, after=after)

    def close(self) -> None:
        self.inner.close()


def blobs_on(backend: Any, pipeline: Pipeline | None = None) -> Blobs:
    return Blobs(Immediate(backend), pipeline or Pipeline(), b"tenant/x/")


def stats(backend: DictBackend) -> list[Stat]:
    return list(backend.scan(b""))


@pytest.fixture(params=["touching", "plain"])
def place(request: pytest.FixtureRequest) -> tuple[ManualClock, DictBackend, Any]:
    clock = ManualClock()
    inner = DictBackend(clock=clock)
    return clock, inner, inner if request.param == "touching" else Untouchable(inner)


Place = tuple[ManualClock, DictBackend, Any]


def test_the_same_payload_is_stored_once_and_comes_back(place: Place) -> None:
    clock, inner, backend = place
    blobs = blobs_on(backend)
    first = drive(blobs.put(PAYLOAD, now=clock.now()))
    second = drive(blobs.put(PAYLOAD, now=clock.now()))
    assert (first.existed, second.existed) == (False, True)
    assert first.ref == second.ref
    assert len(stats(inner)) == 1
    assert drive(blobs.get(first.ref)) == PAYLOAD


def test_tenants_share_no_blob_even_of_the_same_payload() -> None:
    backend = DictBackend()
    names = {blobs_on(backend, Pipeline(tenant=tenant)).ref(PAYLOAD).digest for tenant in ("", "a", "b")}
    assert len(names) == 3


def test_naming_a_blob_again_makes_it_young_before_the_sweeper_could_take_it(place: Place) -> None:
    clock, inner, backend = place
    blobs = blobs_on(backend)
    drive(blobs.put(PAYLOAD, now=clock.now()))
    for _ in range(10):
        clock.advance(GRACE * 0.9)
        drive(blobs.put(PAYLOAD, now=clock.now()))
        assert clock.now() - stats(inner)[0].modified_at <= REFRESH


def test_a_young_blob_is_not_uploaded_again_where_it_cannot_be_touched() -> None:
    clock = ManualClock()
    backend = Untouchable(DictBackend(clock=clock))
    blobs = blobs_on(backend)
    for _ in range(5):
        drive(blobs.put(PAYLOAD, now=clock.now()))
        clock.advance(60)
    assert backend.puts == 1


lifetimes = st.lists(st.tuples(st.none() | st.floats(1, 100_000), st.floats(0, 30_000)), min_size=1, max_size=8)


@given(lifetimes, st.booleans())
def test_a_blob_outlives_the_longest_entry_that_names_it(steps: list[tuple[float | None, float]], plain: bool) -> None:
    clock = ManualClock()
    inner = DictBackend(clock=clock)
    blobs = blobs_on(Untouchable(inner) if plain else inner)
    needed = 0.0
    for lifetime, pause in steps:
        expires_at = None if lifetime is None else clock.now() + lifetime
        ref = drive(blobs.put(PAYLOAD, now=clock.now(), expires_at=expires_at)).ref
        needed = max(needed, float("inf") if expires_at is None else expires_at)
        (stat,) = stats(inner)
        assert (float("inf") if stat.expires_at is None else stat.expires_at) >= needed + OUTLIVES
        clock.advance(pause)
        if clock.now() < needed:
            assert drive(blobs.get(ref)) == PAYLOAD


def test_a_blob_that_is_gone_is_told_apart_from_one_that_is_damaged() -> None:
    inner = DictBackend()
    blobs = blobs_on(inner)
    ref = drive(blobs.put(PAYLOAD, now=0.0)).ref
    for how in ("cut", "flip", "empty", "garbage"):
        with pytest.raises(CorruptFrame) as caught:
            drive(blobs_on(TornBackend(inner, how)).get(ref))
        assert not isinstance(caught.value, MissingBlob)
    inner.delete(blobs.name(ref.digest))
    with pytest.raises(MissingBlob):
        drive(blobs.get(ref))


def test_many_blobs_come_in_one_round_trip_each_with_its_own_trouble() -> None:
    backend = FaultyBackend(DictBackend())
    blobs = blobs_on(backend)
    refs = [drive(blobs.put(b"%d" % number * 100, now=0.0)).ref for number in range(4)]
    backend.delete(blobs.name(refs[1].digest))
    answers = drive(blobs.get_many(refs))
    assert [isinstance(answer, bytes) for answer in answers] == [True, False, True, True]
    assert isinstance(answers[1], MissingBlob)
    assert backend.calls.get("get", 0) == 0


def test_a_blob_moved_under_another_name_is_found_out() -> None:
    keyring = Keyring({1: b"k" * 32})
    for pipeline in (Pipeline(), Pipeline(keyring=keyring)):
        backend = DictBackend()
        blobs = blobs_on(backend, pipeline)
        good = drive(blobs.put(b"good" * 100, now=0.0)).ref
        bad = drive(blobs.put(b"evil" * 100, now=0.0)).ref
        moved = backend.get(blobs.name(bad.digest))
        assert isinstance(moved, Stored)
        backend.put(blobs.name(good.digest), moved.data)
        with pytest.raises(CorruptFrame):
            drive(blobs.check(good))
        drive(blobs.check(bad))


@pytest.mark.parametrize("verb", ["touch", "put"])
@pytest.mark.parametrize("after", [False, True])
def test_a_store_that_fails_at_any_step_leaves_nothing_torn(verb: str, after: bool) -> None:
    backend = FaultyBackend(DictBackend())
    blobs = blobs_on(backend)
    backend.fail(verb, times=1, after=after)
    with pytest.raises(BackendUnavailable):
        drive(blobs.put(PAYLOAD, now=0.0))
    ref = drive(blobs.put(PAYLOAD, now=0.0)).ref
    assert drive(blobs.get(ref)) == PAYLOAD


class Suspending(Immediate):
    """A store whose every answer comes after the event loop has had its turn."""

    async def get(self, name: bytes) -> Any:
        await asyncio.sleep(0)
        return await super().get(name)


def test_the_same_room_runs_on_an_event_loop() -> None:
    async def work() -> bytes:
        blobs = Blobs(Suspending(DictBackend()), Pipeline(), b"x/")
        return await blobs.get((await blobs.put(PAYLOAD, now=0.0)).ref)

    assert asyncio.run(work()) == PAYLOAD
