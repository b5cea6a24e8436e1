"""Does a simulated file-storage customer see what customers were promised: sign-up, hits, dedup, bandwidth saved?

The customer signs up over HTTP, publishes firmware and driver files (versions share most of their files, mirrors and
renamed copies repeat them whole) and desktop readers ask for them, popular ones most. On a miss the reader takes the
file from its origin and stores it, as the customer's client does.
"""

from __future__ import annotations

import itertools
import random
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import Goal, Report, Row, Settings

SIGN_UP, PROMISED = "sign-up to first stored entry", "promised: at most"
NAMESPACE = "storage"


@dataclass(slots=True)
class Catalogue:
    """Files by path: what each holds. Equal content has equal numbers, however often and under which name it lies."""

    rng: random.Random
    content: dict[str, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def publish(self, product: int, version: int, *, files: int = 12) -> list[str]:
        """A release: most files unchanged since the last version (same content, new path), a mirror of some."""
        paths = []
        for number in range(files):
            path = f"products/{product}/v{version}/part{number}.bin"
            before = self.content.get(f"products/{product}/v{version - 1}/part{number}.bin")
            content = before if before is not None and self.rng.random() < 0.55 else self._new()
            self.content[path] = content
            paths.append(path)
            if self.rng.random() < 0.25:
                mirror = f"mirror/{product}/v{version}/part{number}.bin"
                self.content[mirror] = content
                paths.append(mirror)
        return paths

    def _new(self) -> int:
        number = next(self.numbers)
        self.sizes[number] = int(min(400_000, self.rng.lognormvariate(9.6, 1.0)))
        return number

    def body(self, path: str) -> bytes:
        """The bytes of a file."""
        content = self.content[path]
        return random.Random(content).randbytes(self.sizes[content])


@dataclass(slots=True)
class Phase:
    """What readers saw in one stretch of time."""

    asked: int = 0
    hits: int = 0
    bytes_asked: int = 0
    bytes_hit: int = 0

    def ask(self, *, hit: bool, size: int) -> None:
        """Count one read."""
        self.asked += 1
        self.hits += hit
        self.bytes_asked += size
        self.bytes_hit += size * hit


def run(settings: Settings) -> Report:
    """Sign up, a first day, a first week, a first month."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(settings, Path(folder))


def _run(settings: Settings, folder: Path) -> Report:
    from starlette.testclient import TestClient

    from agentcache_service import schema
    from agentcache_service.app import build_app
    from agentcache_service.logs import configure_logs
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings as ServiceSettings

    chosen = ServiceSettings(
        data_dir=folder, worker_in_process=False, rate_limits=False, log_level="error", public_url="http://testserver"
    )
    configure_logs(chosen)
    service = build_service(chosen)
    schema.upgrade(service.db)
    began = time.perf_counter()
    client = TestClient(build_app(service=service))
    key = _sign_up(client, service)
    client.headers.update({"X-API-Key": key, "X-Namespace": NAMESPACE})
    catalogue = Catalogue(random.Random(7))
    released = [path for product in range(24) for path in catalogue.publish(product, 1)]
    _read(client, catalogue, released[0], Phase())
    seconds = time.perf_counter() - began
    scale = 20 if settings.small else 1
    day, week, month = Phase(), Phase(), Phase()
    _readers(client, catalogue, released, day, count=600 // scale)
    for version in (2, 3):
        released += [path for product in range(24) for path in catalogue.publish(product, version)]
        _readers(client, catalogue, released, week, count=1400 // scale)
    _readers(client, catalogue, released, month, count=4000 // scale)
    sums = client.get("/api/stats").json()["all_time"]
    service.close()
    return _report(seconds, day, week, month, sums)


def _sign_up(client: Any, service: Any) -> str:
    from agentcache_service.areas import job_functions
    from agentcache_service.jobs import Worker

    form = {
        "email": "ops@files.example",
        "password": "a phrase for files",
        "organization": "Firmware Files",
        "sector": "filestorage",
        "description": "firmware and drivers",
    }
    assert client.post("/api/account/register", json=form).status_code == 202
    Worker(service.db, service.clock, job_functions(service)).run_due()
    mail = service.mail.read(service.mail.names()[0])
    token = re.search(r"token=(\S+)", mail.get_content())
    assert token is not None
    key: str = client.post("/api/account/verify", json={"token": token[1]}).json()["api_key"]
    return key


def _readers(client: Any, catalogue: Catalogue, released: list[str], phase: Phase, *, count: int) -> None:
    """Readers ask for released files: the newest releases most, by a long-tailed popularity."""
    for _ in range(count):
        rank = int(catalogue.rng.paretovariate(0.5)) - 1
        index = len(released) - 1 - rank * 3 - catalogue.rng.randrange(3)
        _read(client, catalogue, released[index % len(released)], phase)


def _read(client: Any, catalogue: Catalogue, path: str, phase: Phase) -> None:
    answer = client.get("/api/cache/value", params={"key": path})
    body = catalogue.body(path)
    hit = answer.status_code == 200
    if hit and answer.content != body:
        raise RuntimeError(f"{path} came back changed")
    phase.ask(hit=hit, size=len(body))
    if not hit:
        stored = client.put("/api/cache/value", params={"key": path}, content=body)
        if stored.status_code != 200:
            raise RuntimeError(f"storing {path} answered {stored.status_code}: {stored.text[:200]}")


def _report(seconds: float, day: Phase, week: Phase, month: Phase, sums: dict[str, Any]) -> Report:
    def percent(part: float, whole: float) -> float:
        return 100 * part / whole if whole else 0.0

    values = {
        "first day: hit rate": (percent(day.hits, day.asked), 30.0),
        "first week: hit rate": (percent(week.hits, week.asked), 50.0),
        "first month: hit rate": (percent(month.hits, month.asked), 80.0),
        "dedup rate of stored bytes": (percent(sums["duplicate_bytes"], sums["bytes_in"]), 40.0),
        "bandwidth saved": (
            percent(
                day.bytes_hit + week.bytes_hit + month.bytes_hit,
                day.bytes_asked + week.bytes_asked + month.bytes_asked,
            ),
            60.0,
        ),
    }
    rows = [Row(SIGN_UP, seconds, None, "s"), Row(PROMISED, 300.0, None, "s")]
    goals = [Goal(SIGN_UP, PROMISED, 1.0)]
    for name, (value, promised) in values.items():
        rows += [Row(name, value, None, "%"), Row(f"promised for {name}", promised, None, "%")]
        goals.append(Goal(name, f"promised for {name}", 1.0, at_least=True))
    return Report(__doc__ or "", "", tuple(rows), tuple(goals), extra={"counters": sums})
