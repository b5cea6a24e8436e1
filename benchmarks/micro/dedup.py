"""How much of two releases of an archive is stored twice, by how content is cut, and how fast is cutting?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from agentcache_core import Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.store.cuts import AVERAGE, ContentCuts
from agentcache_core.testing import DictBackend
from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.micro._archives import members, releases

Cut = Callable[[bytes], Iterable[bytes]]
NOTHING = "nothing found twice"
OURS, FRONT, SPEED, SECOND = "put_asset", "put_asset, one byte in front", "cut and hash, GB/s", "one GB/s"


def fixed(size: int) -> Cut:
    """Blocks of one size."""
    return lambda content: (content[start : start + size] for start in range(0, len(content), size))


def content_defined(average: int) -> Cut:
    """FastCDC's parts."""

    def cut(content: bytes) -> Iterable[bytes]:
        start = 0
        for size in ContentCuts(average).cut(content, last=True):
            yield content[start : start + size]
            start += size

    return cut


WAYS: dict[str, Cut] = {
    "whole file": lambda content: [content],
    "fixed 4 KiB": fixed(4096),
    "fixed 64 KiB": fixed(65_536),
    "each file in it": members,
    **{f"FastCDC {size} KiB": content_defined(size * 1024) for size in (4, 8, 16, 64)},
}


def measured(cut: Cut, old: bytes, new: bytes) -> tuple[float, int, float]:
    """The ratio of both contents to what has to be stored, the number of parts, and bytes cut and hashed a second."""
    digest = Pipeline().digest
    seen: dict[bytes, int] = {}
    count = total = 0
    before = time.perf_counter()
    for content in (old, new):
        for part in cut(content):
            count += 1
            total += len(part)
            seen.setdefault(digest(part), len(part))
    seconds = time.perf_counter() - before
    return total / sum(seen.values()), count, total / seconds


def through_the_engine(old: bytes, new: bytes) -> tuple[float, int]:
    """What `put_asset` makes of it: the ratio as `stats().dedup` tells it, and the number of stored objects."""
    backend = DictBackend()
    with Cache(backend, background=False, maintenance="manual") as cache:
        cache.put_asset("old", old)
        cache.put_asset("new", new)
        with cache.open_asset("new") as asset:
            if asset.read() != new:
                raise AssertionError("the asset came back changed")
        objects = sum(1 for stat in backend.scan(b"") if stat.name[16:19] == b"/x/")
        return cache.stats().dedup.ratio, objects


def run(settings: Settings) -> Report:
    what, old, new, instead = releases(small=settings.small)
    rows = [Row(NOTHING, 1.0, note=f"{len(old) + len(new):,} bytes: {what}")]
    for name, cut in WAYS.items():
        ratio, parts, speed = measured(cut, old, new)
        rows.append(Row(name, ratio, ratio, f"{parts:,} parts, {speed / 1e9:.2f} GB/s"))
    ratio, objects = through_the_engine(old, new)
    rows.append(Row(OURS, ratio, ratio, f"{objects} stored objects"))
    front, objects = through_the_engine(old, b"!" + old)
    rows.append(Row(FRONT, front, front, f"{objects} stored objects"))
    speeds = sorted(measured(content_defined(AVERAGE), old, new)[2] for _ in range(1 if settings.small else 15))
    rows += [Row(SPEED, speeds[len(speeds) // 2] / 1e9), Row(SECOND, 1.0)]
    goals = (
        Goal(OURS, NOTHING, 1.85, at_least=True),
        Goal(FRONT, NOTHING, 1.95, at_least=True),
        Goal(SPEED, SECOND, 0.4, at_least=True),
    )
    return Report(__doc__ or "", "x", tuple(rows), goals, {"the real releases": instead} if instead else {})
