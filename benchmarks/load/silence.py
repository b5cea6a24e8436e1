"""Does the time of login and reset tell whether an address is known?

200 calls each for a known and an unknown address, asked in turn, with the service's own password hashes. What is
compared is the medians; beside them stands how far two halves of the same kind lie apart by chance.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Report, Row, Settings


def run(settings: Settings) -> Report:
    """Medians of both kinds for both calls, their difference, and the difference chance makes."""
    from starlette.testclient import TestClient

    from agentcache_service import schema
    from agentcache_service.app import build_app
    from agentcache_service.identity import accounts
    from agentcache_service.logs import configure_logs
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings as ServiceSettings

    calls = 5 if settings.small else 200
    with tempfile.TemporaryDirectory() as folder:
        chosen = ServiceSettings(data_dir=Path(folder), worker_in_process=False, rate_limits=False, log_level="error")
        configure_logs(chosen)
        service = build_service(chosen)
        schema.upgrade(service.db)
        accounts.create_admin(service, email="known@example.com", username="known", password="a known long phrase")
        client = TestClient(build_app(service=service))
        rows: list[Row] = []
        for path, body in (
            ("/api/account/login", {"login": "{}", "password": "not the right one"}),
            ("/api/account/request-reset", {"email": "{}"}),
        ):
            rows += _compared(client, path, body, calls)
        service.close()
    return Report(__doc__ or "", "ms", tuple(rows))


def _compared(client: Any, path: str, body: dict[str, str], calls: int) -> list[Row]:
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(calls):
        for kind, spent in times.items():
            filled = {name: value.format(f"{kind}@example.com") for name, value in body.items()}
            began = time.perf_counter()
            client.post(path, json=filled)
            spent.append((time.perf_counter() - began) * 1000)
    known, unknown = statistics.median(times["known"]), statistics.median(times["unknown"])
    halves = abs(statistics.median(times["known"][::2]) - statistics.median(times["known"][1::2] or times["known"]))
    name = path.rpartition("/")[2]
    return [
        Row(f"{name}, known address", known, 1.0),
        Row(f"{name}, unknown address", unknown, unknown / known, f"differs by {abs(known - unknown):.2f} ms"),
        Row(f"{name}, two halves of known", halves, None, "differ by chance"),
    ]
