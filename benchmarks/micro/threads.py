"""How much of one thread's throughput do eight threads keep together, reading the same memory cache?"""

from __future__ import annotations

import threading
import time

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Row, Settings

THREADS = 8


def throughput(cache: Cache, keys: list[str], threads: int, reads: int) -> float:
    """Reads a second of `threads` threads that each read `reads` times."""
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        get = cache.get
        for n in range(reads):
            get(keys[n % len(keys)])

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    return threads * reads / (time.perf_counter() - started)


def run(settings: Settings) -> Report:
    keys = [f"user:{n}" for n in range(1000)]
    reads = settings.loops(40_000)
    one: list[float] = []
    many: list[float] = []
    with Cache("memory://", ttl="1h", background=False, maintenance="manual") as cache:
        for key in keys:
            cache.set(key, b"v" * 100)
        for _ in range(1 if settings.small else 41):
            one.append(throughput(cache, keys, 1, reads))
            many.append(throughput(cache, keys, THREADS, reads // THREADS + 1))
    # The best of many short runs: a busy machine gives eight threads a larger share than one, so no median is fair.
    alone, together = max(one), max(many)
    rows = (Row("one thread", alone, 1.0), Row(f"{THREADS} threads", together, together / alone))
    goals = (Goal(f"{THREADS} threads", "one thread", 0.7, 0.85, at_least=True),)
    return Report(__doc__ or "", "reads/s", rows, goals)
