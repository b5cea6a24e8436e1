"""Does a simulated file-storage customer see what customers were promised: sign-up, hits, dedup, bandwidth saved?

The customer signs up over HTTP, pays for Starter before the trial ends, and serves firmware and drivers to desktops for
a month of simulated time (`_fleet.py` holds the workload and what it rests on). A reader asks the cache; on a miss it
takes the file from its origin and stores it with the lifetime its namespace has. Desktops keep what they have fetched,
so the cache sees first reads, updates and lost copies only, and one read in ten is of a file that hardly anybody wants
again. Every figure is the service's own: those of its dashboard and of its weekly report.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.load import _fleet
from benchmarks.load._fleet import DAY, Fleet

SIGN_UP, PROMISED = "sign-up to first stored entry", "promised: at most"
NAMESPACE = "storage"
PROMISES = {
    "first day: hit rate": 30.0,
    "first week: hit rate": 50.0,
    "first month: hit rate": 80.0,
    "first week: duplicates of stored bytes": 40.0,
    "first week: duplicates of stored files": 40.0,
    "first month: duplicates of stored bytes": 40.0,
    "first month: bandwidth saved": 60.0,
}
"""The lower ends of what customers were told, in per cent."""


class Customer:
    """A customer's account and its programs, over HTTP against the app in this process, at simulated times."""

    def __init__(self, folder: Path) -> None:
        from starlette.testclient import TestClient

        from agentcache_service import schema
        from agentcache_service.app import build_app
        from agentcache_service.clock import FixedClock
        from agentcache_service.logs import configure_logs
        from agentcache_service.service import build_service
        from agentcache_service.settings import Settings as ServiceSettings

        chosen = ServiceSettings(
            data_dir=folder,
            worker_in_process=False,
            rate_limits=False,
            log_level="error",
            public_url="http://testserver",
        )
        configure_logs(chosen)
        self.clock = FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
        self.service = build_service(chosen, clock=self.clock)
        schema.upgrade(self.service.db)
        self.http = TestClient(build_app(service=self.service))
        self._began = self.clock.now()

    def sign_up(self) -> None:
        """Register, confirm by the mailed link, keep the key, sign in."""
        from agentcache_service.areas import job_functions
        from agentcache_service.jobs import Worker

        form = {
            "email": "ops@files.example",
            "password": "a phrase for files",
            "organization": "Firmware Files",
            "sector": "filestorage",
            "description": "firmware and drivers",
        }
        assert self.http.post("/api/account/register", json=form).status_code == 202
        Worker(self.service.db, self.clock, job_functions(self.service)).run_due()
        mail = self.service.mail.read(self.service.mail.names()[0])  # type: ignore[attr-defined]  # the local outbox
        token = re.search(r"token=(\S+)", mail.get_content())
        assert token is not None
        welcome = self.http.post("/api/account/verify", json={"token": token[1]}).json()
        self.org_id = welcome["organization"]
        self.http.headers.update({"X-API-Key": welcome["api_key"], "X-Namespace": NAMESPACE})

    def pay(self) -> None:
        """Choose Starter for good, as one must within the trial."""
        session = {"login": "ops@files.example", "password": "a phrase for files"}
        keyless = {"X-API-Key": self.http.headers.pop("X-API-Key")}
        token = self.http.post("/api/account/login", json=session).json()["csrf_token"]
        for path, body in (("/api/billing/card", {"card": "card_ok"}), ("/api/billing/checkout", {"plan": "starter"})):
            answer = self.http.post(path, json=body, headers={"X-CSRF-Token": token})
            assert answer.status_code == 200, answer.text
        self.http.headers.update(keyless)

    def at(self, seconds: float) -> None:
        """Move the clock to a moment of the month."""
        self.clock.advance(seconds=max(0.0, seconds - (self.clock.now() - self._began).total_seconds()))

    def read(self, path: str, body: bytes) -> None:
        """What a desktop's program does: ask, and on a miss store what the origin gave."""
        answer = self.http.get("/api/cache/value", params={"key": path})
        if answer.status_code == 200:
            if answer.content != body:
                raise RuntimeError(f"{path} came back changed")
            return
        stored = self.http.put("/api/cache/value", params={"key": path}, content=body)
        if stored.status_code != 200:
            raise RuntimeError(f"storing {path} answered {stored.status_code}: {stored.text[:200]}")

    def figures(self, days: int) -> dict[str, Any]:
        """The dashboard's sums of the first days."""
        from agentcache_service.usage import figures

        self.service.meter.flush(everything=True)
        until = f"{self._began + timedelta(days=days):%Y-%m-%d}"
        with self.service.db.read() as session:
            return figures.totals(figures.sum_days(session, self.org_id, until=until)[""])

    def week(self) -> Any:
        """The figures of the first weekly report, as it is mailed."""
        from agentcache_service.usage import report

        self.service.meter.flush(everything=True)
        now = self._began + timedelta(days=7)
        price = self.service.plans.unit_costs["bandwidth_gb_usd"]
        with self.service.db.read() as session:
            return report.week_before(session, self.org_id, now, bandwidth_gb_usd=price)


def run(settings: Settings) -> Report:
    """Sign up, a first day, a first week, a first month."""
    with tempfile.TemporaryDirectory() as folder:
        return _month(settings, Customer(Path(folder)))


def _month(settings: Settings, customer: Customer) -> Report:
    began = time.perf_counter()
    customer.sign_up()
    fleet = Fleet(desktops=12) if settings.small else Fleet()
    first = fleet.catalogue.latest(0, 0)[0]
    customer.read(first, fleet.catalogue.body(first))
    seconds = time.perf_counter() - began
    has_paid = False
    for at, path in fleet.reads():
        customer.at(at)
        if at > 12 * DAY and not has_paid:
            customer.pay()
            has_paid = True
        customer.read(path, fleet.catalogue.body(path))
    day, week, month = (customer.figures(days) for days in (1, 7, 30))
    reported = customer.week()
    customer.service.close()
    measured = {
        "first day: hit rate": day["hit_rate"],
        "first week: hit rate": reported.hit_rate,
        "first month: hit rate": month["hit_rate"],
        "first week: duplicates of stored bytes": week["dedup_rate"],
        "first week: duplicates of stored files": reported.duplicates_eliminated,
        "first month: duplicates of stored bytes": month["dedup_rate"],
        "first month: bandwidth saved": month["bandwidth_saved_rate"],
    }
    return _report(seconds, measured, {"first day": day, "first week": week, "first month": month})


def _report(seconds: float, measured: dict[str, float | None], sums: dict[str, Any]) -> Report:
    rows = [Row(SIGN_UP, seconds, None, "s"), Row(PROMISED, 300.0, None, "s")]
    goals = [Goal(SIGN_UP, PROMISED, 1.0)]
    for name, share in measured.items():
        rows += [Row(name, 100 * (share or 0.0), None, "%"), Row(f"promised for {name}", PROMISES[name], None, "%")]
        goals.append(Goal(name, f"promised for {name}", 1.0, at_least=True))
    return Report(__doc__ or "", "", tuple(rows), tuple(goals), extra={"counters": sums})


_PAGE = """# What a new file-storage customer sees

Written by `python -m benchmarks.load.onboarding docs/benchmarks-onboarding.md`. Every figure is one of the service's
own (`/api/stats`, the weekly report) after a month of simulated time; nothing is counted by the simulator. Sign-up here
is by HTTP; a browser does it as a person would in `tests/service/test_pages_in_browser.py`.

{about}

| | measured | promised | |
|---|---|---|---|
{table}

Requests: {requests}. Definitions: the *hit rate* is hits by hits and misses; *duplicates* is the share of stored bytes
(or of stored files) whose content the organization had already; *bandwidth saved* is the bytes answered from the cache
by those and the bytes that readers had to fetch elsewhere and store.

## What the workload assumes

{assumptions}

The assumptions were written down before the first run. Rates move with them: more desktops per product or fewer one-off
reads raise the hit rate, a larger catalogue lowers it.
"""


def page(report: Report) -> str:
    """The page of the documentation."""
    values = {row.name: row.value for row in report.rows}
    lines = [f"| {SIGN_UP} | {values[SIGN_UP]:.1f} s | at most 300 s | {_mark(values[SIGN_UP] <= 300)} |"]
    for name, promised in PROMISES.items():
        lines.append(f"| {name} | {values[name]:.1f} % | from {promised:.0f} % | {_mark(values[name] >= promised)} |")
    sums = report.extra["counters"]
    requests = ", ".join(f"{name} {part['requests']:,}" for name, part in sums.items())
    return _PAGE.format(
        about=" ".join((__doc__ or "").split("\n\n", 1)[1].split()),
        table="\n".join(lines),
        requests=requests,
        assumptions=_assumptions(),
    )


def _mark(met: bool) -> str:
    return "met" if met else "**missed**"


def _assumptions() -> str:
    """The constants of the workload with their reasons, read from its source."""
    source = Path(_fleet.__file__).read_text("utf-8")
    found = re.findall(r'^([A-Z_]+) = ([^\n]+)\n(?:"""(.+?)""")?', source, re.M | re.S)
    return "\n".join(
        f"- `{name} = {value}`" + (f": {' '.join(why.split())}" if why else "")
        for name, value, why in found
        if name != "DAY"
    )


if __name__ == "__main__":
    made = run(Settings())
    Path(sys.argv[1]).write_text(page(made), encoding="utf-8")
    print(made.as_table())
