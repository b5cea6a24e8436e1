"""A cache in a process of its own, driven line by line: run as a program it obeys, `OtherProcess` gives the orders."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentcache_core import Cache

_ROOT = Path(__file__).parents[2]


class OtherProcess:
    """A process with `Cache(tiers, **options)`. `lease`: seconds its leases live."""

    def __init__(self, tiers: list[str], *, lease: float = 10.0, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps([tiers, lease, options])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        assert self.hear() == "ready"

    def say(self, *words: object) -> None:
        """Give an order; the answers come line by line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """The next line of its answers."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process died"
        return json.loads(line)

    def ask(self, *words: object) -> Any:
        self.say(*words)
        return self.hear()

    def signal(self, which: signal.Signals) -> None:
        os.kill(self._process.pid, which)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


def _tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _obey() -> None:
    tiers, lease, options = json.loads(sys.argv[1])
    cache = Cache(tiers, maintenance="manual", **options)
    cache._core.engine.leases.seconds = lease
    _tell("ready")
    for line in sys.stdin:
        order, *rest = json.loads(line)
        if order == "get":
            _tell(cache.get(rest[0], None))
        elif order == "set":
            _tell(cache.set(rest[0], rest[1]))
        elif order == "watch":
            _watch(cache, *rest)
        elif order == "compute":
            _tell(["answer", cache.get_or_compute(rest[0], functools.partial(_computed, *rest[1:]))])


def _computed(value: str, waits: bool = True) -> str:
    """Say that a computation runs, and end it when told to."""
    _tell("computing")
    if waits:
        sys.stdin.readline()
    return value


def _watch(cache: Cache, key: str, until: Any, seconds: float) -> None:
    """Read a key again and again until it has a value or time is over; tell every value with when it was first and
    last seen, on the clock that all processes of a machine share."""
    seen: list[list[Any]] = []
    give_up = time.monotonic() + seconds
    _tell("watching")
    while time.monotonic() < give_up:
        before = time.monotonic()
        value = cache.get(key, None)
        if not seen or seen[-1][0] != value:
            seen.append([value, before, before])
        seen[-1][2] = before
        if value == until:
            break
        time.sleep(0.005)
    _tell(seen)


if __name__ == "__main__":
    _obey()
