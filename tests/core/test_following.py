"""What another process changes reaches near copies at once while the log is followed, and within the bound without."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.following import decode_event, encode_event
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.space import Generation
from agentcache_core.testing import DictBackend, FaultyBackend

CHANGES: list[tuple[str, Callable[[Cache], Any], Any]] = [
    ("overwrite", lambda cache: cache.set("k", 2), 2),
    ("delete", lambda cache: cache.delete("k"), MISSING),
    ("tag", lambda cache: cache.invalidate(tag="t"), MISSING),
    ("pattern", lambda cache: cache.invalidate(pattern="k*"), MISSING),
    ("namespace", lambda cache: cache.invalidate(namespace=""), MISSING),
]


def _follow(cache: Cache) -> None:
    """One step of the follower, now; its own thread makes the same every tenth of a second."""
    follower = cache._core.tiers.follower
    assert follower is not None
    drive(follower.step(BLOCKING))


@pytest.mark.parametrize(("name", "change", "after"), CHANGES, ids=[name for name, *_ in CHANGES])
def test_a_followed_change_reaches_the_near_copy_though_it_is_still_trusted(
    tmp_path: Path, name: str, change: Callable[[Cache], Any], after: Any
) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(["memory://", url], max_staleness="1h") as near, Cache(url) as other:
        near.set("k", 1, tags=["t"])
        near.set("z", 1)
        change(other)
        _follow(near)
        assert near.get("k") == after
        home = near._homes.get("text") or near._home("text")
        assert ("z" in home) is (name != "namespace")  # only what is concerned was dropped


def test_removing_what_no_event_can_name_leaves_the_rest_servable() -> None:
    with Cache(["memory://", DictBackend()], background=False, deadline="60s") as cache:
        cache.set("k", 1)
        assert cache.delete("\ud800") is False
        assert cache.stats().further["pending_invalidations"] == 0
        cache.distrust()
        assert cache.get("k") == 1


def test_a_change_arrives_by_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(["memory://", url], max_staleness="1h") as near, Cache(url) as other:
        near.set("k", 1)
        assert near.get("k") == 1
        other.set("k", 2)
        give_up = time.monotonic() + 60
        while near.get("k") != 2:
            assert time.monotonic() < give_up


def test_a_gap_in_the_log_drops_the_namespaces_near_copies() -> None:
    store = DictBackend(log_length=3)
    with Cache(["memory://", store], max_staleness="1h") as near, Cache(store) as other:
        near.set("k", 1)
        near.set("z", 1)
        for number in range(10):
            other.set("k", number)
        _follow(near)
        assert near.get("k") == 9
        assert near.get("z") == 1


def test_an_event_that_was_lost_is_noticed_by_the_generation() -> None:
    store = FaultyBackend(DictBackend())
    with Cache(["memory://", store], max_staleness="1h") as near, Cache(store) as other:
        near.set("k", 1)
        store.fail("append", times=1)
        other.set("k", 2)
        _follow(near)
        assert near.get("k") == 2


def test_a_cut_connection_leaves_the_bound_of_max_staleness() -> None:
    from agentcache_core.clock import ManualClock

    shared, clock = DictBackend(), ManualClock()
    link = FaultyBackend(shared)
    with Cache(["memory://", link], clock=clock) as near, Cache(shared, clock=clock) as other:
        near.set("k", 1)
        link.fail()
        other.set("k", 2)
        for _ in range(3):
            _follow(near)
        assert near.get("k") == 1  # within five seconds of the last word from the authority
        clock.advance(5.01)
        assert near.get("k") is MISSING
        link.heal()
        clock.advance(60)
        assert near.get("k") == 2


def test_events_are_sealed() -> None:
    pipeline, generation = Pipeline(), Generation(b"l" * 16, 7)
    event = encode_event(pipeline, generation, ("request", "text", "k"))
    assert decode_event(pipeline, event) == (b"l" * 16, 7, [("request", "text", "k")])
    both = encode_event(pipeline, generation, ("request", "text", "k"), ("tag", "", "t"))
    assert decode_event(pipeline, both)[2] == [("request", "text", "k"), ("tag", "", "t")]
    for broken in (b"", event[:-1], event[:-1] + b"x"):
        with pytest.raises(CorruptFrame):
            decode_event(pipeline, broken)
