"""By settings alone the service runs on PostgreSQL, Redis and S3, in processes that keep nothing to themselves."""

from __future__ import annotations

import os
import re
import signal
import threading
import uuid
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from service_fleet import Customer, Fleet, Line, until
from sqlalchemy import create_engine, text

from agentcache_core.testing.servers import RedisServer, S3Server
from agentcache_core.urls import open_backend
from agentcache_service.cacheapi import listeners
from agentcache_service.clock import SystemClock
from agentcache_service.db import Database, normalise_url
from agentcache_service.jobs import enqueue

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.s3,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux which process holds a connection"),
]
# a module is set up once, and on a busy machine six processes take a while to import everything
pytestmark.append(pytest.mark.timeout(400))
REQUESTS = 400
"""What the plan of this installation's trial includes: few, to be used up."""


@pytest.fixture(scope="module")
def database_url(postgres_server: str) -> Iterator[str]:
    name = f"fleet{uuid.uuid4().hex[:12]}"
    root = create_engine(normalise_url(postgres_server), isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    base, _, query = postgres_server.partition("?")
    yield f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    with root.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    root.dispose()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    plans = folder / "plans.toml"
    packaged = resources.files("agentcache_service").joinpath("plans.toml").read_text("utf-8")
    plans.write_text(packaged.replace("requests = 25_000", f"requests = {REQUESTS}"))
    with RedisServer() as redis, S3Server() as s3:
        running = Fleet(folder, database_url, redis, s3, plans)
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture
def lines(fleet: Fleet) -> Iterator[tuple[Line, Line]]:
    """A connection to each of the two server processes."""
    one, other = fleet.lines()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def customer(fleet: Fleet, lines: tuple[Line, Line]) -> Customer:
    """A customer of this test's own, whose key both connections carry."""
    one, other = lines
    new = fleet.sign_up(one, other, f"c{uuid.uuid4().hex[:10]}")
    one.headers |= new.headers
    other.headers |= new.headers
    return new


def test_the_check_finds_nothing_that_would_break(fleet: Fleet) -> None:
    assert fleet.command("check", home="check").wait(60) == 0, fleet.logs()
    found = (fleet.folder / "check.log").read_text()
    for name in ("DATABASE_URL: PostgreSQL", "CACHE_TIERS: redis://", "CACHE_TIERS: s3://", "FILES_URL", "REDIS_URL"):
        assert f"ok       {name}" in found


def test_what_one_server_stores_the_other_serves_and_what_one_drops_neither_serves(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    one, other = lines
    assert one.pid != other.pid
    for writer, reader, key in ((one, other, "a"), (other, one, "b")):
        writer.post("/api/cache/set", key=key, value={"by": writer.pid}, tags=["red"], ttl=600)
        assert reader.post("/api/cache/get", key=key)["value"] == {"by": writer.pid}
        assert writer.post("/api/cache/get", key=key)["hit"]
    one.post("/api/cache/set", key="b", value="new", ttl=600)
    until(lambda: other.post("/api/cache/get", key="b")["value"] == "new")
    assert one.post("/api/cache/invalidate", tag="red") == {"invalidated": 1}
    until(lambda: not other.post("/api/cache/get", key="a")["hit"])
    assert not one.post("/api/cache/get", key="a")["hit"]
    assert not other.post("/api/cache/get", key="a")["hit"]
    assert other.post("/api/cache/invalidate", key="b") == {"invalidated": 1}
    until(lambda: not one.post("/api/cache/get", key="b")["hit"])


def test_an_asset_lies_in_the_bucket_and_is_read_in_parts_from_the_other_server(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    one, other = lines
    content = os.urandom(1 << 20) * 3
    stored = one.ask("POST", "/api/assets?key=driver", content, content_type="application/x-driver").json
    part = other.ask("GET", f"/api/assets/{stored['asset']}", range="bytes=1048570-1048585")
    assert (part.status, part.body) == (206, content[1048570:1048586])
    linked = other.ask("GET", stored["signed_url"].partition(str(fleet.port))[2], carrying={})
    assert (linked.status, linked.body) == (200, content)
    bucket = open_backend(fleet.tiers[-1], face="blocking")
    assert sum(stat.size for stat in bucket.scan(b"")) >= 1 << 20  # type: ignore[union-attr]  # the blocking face
    bucket.close()


def test_nothing_is_kept_on_a_machine(fleet: Fleet, lines: tuple[Line, Line], customer: Customer) -> None:
    one, _ = lines
    one.post("/api/cache/set", key="k", value=1)
    assert fleet.mails(one)
    kept = [path for path in fleet.folder.glob("machine-*/**/*") if path.is_file()]
    assert {path.name for path in kept} <= {"payments.db", "payments.db-wal", "payments.db-shm"}  # play money


def test_rate_limits_are_counted_together(lines: tuple[Line, Line]) -> None:
    statuses = [
        lines[turn % 2].ask("POST", "/api/account/request-reset", {"email": "nobody@example.com"}).status
        for turn in range(14)
    ]
    assert statuses == [202] * 10 + [429] * 4


def test_the_quota_is_exact_when_both_servers_are_asked_at_once(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    admitted: list[int] = []

    def work() -> None:
        with Line(fleet) as line:
            line.headers |= customer.headers
            count = refused = 0
            while refused < 3:
                status = line.ask("POST", "/api/cache/get", {"key": "k"}).status
                assert status in (200, 402)
                count, refused = count + (status == 200), refused + (status == 402)
        admitted.append(count)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == REQUESTS
    for line in lines:
        assert until(lambda line=line: line.ask("GET", "/api/v1/storage/quota").json)["requests"]["used"] == REQUESTS


def test_a_session_holds_everywhere_and_figures_of_one_server_are_live_on_the_other(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    one, other = lines
    browser = fleet.sign_in(one, customer)
    assert other.ask("GET", "/api/account/me", carrying=browser).json["email"] == customer.email
    watching = Line(fleet, other.pid)
    watching.headers |= browser
    figures = watching.events("/dashboard/live")
    before = int(next(figures)["requests"])
    for _ in range(7):
        one.post("/api/cache/get", key="k")
    assert until(lambda: int(next(figures)["requests"]) == before + 7)
    figures.close()
    watching.close()
    assert other.ask("POST", "/api/account/logout", {}, carrying=browser).status < 300
    assert one.ask("GET", "/api/account/me", carrying=browser).status == 401


def test_a_revoked_key_is_refused_by_the_next_request_to_the_other_server(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    one, other = lines
    browser = fleet.sign_in(one, customer)
    made = one.ask("POST", "/api/keys", {"name": "short-lived"}, carrying=browser).json
    other.headers["x-api-key"] = made["key"]
    assert other.ask("POST", "/api/cache/get", {"key": "k"}).status == 200
    assert one.ask("DELETE", f"/api/keys/{made['details']['id']}", carrying=browser).status < 300
    assert other.ask("POST", "/api/cache/get", {"key": "k"}).status == 401


def test_every_listener_is_looked_at_once_and_its_webhook_called_once(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    names = [f"/page-{customer.org_id}-{number}" for number in range(8)]
    made = [
        lines[number % 2].post(
            "/api/listeners/register",
            url=fleet.site.url + name,
            check_interval=3600,
            tags=["news"],
            webhook=f"{fleet.site.url}/hook{name}",
        )["listener"]
        for number, name in enumerate(names)
    ]
    lines[0].post("/api/cache/set", key="news", value="old", tags=["news"])
    fleet.site.content = b"second"
    database = Database(fleet.database_url)
    with database.write() as session:  # what the clock would bring in an hour
        for listener in made:
            enqueue(session, SystemClock(), listeners.CHECK, {"listener": listener}, org_id=customer.org_id)
    database.close()
    until(lambda: all(fleet.site.asked[f"POST /hook{name}"] for name in names))
    until(lambda: not lines[1].post("/api/cache/get", key="news")["hit"])
    assert [fleet.site.asked[name] for name in names] == [2] * len(names)
    assert [fleet.site.asked[f"POST /hook{name}"] for name in names] == [1] * len(names)


def test_figures_of_all_servers_are_in_every_scrape(lines: tuple[Line, Line]) -> None:
    def counted(line: Line) -> float:
        shown = line.ask("GET", "/metrics").body.decode()
        row = r'^agentcache_http_requests_total\{method="GET",route="unmatched",status="404"\} (\S+)$'
        found = re.search(row, shown, re.M)
        return float(found[1]) if found else 0.0

    before = counted(lines[0])
    for line in lines:
        for _ in range(3):
            assert line.ask("GET", "/docs-nobody").status == 404
    assert counted(lines[0]) == counted(lines[1]) == before + 6


def test_a_server_killed_at_once_is_replaced_and_the_others_go_on(
    fleet: Fleet, lines: tuple[Line, Line], customer: Customer
) -> None:
    one, other = lines
    one.post("/api/cache/set", key="kept", value="still here")
    os.kill(other.pid, signal.SIGKILL)
    assert one.post("/api/cache/get", key="kept")["value"] == "still here"
    after = fleet.lines()
    assert one.pid in {line.pid for line in after}
    assert other.pid not in {line.pid for line in after}
    for line in after:
        line.headers |= customer.headers
        assert line.post("/api/cache/get", key="kept")["value"] == "still here"
        line.close()
