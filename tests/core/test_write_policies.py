"""Tiers that are written back, or around: what is stored when, and what a crash or an invalidation does to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache, Tier
from agentcache_core.cuts import Cuts
from agentcache_core.errors import NotWritten
from agentcache_core.testing import DictBackend, FaultyBackend, SlowBackend


def _names(store: Any, cache: Cache) -> int:
    return len(list(store.scan(cache._space.entries_prefix)))


def test_a_tier_written_back_gets_the_answer_later() -> None:
    inner = DictBackend()
    slow = SlowBackend(inner, verbs=("put",))
    with Cache(["memory://", Tier(slow, write="back")], deadline="60s") as cache:
        cache.set("warm", 0, durable=True)
        slow.hold()
        assert cache.set("k", [1]) is True
        assert cache.get("k") == [1]
        assert _names(inner, cache) == 1
        slow.let_go()
        assert cache._core.background.drain(30)
        assert _names(inner, cache) == 2


def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(["memory://", Tier(url, write="back")]) as cache:
        for number in range(50):
            cache.set(f"k{number}", [number])
    with Cache(url) as again:
        assert again.get_many([f"k{number}" for number in range(50)]) == [[number] for number in range(50)]


def test_a_durable_write_does_not_wait_in_line() -> None:
    store = FaultyBackend(DictBackend())
    with Cache(["memory://", Tier(store, write="back")]) as cache:
        cache.set("k", 1, durable=True)
        assert _names(store, cache) == 1
        store.fail("put")
        with pytest.raises(NotWritten):
            cache.set("j", 1, durable=True)
        store.heal()


def test_what_is_invalidated_while_it_waits_is_not_written() -> None:
    inner = DictBackend()
    slow = SlowBackend(inner, verbs=("put",))
    with Cache(["memory://", Tier(slow, write="back")], deadline="60s") as cache:
        cache.set("first", 0, durable=True, tags=["t"])
        slow.hold()
        cache.set("holds the line", 1)
        cache.set("k", 1, tags=["t"])
        Cuts(cache._space).note("tag", "t")
        slow.let_go()
        assert cache._core.background.drain(30)
        assert _names(inner, cache) == 2


def test_a_tier_written_around_takes_what_the_memory_tier_gives_up() -> None:
    store = DictBackend()
    with Cache(["memory://?max_entries=5", Tier(store, write="around")]) as cache:
        for number in range(20):
            cache.set(f"k{number}", [number], tags=["t"])
        assert cache._core.background.drain(30)
        assert [cache.get(f"k{number}") for number in range(20)] == [[number] for number in range(20)]
        cache.invalidate(tag="t")
        assert all(cache.get(f"k{number}") is MISSING for number in range(20))


def test_what_replaces_a_spilled_answer_replaces_it_there_too() -> None:
    store = DictBackend()
    with Cache(["memory://?max_entries=2", Tier(store, write="around")]) as cache:
        for number in range(6):
            cache.set(f"k{number}", "old")
        assert cache._core.background.drain(30)
        cache.set("k0", "new")
        for number in range(10, 16):
            cache.set(f"k{number}", "x")
        assert cache._core.background.drain(30)
        assert cache.get("k0") == "new"
        assert Cache(store).get("k0") == "new"
