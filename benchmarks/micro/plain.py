"""What does a hit on a plain string key cost, with bounds, TTL and statistics on, beside other memory caches?"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against

ENTRIES = 10_000
RIVAL = "cachetools LRUCache + RLock"


def cachetools_lru(keys: list[str], value: bytes) -> Callable[[str], Any]:
    import cachetools

    store = cachetools.LRUCache(maxsize=len(keys) * 2)
    lock = threading.RLock()
    store.update(dict.fromkeys(keys, value))

    def get(key: str) -> Any:
        with lock:
            return store.get(key)

    return get


def cachebox_ttl(keys: list[str], value: bytes) -> Callable[[str], Any]:
    import cachebox

    store = cachebox.TTLCache(maxsize=len(keys) * 2, global_ttl=3600)
    for key in keys:
        store.insert(key, value)
    return store.get


def lru_cache(keys: list[str], value: bytes) -> Callable[[str], Any]:
    compute = functools.lru_cache(maxsize=len(keys) * 2)(lambda key: value)
    for key in keys:
        compute(key)
    return compute


def plain_dict(keys: list[str], value: bytes) -> Callable[[str], Any]:
    return dict.fromkeys(keys, value).get


PEERS = {"dict.get": plain_dict, RIVAL: cachetools_lru, "cachebox TTLCache": cachebox_ttl, "lru_cache": lru_cache}


def run(settings: Settings) -> Report:
    keys = [f"user:{n}:profile" for n in range(100 if settings.small else ENTRIES)]
    value = b"v" * 100
    left_out: dict[str, str] = {}
    gets: dict[str, Callable[[str], Any]] = {}
    for name, peer in PEERS.items():
        try:
            gets[name] = peer(keys, value)
        except ImportError as error:
            left_out[name] = f"not installed: {error.name}"
    with Cache(
        "memory://?max_bytes=256MB&max_entries=100000", ttl="1h", background=False, maintenance="manual"
    ) as cache:
        for key in keys:
            cache.set(key, value)
        gets["agentcache get"] = cache.get
        sample = keys[:: max(1, len(keys) // 100)]

        def sweep(get: Callable[[str], Any]) -> Callable[[], None]:
            def call() -> None:
                for key in sample:
                    get(key)

            return call

        values = nanoseconds_per_call({name: sweep(get) for name, get in gets.items()}, settings, loops=300)
    each = {name: value / len(sample) for name, value in values.items()}
    goals = (Goal("agentcache get", RIVAL, 0.6, 0.4),)
    return Report(__doc__ or "", "ns", rows_against(each, RIVAL if RIVAL in each else "dict.get"), goals, left_out)
