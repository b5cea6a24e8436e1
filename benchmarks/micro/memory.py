"""How many bytes does one of a million small entries take beyond its key and its value?"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.harness import Goal, Report, Row, Settings

PROGRAM = """
import gc, json, os, resource, sys
kind, count = sys.argv[1], int(sys.argv[2])
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
keys = [f"user:{n:08d}" for n in range(count)]
values = [b"%020d" % n for n in range(count)]
if kind == "agentcache":
    from agentcache_core import Cache
    cache = Cache("memory://?max_bytes=4GB&max_entries=100000000", ttl="1h", background=False, maintenance="manual")
    cache.set("warm", b"up")
    put = lambda key, value: cache.set(key, value)
elif kind == "cachetools":
    import cachetools
    store = cachetools.LRUCache(maxsize=count * 2)
    put = store.__setitem__
else:
    store = {}
    put = store.__setitem__
gc.collect()
before = resident()
for key, value in zip(keys, values):
    put(key, value)
gc.collect()
print(json.dumps((resident() - before) / count))
"""
KINDS = {"dict": "dict", "cachetools": "cachetools LRUCache", "agentcache": "agentcache"}


def run(settings: Settings) -> Report:
    count = 2_000 if settings.small else 1_000_000
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for kind, name in KINDS.items():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, kind, str(count)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            left_out[name] = done.stderr.strip().splitlines()[-1]
            continue
        rows.append(Row(name, float(json.loads(done.stdout))))
    goals = (Goal(KINDS["agentcache"], "", 200.0, 150.0),)
    return Report(__doc__ or "", "bytes", tuple(rows), goals, left_out, {"entries": count})
