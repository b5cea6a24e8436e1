"""A forked child uses the same cache object: nothing of the parent's crosses, and nobody hangs."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from agentcache_core import MISSING, Cache


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; answers its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["memory", "sqlite", "both"])
def test_parent_and_child_go_on_with_the_same_cache(tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    tiers = {"memory": ["memory://"], "sqlite": [url], "both": ["memory://", url]}[kind]
    with Cache(tiers) as cache:
        cache.set("before", 1)

        def work() -> None:
            assert cache.get("before") == 1
            cache.set("child", 2)
            assert cache.get_or_compute("computed", lambda: 3) == 3
            cache.invalidate(tag="t")

        assert in_child(work) == 0
        assert cache.get("before") == 1
        assert cache.get("child") == (MISSING if kind == "memory" else 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_another_thread_computes_does_not_wait_for_a_thread_it_does_not_have() -> None:
    started, go = threading.Event(), threading.Event()

    def slow() -> int:
        started.set()
        assert go.wait(60)
        return 1

    with Cache() as cache:
        leader = threading.Thread(target=cache.get_or_compute, args=("k", slow))
        leader.start()
        assert started.wait(30)

        def work() -> None:
            assert cache.get_or_compute("k", lambda: 2) == 2
            cache.set("j", 1)
            assert cache.get("j") == 1

        assert in_child(work) == 0
        go.set()
        leader.join(30)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_background_work_runs_in_the_child_too(tmp_path: Path) -> None:
    with Cache() as cache:
        cache.set("k", 1, ttl=0.0, stale_while_revalidate="1h")
        cache.get_or_compute("k", lambda: 2, ttl="1h", stale_while_revalidate="1h")
        assert cache._core.background.drain(10)

        def work() -> None:
            cache.set("c", 1, ttl=0.0, stale_while_revalidate="1h")
            cache.get_or_compute("c", lambda: 2, ttl="1h", stale_while_revalidate="1h")
            assert cache._core.background.drain(10)
            assert cache.get("c") == 2

        assert in_child(work) == 0
        assert cache.get("k") == 2
