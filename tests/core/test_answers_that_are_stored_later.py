"""`cache.begin()` and `set(…, began=…)`: an answer computed from before an invalidation is not kept after it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.errors import ConfigurationError


@pytest.fixture(params=["memory://", "sqlite:///{}/later.db", "tiers"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    url = f"sqlite:///{tmp_path}/later.db"
    with Cache(["memory://", url] if request.param == "tiers" else request.param.format(tmp_path)) as fresh:
        yield fresh


CUTS: dict[str, Callable[[Cache], object]] = {
    "tag": lambda cache: cache.invalidate(tag="policy"),
    "request": lambda cache: cache.delete("answer"),
    "namespace": lambda cache: cache.invalidate(namespace=""),
    "pattern": lambda cache: cache.invalidate(pattern="ans*"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_what_was_invalidated_in_between_is_not_kept(cache: Cache, cut: str) -> None:
    began = cache.begin(tags=["policy"])
    CUTS[cut](cache)
    cache.set("answer", 1, tags=["policy"], began=began)
    assert cache.get("answer") is MISSING


def test_what_was_not_is_kept_and_falls_later(cache: Cache) -> None:
    began = cache.begin(tags=["policy"])
    cache.invalidate(tag="other")
    assert cache.set("answer", 1, tags=["policy"], began=began)
    assert cache.get("answer") == 1
    cache.invalidate(tag="policy")
    assert cache.get("answer") is MISSING


def test_a_beginning_that_leads_to_nothing_leaves_nothing_behind(cache: Cache) -> None:
    for ended in (True, False):
        began = cache.begin()
        if ended:
            began.end()
            began.end()
        del began
    assert cache._space.computing == 0


async def test_the_async_face_does_the_same(cache: Cache) -> None:
    began = await cache.aio.begin(tags=["policy"])
    await cache.aio.invalidate(tag="policy")
    await cache.aio.set("answer", 1, tags=["policy"], began=began)
    assert await cache.aio.get("answer") is MISSING
    began = await cache.aio.begin(tags=["policy"])
    assert await cache.aio.set("answer", 2, tags=["policy"], began=began)
    assert await cache.aio.get("answer") == 2


def test_a_tag_that_was_not_named_at_the_beginning_is_refused(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match=r"begin\(tags=\['late'\]\)"):
        cache.set("answer", 1, tags=["late"], began=cache.begin(tags=["policy"]))
