"""`cache.keys()`: what a key-value adapter lists."""

from pathlib import Path

import pytest

from agentcache_core import Cache


@pytest.fixture(params=["memory://", "sqlite:///{}/keys.db"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Cache(request.param.format(tmp_path))


def test_live_text_keys_of_this_view_are_listed_and_nothing_else(cache: Cache) -> None:
    with cache:
        cache.set_many([("a:1", 1), ("a:2", 2), ("b:1", 3)])
        cache.set(b"a:bytes", 1)
        cache.set({"model": "m", "messages": []}, 1)
        cache.namespace("other").set("a:3", 1)
        cache.tenant("other").set("a:4", 1)
        assert sorted(cache.keys()) == ["a:1", "a:2", "b:1"]
        assert sorted(cache.keys("a:")) == ["a:1", "a:2"]
        cache.delete("a:1")
        cache.invalidate(pattern="b:*")
        assert cache.keys() == ["a:2"]


async def test_the_async_face_lists_the_same(cache: Cache) -> None:
    with cache:
        cache.set("a:1", 1)
        assert await cache.aio.keys("a") == ["a:1"]
