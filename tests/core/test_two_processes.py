"""Two real processes on real servers: how late a change is seen, with the log and without, and who computes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from other_process import OtherProcess

from agentcache_core import MISSING, Cache
from agentcache_core.testing.cables import Cable

SLACK = 10.0
"""Seconds that a busy machine may take on top of a bound."""
OPTIONS: dict[str, Any] = {"deadline": "30s"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _here(stack: ExitStack, tiers: list[str]) -> Cache:
    """A cache in this process, once it has reached its stores."""
    cache = stack.enter_context(Cache(tiers, maintenance="manual", **OPTIONS))
    while not cache.set("reached here", True):
        pass
    return cache


def _through(cable: Cable, url: str) -> str:
    """A server's URL with its port replaced by the cable's."""
    return url.replace(f"127.0.0.1:{_port(url)}", f"127.0.0.1:{cable.port}")


def _port(url: str) -> int:
    found = urlsplit(url.partition("endpoint=")[2].partition("&")[0] or url).port
    assert found is not None
    return found


def _last_seen(seen: list[list[Any]], value: Any) -> float:
    return max((last for found, _, last in seen if found == value), default=0.0)


def _first_seen(seen: list[list[Any]], value: Any) -> float:
    return min(first for found, first, _ in seen if found == value)


def test_a_change_is_seen_at_once_while_the_log_is_followed(redis_url: str, stack: ExitStack) -> None:
    tiers = ["memory://", redis_url]
    mine = _here(stack, tiers)
    mine.set("k", "old")
    other = stack.enter_context(OtherProcess(tiers, max_staleness="1h", **OPTIONS))
    while other.ask("get", "k") != "old" or not _kept(other):
        pass
    assert other.ask("watch", "k", "new", 60.0) == "watching"
    changed = time.monotonic()
    mine.set("k", "new")
    seen = other.hear()
    assert seen[-1][0] == "new"
    assert _first_seen(seen, "new") - changed < SLACK  # an hour, were it not followed


def _kept(other: OtherProcess) -> bool:
    """The first read of a process learns the generation; the second is kept in memory."""
    return bool(other.ask("get", "k"))


@pytest.mark.parametrize("authority", ["redis", "redis, s3"])
def test_a_process_that_is_cut_off_serves_what_has_changed_for_at_most_max_staleness(
    authority: str, redis_url: str, s3_url: str, stack: ExitStack
) -> None:
    urls = [{"redis": redis_url, "s3": s3_url}[name] for name in authority.split(", ")]
    cables = [stack.enter_context(Cable(_port(url))) for url in urls]
    mine = _here(stack, ["memory://", *urls])
    assert mine.set("k", "old")
    through = [_through(cable, url) for cable, url in zip(cables, urls, strict=True)]
    other = stack.enter_context(OtherProcess(["memory://", *through], max_staleness="1s", **OPTIONS))
    for _ in range(3):
        assert other.ask("get", "k") == "old"
    assert other.ask("watch", "k", "new", 120.0) == "watching"
    for cable in cables:
        cable.cut()
    cut = time.monotonic()
    assert mine.set("k", "new")
    while time.monotonic() < cut + 2.0:  # the bound itself, and once more
        time.sleep(0.05)
    for cable in cables:
        cable.mend()
    seen = other.hear()
    assert seen[-1][0] == "new"
    assert _last_seen(seen, "old") < cut + 1.0 + 0.5  # a read that began before the bound may have ended after it
    assert [value for value, *_ in seen if value is not None] == ["old", "new"]


def test_without_a_log_a_change_is_seen_within_max_staleness(s3_url: str, stack: ExitStack) -> None:
    tiers = ["memory://", s3_url]
    mine = _here(stack, tiers)
    assert mine.set("k", "old")
    other = stack.enter_context(OtherProcess(tiers, max_staleness="1s", **OPTIONS))
    for _ in range(3):
        assert other.ask("get", "k") == "old"
    assert other.ask("watch", "k", "new", 60.0) == "watching"
    assert mine.set("k", "new")
    changed = time.monotonic()
    seen = other.hear()
    assert [value for value, *_ in seen] == ["old", "new"]
    assert _last_seen(seen, "old") - changed < 1.0 + SLACK


KEEPERS = ["redis", "redis, s3"]


@pytest.fixture
def shared(request: pytest.FixtureRequest, redis_url: str) -> list[str]:
    """The shared tiers of several processes: a Redis alone, or in front of an S3 that has no leases."""
    return [redis_url] if request.param == "redis" else [redis_url, request.getfixturevalue("s3_url")]


def _connected(stack: ExitStack, tiers: list[str], **options: Any) -> OtherProcess:
    """Another process, once it has reached its stores: one that cannot computes without waiting for anybody."""
    other = stack.enter_context(OtherProcess(tiers, **options, **OPTIONS))
    while not other.ask("set", "reached", True):
        pass
    return other


@pytest.mark.parametrize("shared", KEEPERS, indirect=True)
def test_processes_that_ask_for_one_cold_key_compute_it_once(shared: list[str], stack: ExitStack) -> None:
    others = [_connected(stack, shared) for _ in range(4)]
    for other in others:
        other.say("compute", "k", "answer", False)
    heard = [other.hear() for other in others]
    assert heard.count("computing") == 1
    heard += [other.hear() for other, first in zip(others, heard, strict=True) if first == "computing"]
    assert heard.count(["answer", "answer"]) == 4


@pytest.mark.parametrize("shared", ["redis"], indirect=True)
def test_a_holder_that_is_killed_delays_the_others_by_at_most_its_lease(shared: list[str], stack: ExitStack) -> None:
    holder = _connected(stack, shared, lease=2.0)
    assert holder.ask("compute", "k", "never") == "computing"
    mine = _here(stack, shared)
    holder.signal(signal.SIGKILL)
    killed = time.monotonic()
    computed: list[float] = []

    def compute() -> str:
        computed.append(time.monotonic())
        return "mine"

    assert mine.get_or_compute("k", compute) == "mine"
    assert computed[0] - killed < 2.0 + SLACK
    assert mine.get("k") == "mine"


@pytest.mark.parametrize("shared", KEEPERS, indirect=True)
def test_a_holder_that_overslept_cannot_overwrite_a_newer_answer(shared: list[str], stack: ExitStack) -> None:
    holder = _connected(stack, ["memory://", *shared], lease=1.0)
    assert holder.ask("compute", "k", "overslept") == "computing"
    holder.signal(signal.SIGSTOP)
    mine = _here(stack, shared)
    assert mine.get_or_compute("k", lambda: "newer") == "newer"
    holder.signal(signal.SIGCONT)
    assert holder.ask("go on") == ["answer", "overslept"]
    assert holder.ask("get", "k") == "newer"
    with Cache(shared, maintenance="manual", **OPTIONS) as fresh:
        for cache in (mine, fresh):
            cache.distrust()
            assert [cache.get("k") for _ in range(2)] == ["newer", "newer"]
        assert fresh.get("never stored") is MISSING
