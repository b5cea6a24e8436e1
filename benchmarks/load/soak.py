"""Does a server stay what it was under mixed load: memory, descriptors, threads and files flat, no 5xx, quota exact?

Ten minutes unless `--seconds` says otherwise, against a real `serve` process with its defaults (SQLite, worker inside).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.load import _traffic
from benchmarks.load._servers import Account, service

PROSE = """Eight clients in a closed loop: sets, gets, invalidations and raw bodies; assets, ranges and signed
links; the remote cache of the Python package; listeners on a page that changes; every page of the dashboard;
live figures by server-sent events. What the server holds is read from the kernel once a second. Growth is that
of the last half: a line through its samples, over its whole length. Other programs ran on the machine
meanwhile, so calls a second mean little. The quota must say exactly what was answered, and `agentcache-service
reconcile` must find no difference afterwards."""

GROWTH, MOST_GROWTH = "memory of the server, growth over the last half", 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server held at one moment: seconds since the beginning, resident bytes, descriptors, threads, files."""

    at: float
    memory: int
    descriptors: int
    threads: int
    files: int


def sample(account: Account, began: float) -> Sample:
    """What it holds now."""
    process = Path(f"/proc/{account.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return Sample(
        time.monotonic() - began,
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir(process / "fd")),
        len(os.listdir(process / "task")),
        sum(len(names) for _, _, names in os.walk(account.folder)),
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The steepness of the line with the least squares through points, in units of y for one of x; 0 for one point."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def run(settings: Settings) -> Report:
    """Load for as long as asked, then look at the samples and the books."""
    seconds = settings.seconds or (6.0 if settings.small else 600.0)
    with service(plan="business", outgoing_allow="127.0.0.0/8") as account:
        samples, tally = _under_load(account, seconds)
        quota = _traffic.settled_quota(account)
        differences = _reconciled(account)
    return _report(samples, tally, quota, differences, seconds)


def _under_load(account: Account, seconds: float) -> tuple[list[Sample], _traffic.Tally]:
    tally, until, began = _traffic.Tally(), time.monotonic() + seconds, time.monotonic()
    threads = [_started(work, account, tally, until) for work in _traffic.CLIENTS]
    samples = []
    while time.monotonic() < until:
        samples.append(sample(account, began))
        time.sleep(min(1.0, seconds / 20))
    for thread in threads:
        thread.join(120)
    return samples, tally


def _started(
    work: Callable[[Account, _traffic.Tally, float], None], account: Account, tally: _traffic.Tally, until: float
) -> threading.Thread:
    def guarded() -> None:
        try:
            work(account, tally, until)
        except Exception as error:  # noqa: BLE001 - a client that dies is a finding, told with the others
            tally.trouble(f"{work.__name__}: {error!r}")

    thread = threading.Thread(target=guarded, name=work.__name__)
    thread.start()
    return thread


def _reconciled(account: Account) -> int:
    """How many differences the service's own recount finds, by its command."""
    environment = {**os.environ, "AGENTCACHE_SERVICE_DATA_DIR": str(account.folder)}
    command = [sys.executable, "-m", "agentcache_service.cli", "reconcile"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    last = next(line for line in done.stdout.splitlines() if line.startswith("usage: ") and "differences" in line)
    return int(last.split()[1])


def _report(
    samples: list[Sample], tally: _traffic.Tally, quota: dict[str, int], differences: int, seconds: float
) -> Report:
    half = [one for one in samples if one.at >= seconds / 2] or samples[-1:]
    memory = slope([(one.at, one.memory) for one in half])
    grown = 100 * memory * seconds / 2 / half[0].memory
    per_minute = memory * 60 / 1e6
    failed = sum(count for status, count in tally.statuses.items() if status >= 500)
    rows = [
        Row("seconds under load", seconds, None),
        Row("calls answered", sum(tally.statuses.values()), None, _counts(tally)),
        Row("answers of 500 and above", failed, None),
        Row("clients that met trouble", len(tally.troubles), None, "; ".join(tally.troubles)[:300]),
        Row(GROWTH, grown, None, f"%, {per_minute:+.2f} MB a minute, on {half[0].memory / 1e6:.0f} MB"),
        *(_held(name, samples) for name in ("descriptors", "threads", "files")),
        Row("requests counted by the quota", quota["requests"], None),
        Row("requests answered", tally.requests, None),
        Row("bytes counted by the quota", quota["bytes"], None),
        Row("bytes answered", tally.sent, None),
        Row("differences found by reconcile", differences, None),
    ]
    exact = [("requests counted by the quota", "requests answered"), ("bytes counted by the quota", "bytes answered")]
    goals = [
        Goal("answers of 500 and above", "", 0.0),
        Goal("clients that met trouble", "", 0.0),
        Goal(GROWTH, "", MOST_GROWTH),
        *(Goal(f"{name}, more at the end than before", "", 2.0) for name in ("descriptors", "threads", "files")),
        *(Goal(counted, told, 1.0, at_least=least) for counted, told in exact for least in (True, False)),
        Goal("differences found by reconcile", "", 0.0),
    ]
    return Report(__doc__ or "", "", tuple(rows), tuple(goals), extra=_trace(samples), prose=PROSE)


def _held(name: str, samples: list[Sample]) -> Row:
    """The most of something in the last quarter over the most in the second: what a leak would make grow."""
    values = [getattr(one, name) for one in samples]
    quarter = max(1, len(values) // 4)
    before, after = max(values[quarter : 2 * quarter] or values[:1]), max(values[-quarter:])
    return Row(
        f"{name}, more at the end than before",
        after - before,
        None,
        f"{before} in the second quarter, {after} in the last",
    )


def _counts(tally: _traffic.Tally) -> str:
    kinds: Counter[str] = Counter()
    for (kind, _), count in tally.by_kind.items():
        kinds[kind] += count
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def _trace(samples: list[Sample]) -> dict[str, list[list[float]]]:
    """Every tenth sample, for a picture: seconds, MB, descriptors, threads, files."""
    kept = samples[:: max(1, len(samples) // 60)]
    return {"samples": [[round(s.at, 1), s.memory / 1e6, s.descriptors, s.threads, s.files] for s in kept]}
