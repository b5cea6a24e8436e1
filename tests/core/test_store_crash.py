"""Killed (SIGKILL) before any single write, nothing acknowledged is lost, nothing is torn, and what was left is swept.

Each life of a cache below runs in a child that is killed before its first write to a store, then before its second,
and so on until it comes to its end. What stands before write n + 1 is what stood after write n, so these are all
the places at which a process can die, as far as the store can tell. Within a write, on files, the steps are those
that the operating system is asked for.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.policy.placement import Rules
from agentcache_core.store import chunks, cuts, packs, paging
from agentcache_core.urls import open_backend
from agentcache_core.wrapping import Around

WRITES = ("put", "put_many", "touch", "delete", "delete_many", "append", "acquire", "release", "put_fenced", "sweep")
HOT, COLD = Rules(hot=0.5, cold=0.1), Rules(hot=1, cold=1, cold_after=0)
Life = Callable[[Cache, Callable[..., None]], None]


def text(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"answer {number}, longer than goes inline"}


def content(number: int) -> bytes:
    """Assets that have most of their bytes in common: some parts, a few packs, pages."""
    common = random.Random(0).randbytes(3000)
    return b"%d" % number + common + random.Random(number).randbytes(1000)


class Steps:
    """Ends this process with SIGKILL before the write number `left`, counted over all stores."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Killing(Around):
    def __init__(self, inner: Any, steps: Steps) -> None:
        super().__init__(inner)
        self._steps = steps

    def run(self, verb: str, call: Any, /, *args: Any, **options: Any) -> Any:
        if verb in WRITES:
            self._steps.take()
        return call(*args, **options)


# --- lives of a cache; each promise is what must be readable from then on -----------------------------------------


def answers(cache: Cache, promise: Callable[..., None]) -> None:
    """Values and their blobs, shared and replaced; small assets; a sweep."""
    cache.set("a", text(1))
    promise(a=1)
    cache.set_many([("shared", text(1)), ("b", text(3))], tags=["t"])
    promise(shared=1, b=3)
    promise(a=None)  # from here on, either
    cache.set("a", text(2))
    promise(a=2)
    promise(b=None, shared=None)
    cache.invalidate(tag="t")
    promise(b=0, shared=0)
    promise(a=None)
    cache.delete("a")
    promise(a=0)
    cache.set("again", text(1))
    promise(again=1)
    cache.maintain(grace=0)
    promise(a=None)
    cache.set("a", text(2))
    promise(a=2)


def assets(cache: Cache, promise: Callable[..., None]) -> None:
    """Packs, pages and the index of packs: an asset, then one in its place that shares parts with it, and a sweep."""
    cache.put_asset("asset 1", content(1))
    promise(**{"asset 1": 1})
    promise(**{"asset 1": None})
    cache.put_asset("asset 1", content(3))
    promise(**{"asset 1": 3})
    cache.maintain(grace=0)


def files(cache: Cache, promise: Callable[..., None]) -> None:
    """One of each: a blob, its overwrite, a small asset, a sweep."""
    cache.set("a", text(1))
    promise(a=1)
    promise(a=None)
    cache.set("a", text(2))
    promise(a=2)
    cache.put_asset("asset 1", content(1))
    promise(**{"asset 1": 1})
    cache.maintain(grace=0)


def moves(cache: Cache, promise: Callable[..., None]) -> None:
    """Entries leave the hot tier and come back: copied, named, removed. One of them only the hot tier has."""
    cache.set_many([("a", text(1)), ("b", text(2)), ("c", {"n": 3})])
    promise(a=1, b=2, moves=0)
    cold = cache._core.tiers.authority
    assert cold is not None
    inner: Any = cold.store("blocking").backend.inner.inner  # around the one that kills: it is a fault that we make
    inner.delete(cache._space.entry_name(cache.key("b")))
    assert cache.maintain(policy=COLD, grace=0).moved == 3
    promise(moved=1)  # from here on the authority alone has everything
    for _ in range(6):
        assert cache.get("a") == text(1)
        _forget_hot(cache)
    assert cache.maintain(policy=HOT, grace=0).moved == 1
    promise(a=None)
    cache.set("a", text(4))
    promise(a=4)


def _forget_hot(cache: Cache) -> None:
    hot: Any = cache._core.tiers.stored[0].store("blocking").backend.inner.inner
    for stat in list(hot.scan(b"")):
        hot.delete(stat.name)


LIVES: dict[str, tuple[Life, bool, int]] = {
    "answers on two tiers": (answers, True, 25),
    "assets": (assets, False, 20),
    "assets on two tiers": (assets, True, 20),
    "files": (files, False, 15),
    "moves": (moves, True, 10),
}


# --- killing and looking --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _smaller() -> Any:
    """Little content has many parts, packs and pages."""
    with (
        mock.patch.object(chunks, "best_cuts", return_value=cuts.ContentCuts(average=1024)),
        mock.patch.object(packs, "PACK_SIZE", 1500),
        mock.patch.object(paging, "MOST_ROWS", 3),
    ):
        yield


def opened(tiers: list[Any]) -> Cache:
    return Cache(tiers, inline_max=16, background=False, maintenance="manual", deadline="30s", max_staleness=0)


def run_in_child(path: Path, body: Callable[[Callable[..., None]], None]) -> list[str]:
    """Run `body(promise)` in a forked child; answers the lines of its journal, the last of them "done" if it lived."""
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            body(lambda **truth: os.write(journal, json.dumps(truth).encode() + b"\n"))
            os.write(journal, b"done\n")
        except BaseException as error:
            os.write(journal, f"failed: {error!r}\n".encode())
        finally:
            os._exit(0)
    os.close(journal)
    os.waitpid(child, 0)
    return path.read_text().splitlines()


def truth_of(lines: list[str]) -> dict[str, int | None]:
    truth: dict[str, int | None] = {}
    for line in lines:
        assert not line.startswith("failed"), line
        if line != "done":
            truth |= json.loads(line)
    return truth


def places(scheme: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Answers the URL of a new, empty store for every name."""
    if scheme == "sqlite":
        return lambda name: f"sqlite:///{tmp_path}/{name}.db?timeout=10s"
    if scheme == "file":
        return lambda name: f"file://{tmp_path}/{name}"
    url: str = request.getfixturevalue("redis_url")
    return lambda name: url.replace("prefix=", f"prefix={name}-")


LIVED = [
    ("sqlite", "assets"),
    *(("file", name) for name in ("assets on two tiers", "moves")),
    *(pytest.param("redis", name, marks=pytest.mark.redis) for name in ("answers on two tiers", "moves")),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("scheme", "name"), LIVED)
def test_killed_before_every_single_write_nothing_acknowledged_is_lost(
    scheme: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    life, two, least = LIVES[name]
    place = places(scheme, request, tmp_path)
    for step in itertools.count(1):
        assert step < 400
        urls = [f"sqlite:///{tmp_path}/{step}-hot.db"] * two + [place(str(step))]

        def body(promise: Callable[..., None], step: int = step, urls: list[str] = urls) -> None:
            steps = Steps(step)
            life(opened([Killing(open_backend(url), steps) for url in urls]), promise)

        lines = run_in_child(tmp_path / f"{step}.txt", body)
        check(urls, truth_of(lines))
        if lines and lines[-1] == "done":
            break
    assert step > least


def check(urls: list[str], truth: dict[str, int | None]) -> None:
    with opened(urls) as cache:
        assert_true(cache, truth)
        assert [told.damaged for told in cache.verify().values()] == [0] * len(urls)
        report = cache.maintain(grace=0)
        assert (report.trouble, [swept.missing for swept in report.swept.values()]) == ({}, [0] * len(urls))
        assert_true(cache, truth)
        again = cache.maintain(grace=0)
        assert [(swept.unnamed, swept.young) for swept in again.swept.values()] == [(0, 0)] * len(urls)
        assert [told.damaged for told in cache.verify().values()] == [0] * len(urls)
        assert cache.set("after", text(7))
        assert cache.put_asset("after", content(9)).stored
    with opened(urls[-1:]) as authority:
        if "moves" not in truth or truth.get("moved"):
            assert_true(authority, truth)
        assert (authority.get("after"), authority.open_asset("after").read()) == (text(7), content(9))


def assert_true(cache: Cache, truth: dict[str, int | None]) -> None:
    for key, number in truth.items():
        if number is None or key in ("moves", "moved"):
            continue
        if key.startswith("asset"):
            assert cache.open_asset(key).read() == content(number), key
        else:
            assert cache.get(key) == (text(number) if number else MISSING), key


CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.utime")


@pytest.mark.timeout(600)
def test_killed_between_any_two_things_asked_of_the_operating_system_files_are_whole(tmp_path: Path) -> None:
    life, _, least = LIVES["files"]
    for step in itertools.count(1):
        assert step < 2000
        folder = tmp_path / str(step)

        def body(promise: Callable[..., None], step: int = step, folder: Path = folder) -> None:
            steps = Steps(step)

            def watch(event: str, arguments: tuple[Any, ...]) -> None:
                writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if (writes or event in CHANGES) and str(folder) in str(arguments[0]):
                    steps.take()

            sys.addaudithook(watch)
            life(opened([f"file://{folder}"]), promise)

        lines = run_in_child(tmp_path / f"{step}.txt", body)
        if folder.exists():
            for path in folder.rglob("*"):
                if path.is_file():
                    os.utime(path, (1, 1))  # long ago: what is still unfinished will never be finished
            check([f"file://{folder}"], truth_of(lines))
            assert list(folder.rglob("*.new")) == [], "what was half written is gone"
        if lines and lines[-1] == "done":
            break
    assert step > 2 * least
