"""live, record, replay, refresh, off: what a hit and a miss read, compute and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.errors import ReplayMiss
from agentcache_core.testing import DictBackend

CHAT = {"provider": "openai", "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/cache.db"


def test_a_recording_is_served_however_old_and_is_completed(url: str) -> None:
    clock = ManualClock()
    with Cache(url, mode="record", clock=clock) as cache:
        assert cache.get_or_compute(CHAT, lambda: {"n": 1}, ttl=10, stale_if_error="1h") == {"n": 1}
        clock.advance(60)
        assert cache.get_or_compute(CHAT, lambda: {"n": 2}, ttl=10) == {"n": 1}
        assert cache.get_or_compute("other", lambda: 3) == 3
    with Cache(url, mode="replay", clock=clock) as cache:
        assert cache.get_or_compute(CHAT, lambda: {"n": 9}) == {"n": 1}
        assert cache.get("other") == 3


def test_a_miss_in_replay_raises_with_a_field_level_diff_to_the_nearest_recording(url: str) -> None:
    with Cache(url, mode="record") as cache:
        cache.get_or_compute(CHAT, lambda: 1)
        cache.get_or_compute(
            {**CHAT, "messages": [{"role": "user", "content": "something else"}], "model": "x"}, lambda: 2
        )
    with Cache(url, mode="replay") as cache:
        with pytest.raises(ReplayMiss) as caught:
            cache.get_or_compute({**CHAT, "temperature": 0.9}, lambda: 1)
        message = str(caught.value)
        assert "temperature" in message
        assert "0.5" in message
        assert "0.9" in message
        assert "content" not in message
        with pytest.raises(ReplayMiss, match="no other request of its kind"):
            cache.lookup({"plain": "generic"})
        assert cache.set("k", 1) is False


def test_refresh_computes_always_and_overwrites(url: str) -> None:
    with Cache(url) as cache:
        cache.set("k", 1)
    with Cache(url, mode="refresh") as cache:
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: 2) == 2
    with Cache(url) as cache:
        assert cache.get("k") == 2


def test_off_neither_reads_nor_writes(url: str) -> None:
    with Cache(url) as cache:
        cache.set("k", 1)
    with Cache(url, mode="off") as cache:
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: 2) == 2
        assert cache.set("k", 3) is False
    with Cache(url) as cache:
        assert cache.get("k") == 1


def test_a_recording_may_be_made_in_memory_too() -> None:
    with Cache(mode="record") as cache:
        assert cache.get_or_compute(CHAT, lambda: [1]) == [1]
        assert cache.get_or_compute(CHAT, lambda: [2]) == [1]


def test_a_recording_outlives_its_ttl_on_a_backend_that_expires_by_itself() -> None:
    clock = ManualClock()
    store = DictBackend(clock=clock)
    Cache(store, mode="record", clock=clock).get_or_compute(CHAT, lambda: {"n": 1}, ttl=10)
    clock.advance(100_000)
    replaying = Cache(store, mode="replay", clock=clock)
    replaying.maintain()
    assert replaying.get_or_compute(CHAT, lambda: {"n": 2}) == {"n": 1}
    assert replaying.get_many([CHAT]) == [{"n": 1}]
    live = Cache(store, clock=clock)
    assert live.get(CHAT) is MISSING, "live, its time is over all the same"
    assert live.get_or_compute(CHAT, lambda: {"n": 3}) == {"n": 3}


def test_replay_computes_nothing_not_even_behind_a_hit() -> None:
    clock = ManualClock()
    computed = []
    store = DictBackend(clock=clock)
    Cache(store, mode="record", clock=clock, background=False).get_or_compute("k", lambda: 1, ttl=10, eager=0.5)
    clock.advance(9)
    replaying = Cache(store, mode="replay", clock=clock, background=False)
    assert replaying.get_or_compute("k", lambda: computed.append(1)) == 1
    assert computed == []


def test_many_at_once_miss_in_replay_as_one_does(url: str) -> None:
    with Cache(url, mode="record") as cache:
        cache.set("a", 1)
    with Cache(url, mode="replay") as cache, pytest.raises(ReplayMiss, match="nothing is recorded"):
        cache.get_many(["a", "b"])
