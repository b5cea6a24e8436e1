"""An authority that comes back with older data: what it has forgotten to be invalidated is not served again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.runtime import BLOCKING
from agentcache_core.testing import DictBackend
from agentcache_core.testing.servers import RedisServer


class Restored(DictBackend):
    """A store that can be set back to how it was."""

    def save(self) -> None:
        self._saved = dict(self._values)

    def restore(self) -> None:
        self._values = dict(self._saved)


LOOKS: dict[str, Callable[[Cache], Any]] = {
    "get": lambda cache: cache.get("a"),
    "get_many": lambda cache: cache.get_many(["a"])[0],
    "delete of another": lambda cache: (cache.delete("b"), cache.get("a"))[1],
    "set of another": lambda cache: (cache.set("b", 3), cache.get("a"))[1],
    "overwrite of another": lambda cache: (cache.set("c", 3), cache.get("a"))[1],
}


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("look", LOOKS)
def test_what_was_invalidated_does_not_come_back_with_yesterdays_data(look: str, near: bool) -> None:
    store = Restored()
    with Cache(["memory://"] * near + [store], max_staleness=0, background=False, deadline="1h") as cache:
        cache.set("a", "old", tags=["t"])
        cache.set("c", 1)
        store.save()
        cache.invalidate(tag="t")
        assert cache.get("a") is MISSING
        store.restore()
        assert LOOKS[look](cache) is MISSING
        assert cache.get("a") is MISSING
        assert cache.set("a", "new")
        assert cache.get("a") == "new"


def test_other_processes_are_told_by_whoever_knew() -> None:
    store, clock = Restored(), ManualClock()
    first, second = (
        Cache(["memory://", store], clock=clock, max_staleness=5, background=False, deadline="1h") for _ in range(2)
    )
    first.set("a", "old", tags=["t"])
    store.save()
    assert second.get("a") == "old"
    first.invalidate(tag="t")
    store.restore()
    assert first.get("a") is MISSING
    clock.advance(6)
    assert second.get("a") is MISSING


def test_an_answer_that_was_merely_overtaken_costs_no_entry() -> None:
    store = DictBackend()
    cache = Cache(store, background=False, deadline="1h")
    cache.set("a", 1)
    space = cache._space
    old = store.get(space.generation_name)
    cache.set("a", 2)
    cache._core.tiers.of(BLOCKING, space).observe(old)  # a reply that was on its way while "a" was overwritten
    assert space.doubted
    assert cache.get("a") == 2
    assert not space.doubted


@pytest.mark.redis
def test_a_redis_that_restarts_from_an_older_snapshot_serves_nothing_invalidated_since() -> None:
    with RedisServer() as server, Cache(server.url, deadline="10s", maintenance="manual") as cache:
        cache.set("a", "old", tags=["t"])
        server.ask("SAVE")
        cache.invalidate(tag="t")
        server.kill()
        server.start()
        assert cache.get("a") is MISSING
