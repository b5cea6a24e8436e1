"""Killed (SIGKILL) before or after any single write to the store, nothing acknowledged is lost and nothing is torn."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.runtime import Immediate, drive
from agentcache_core.store.ledger import Ledger, tenants
from agentcache_core.store.sweep import sweep
from agentcache_core.store.verify import verify
from agentcache_core.urls import open_backend
from agentcache_core.wrapping import Around

WRITES = ("put", "put_many", "touch", "delete", "delete_many")


def text(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"answer {number}, longer than goes inline"}


class Killing(Around):
    """Ends this process with SIGKILL before, or after, the write number `step`."""

    def __init__(self, inner: Any, step: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = step
        self.after = after

    def run(self, verb: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        if verb not in WRITES:
            return call(*args, **kwargs)
        self.left -= 1
        if self.left == 0 and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*args, **kwargs)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def work(url: str, journal: int, step: int, *, after: bool) -> None:
    """A life of a cache; each line of the journal is what must be readable from then on."""
    backend = Killing(open_backend(url), step, after=after)
    cache = Cache(backend, inline_max=16)

    def promise(**truth: Any) -> None:
        os.write(journal, json.dumps(truth).encode() + b"\n")

    cache.set("a", text(1))
    promise(a=1)
    cache.set("shared", text(1))
    promise(shared=1)
    promise(a=None)  # from here on, either
    cache.set("a", text(2))
    promise(a=2)
    cache.put_asset("asset", b"part one " * 10)
    promise(asset=10)
    promise(a=None)
    cache.delete("a")
    promise(a=0)
    store = Immediate(backend)
    (tenant,) = drive(tenants(store))
    drive(sweep(Ledger(store, Pipeline(), tenant), now=4e9, grace=0.0))
    promise(shared=1)
    promise(asset=None)
    cache.put_asset("asset", b"part one " * 20)
    promise(asset=20)
    promise(a=None)
    cache.set("a", text(2))
    promise(a=2)
    os.write(journal, b"done\n")


def run_and_kill(url: str, path: Path, step: int, *, after: bool) -> list[str]:
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            work(url, journal, step, after=after)
        finally:
            os._exit(0)
    os.close(journal)
    os.waitpid(child, 0)
    return path.read_text().splitlines()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_single_write_nothing_acknowledged_is_lost(tmp_path: Path, after: bool) -> None:
    step = 0
    while True:
        step += 1
        assert step < 100
        url = f"sqlite:///{tmp_path}/{step}.db?durability=full"
        lines = run_and_kill(url, tmp_path / f"{step}.txt", step, after=after)
        truth: dict[str, int | None] = {}
        for line in lines:
            if line != "done":
                truth |= json.loads(line)
        check(url, truth)
        if lines and lines[-1] == "done":
            break
    assert step > 20


def check(url: str, truth: dict[str, int | None]) -> None:
    backend = open_backend(url)
    try:
        cache = Cache(backend, inline_max=16)
        for key, number in truth.items():
            if number is None:
                continue
            if key == "asset":
                assert cache.open_asset(key).read() == b"part one " * number
            else:
                assert cache.get(key) == (text(number) if number else MISSING)
        store = Immediate(backend)
        for tenant in drive(tenants(store)):
            ledger = Ledger(store, Pipeline(), tenant)
            assert drive(verify(ledger)).damaged == 0
            assert drive(sweep(ledger, now=4e9, grace=0.0)).missing == 0
            assert drive(verify(ledger)).damaged == 0
            assert drive(sweep(ledger, now=4e9, grace=0.0)).unnamed == 0
        cache.set("after", text(7))
        assert cache.get("after") == text(7)
    finally:
        backend.close()
