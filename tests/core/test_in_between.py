"""What others do between two steps of one call: it counts, whichever call that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcache_core import MISSING, Cache, Computed
from agentcache_core.errors import CacheClosed
from agentcache_core.testing import DictBackend
from agentcache_core.wrapping import Around


class Meddled(Around):
    """A backend on which something happens, once, just before a call that names what a predicate says."""

    def __init__(self, inner: DictBackend) -> None:
        super().__init__(inner)
        self.happens: tuple[Callable[[str, list[bytes]], bool], Callable[[], object]] | None = None

    def run(self, verb: str, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        if self.happens is not None:
            when, what = self.happens
            if when(verb, _names(args[0])):
                self.happens = None
                what()
        return call(*args, **options)


def _names(named: Any) -> list[bytes]:
    listed = named if isinstance(named, list | tuple) else [named]
    return [getattr(one, "name", one) for one in listed]


def _writes_an_entry(verb: str, names: list[bytes]) -> bool:
    return verb.startswith("put") and any(b"/e/" in name for name in names)


def _reads_an_epoch(verb: str, names: list[bytes]) -> bool:
    return verb.startswith("get") and any(b"/t/" in name for name in names)


@pytest.mark.parametrize("many", [False, True])
def test_what_is_set_while_the_namespace_is_invalidated_is_stored(many: bool) -> None:
    inner = DictBackend()
    backend = Meddled(inner)
    with Cache(backend, background=False, maintenance="manual") as cache, Cache(inner) as other:
        cache.set_many([("k", "old"), ("l", "old")], tags=["t"])
        backend.happens = _writes_an_entry, lambda: other.invalidate(namespace="")
        if many:
            assert cache.set_many([("k", "new"), ("l", "new")], tags=["t"], durable=True) == 2
        else:
            assert cache.set("k", "new", tags=["t"], durable=True)
        assert cache.get("k") == "new"
        assert other.get("k") == "new"
        assert backend.happens is None


MEANWHILE: dict[str, tuple[Callable[[Cache], object], object]] = {
    "namespace": (lambda cache: cache.invalidate(namespace=""), MISSING),
    "tag": (lambda cache: cache.invalidate(tag="t"), MISSING),
    "pattern": (lambda cache: cache.invalidate(pattern="k*"), MISSING),
    "delete": (lambda cache: cache.delete("k"), MISSING),
    "set": (lambda cache: cache.set("k", "new", tags=["t"]), "new"),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("near", [[], ["memory://"]], ids=["alone", "behind memory"])
def test_a_hit_that_prolongs_a_life_brings_nothing_back(near: list[str], meanwhile: str) -> None:
    inner = DictBackend()
    backend = Meddled(inner)
    does, expected = MEANWHILE[meanwhile]
    options: dict[str, Any] = {"background": False, "maintenance": "manual", "max_staleness": 0}
    with Cache([*near, backend], **options) as cache, Cache(inner, **options) as other:
        cache.set("k", "old", ttl=60, sliding=True, tags=["t"])
        assert cache.get("k") == "old"
        backend.happens = _writes_an_entry, lambda: does(other)
        assert cache.get("k") == "old"
        assert backend.happens is None
        assert cache.get("k") == expected
        assert other.get("k") == expected


def test_a_hit_in_memory_prolongs_nothing_that_was_replaced() -> None:
    with Cache() as cache:
        cache.set("k", "old", ttl=60, sliding=True)
        keep, meddled = cache._core.tiers.keep_near, []

        def meddling(*args: Any, **options: Any) -> Any:
            if not meddled:
                meddled.append(cache.delete("k"))
            return keep(*args, **options)

        cache._core.tiers.keep_near = meddling  # type: ignore[method-assign]
        assert cache.get("k") == "old"
        assert meddled == [True]
        assert cache.get("k") is MISSING


def test_a_life_prolonged_from_memory_keeps_its_value_in_storage() -> None:
    inner = DictBackend()
    with Cache(["memory://", inner], background=False, maintenance="manual") as cache, Cache(inner) as other:
        cache.set("k", {"a": ["value"]}, ttl=60, sliding=True)
        for _ in range(3):
            assert cache.get("k") == {"a": ["value"]}
        assert other.get("k") == {"a": ["value"]}


def test_a_tag_that_only_the_computation_names_may_be_invalidated_while_it_ends() -> None:
    inner = DictBackend()
    backend = Meddled(inner)
    with Cache(backend, background=False, maintenance="manual") as cache, Cache(inner) as other:
        other.set("x", 1, tags=["t"])

        def compute() -> Computed:
            backend.happens = _reads_an_epoch, lambda: other.invalidate(tag="t")
            return Computed("from before", tags=("t",))

        assert cache.get_or_compute("k", compute) == "from before"
        assert backend.happens is None
        assert other.get("k") is MISSING
        assert cache.get("k") is MISSING


def test_a_closed_cache_opens_nothing_to_say_so() -> None:
    opened: list[str] = []
    cache = Cache(DictBackend())
    view = cache.namespace("other")
    cache.close()
    cache._core.tiers.stored[0].store = opened.append  # type: ignore[method-assign, assignment]
    with pytest.raises(CacheClosed):
        view.get("k")
    assert opened == []
