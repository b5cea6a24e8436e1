"""How long answers are served: ttl, stale windows, eager and sliding life."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import MISSING, Cache, Computed
from agentcache_core.clock import ManualClock
from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Freshness
from agentcache_core.policy.freshness import Lifetime, freshness, lifetime, seconds_of, wants_eager_refresh


@pytest.fixture(params=["memory", "sqlite", "both"])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    url = f"sqlite:///{tmp_path}/cache.db"
    return {"memory": ["memory://"], "sqlite": [url], "both": ["memory://", url]}[request.param]


READ = [
    ("90s", 90),
    ("10m", 600),
    ("1h30m", 5400),
    ("2w", 1209600),
    ("250ms", 0.25),
    ("1.5h", 5400),
    (5, 5),
    (timedelta(days=1), 86400),
    (0, 0),
]
REFUSED = ["", "s", "10", "10x", "1h 30", "-5s", -1, float("nan"), float("inf"), True, None, [], "\u0663s"]


@pytest.mark.parametrize(("text", "seconds"), READ)
def test_durations_are_read(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_duration_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        seconds_of(text)


@given(
    ttl=st.floats(0, 1e6),
    swr=st.floats(0, 1e5),
    sie=st.floats(0, 1e5),
    now=st.floats(0, 2e6),
    jitter=st.floats(0, 0.99),
    seed=st.floats(0, 0.999),
)
def test_an_entry_is_fresh_then_stale_then_gone_and_jitter_only_shortens(
    ttl: float, swr: float, sie: float, now: float, jitter: float, seed: float
) -> None:
    life = Lifetime(ttl, swr, sie, jitter)
    stale_at = life.stale_at(0.0, seed=seed)
    gone_at = life.gone_at(stale_at)
    assert stale_at is not None
    assert gone_at is not None
    assert 0 <= stale_at <= ttl
    verdict = freshness(stale_at, gone_at, now)
    assert (verdict is Freshness.FRESH) == (now < stale_at)
    assert (verdict is Freshness.GONE) == (now >= gone_at)


def test_an_expired_entry_is_not_served(tiers: list[str]) -> None:
    clock = ManualClock()
    with Cache(tiers, clock=clock) as cache:
        cache.set("k", 1, ttl="90s")
        clock.advance(89)
        assert cache.get("k") == 1
        clock.advance(1.01)
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: 2) == 2


def test_hits_do_not_prolong_life_unless_it_slides(tiers: list[str]) -> None:
    clock = ManualClock()
    with Cache(tiers, clock=clock) as cache:
        cache.set("fixed", 1, ttl=10)
        cache.set("sliding", 1, ttl=10, sliding=True)
        for _ in range(3):
            clock.advance(4)
            cache.get("fixed")
            assert cache.get("sliding") == 1
        assert cache.get("fixed") is MISSING
        clock.advance(11)
        assert cache.get("sliding") is MISSING


def test_a_stale_answer_is_served_while_it_is_computed_anew_behind(tiers: list[str]) -> None:
    clock = ManualClock()
    with Cache(tiers, clock=clock) as cache:
        calls: list[int] = []

        def compute() -> int:
            calls.append(1)
            return len(calls)

        options: Any = {"ttl": 10, "stale_while_revalidate": 20}
        assert cache.get_or_compute("k", compute, **options) == 1
        clock.advance(15)
        assert cache.get("k") is MISSING  # a plain get serves only what is fresh
        assert cache.get_or_compute("k", compute, **options) == 1
        assert cache._core.background.drain(10)
        assert cache.get_or_compute("k", compute, **options) == 2
        assert len(calls) == 2
        clock.advance(31)
        assert cache.get_or_compute("k", compute, **options) == 3


def test_a_stale_answer_covers_a_failure_only_within_its_window(tiers: list[str]) -> None:
    clock = ManualClock()

    def fail() -> int:
        raise ConnectionError("down")

    with Cache(tiers, clock=clock) as cache:
        cache.set("k", 1, ttl=10, stale_if_error=60)
        clock.advance(30)
        assert cache.get_or_compute("k", fail) == 1
        clock.advance(60)
        with pytest.raises(ConnectionError):
            cache.get_or_compute("k", fail)


def test_an_eager_entry_is_refreshed_shortly_before_it_expires() -> None:
    clock = ManualClock()
    with Cache(clock=clock) as cache:
        calls: list[int] = []

        def compute() -> int:
            calls.append(1)
            return len(calls)

        for advance, expected in ((0, 1), (50, 1), (45, 1)):
            clock.advance(advance)
            assert cache.get_or_compute("k", compute, ttl=100, eager=0.1) == expected
            assert cache._core.background.drain(10)
        assert cache.get("k") == 2
    assert not wants_eager_refresh(0, None, eager=0.5, now=10)


def test_nothing_is_stored_for_exceptions_refusals_and_what_store_if_declines(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        with pytest.raises(ValueError, match="no"):
            cache.get_or_compute("k", lambda: (_ for _ in ()).throw(ValueError("no")))
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: Computed("cut", store=False, reason="truncated")) == "cut"
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: {"ok": False}, store_if=lambda v: v["ok"]) == {"ok": False}
        assert cache.get("k") is MISSING
        assert cache.stats().reasons == {"truncated": 1, "store_if said no": 1}


def test_a_stale_answer_may_only_be_asked_for_with_a_ttl() -> None:
    assert lifetime(None).stale_at(5) is None
    with pytest.raises(ConfigurationError, match="jitter"):
        lifetime(10, jitter=1.5)
