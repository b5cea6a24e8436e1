"""What the service tells by itself, and its care: alerts, anomalies, reports, reconciling, erasure, backup."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from sqlalchemy import select
from starlette.testclient import TestClient
from typer.testing import CliRunner

from agentcache_service import cli
from agentcache_service.areas import REPEATED, job_functions
from agentcache_service.cacheapi import calls
from agentcache_service.cacheapi.place import enter
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import ApiKey, Org, User
from agentcache_service.jobs import Worker
from agentcache_service.mail import LocalOutbox
from agentcache_service.principal import Principal
from agentcache_service.service import Service
from agentcache_service.usage import quota, reconcile
from agentcache_service.usage.alerts import cost_micros, is_anomaly, near_limits
from agentcache_service.usage.figures import projected
from agentcache_service.usage.plans import load_plans


def _org(service: Service, plan: str = "starter") -> str:
    return world.make_org(service, world.make_user(service, "ada"), plan=plan)


def _mails(service: Service) -> list[tuple[str, str]]:
    assert isinstance(service.mail, LocalOutbox)
    read = [service.mail.read(name) for name in service.mail.names()]
    return [(mail["subject"], mail.get_content()) for mail in read if mail is not None]


def _turn(service: Service, worker: Worker, clock: FixedClock, **time: float) -> None:
    clock.advance(**time)
    worker.plant(REPEATED)
    while worker.run_due():
        pass


def test_ninety_per_cent_is_told_once_a_month_by_mail_and_as_long_as_it_lasts_by_banner(
    service: Service, worker: Worker, clock: FixedClock, client: TestClient
) -> None:
    org_id = _org(service, "free")
    with service.db.write() as session:
        quota.take(session, org_id, "requests", "2026-01", amount=899, limit=1000)
    _turn(service, worker, clock, minutes=1)
    assert _mails(service) == []
    with service.db.write() as session:
        quota.take(session, org_id, "requests", "2026-01", amount=1, limit=1000)
    for _ in range(3):
        _turn(service, worker, clock, minutes=1)
    assert [subject for subject, _ in _mails(service)] == ["Acme has used 90 % of its requests"]
    with service.db.read() as session:
        user = session.scalars(select(User.id)).one()
    page = client.get("/dashboard", headers=dict(world.sign_in(service, user).headers)).text
    assert "You have used 90 % of your requests." in page
    clock.advance(days=31)
    with service.db.write() as session:
        quota.take(session, org_id, "requests", "2026-02", amount=950, limit=1000)
    _turn(service, worker, clock, minutes=1)
    assert len(_mails(service)) == 2


def test_a_limit_of_zero_or_none_is_never_near() -> None:
    assert near_limits({"asset_bytes": (0, 0), "requests": (10**9, None)}, 90) == []


def test_only_days_far_above_the_own_past_are_anomalies(service: Service) -> None:
    rule = load_plans(service.settings).anomaly
    steady = [1000, 1100, 950, 1020, 990, 1010]
    assert is_anomaly(steady, 5000, rule, least=500)
    assert not is_anomaly(steady, 1300, rule, least=500)
    assert not is_anomaly([1, 2, 1, 3, 2], 400, rule, least=500)
    assert not is_anomaly([1000, 1000], 9000, rule, least=500)
    assert not is_anomaly([100, 9000, 200, 8000, 50, 7000], 12000, rule, least=500)


def test_an_unusual_day_is_told_once(service: Service, worker: Worker, clock: FixedClock) -> None:
    org_id = _org(service)
    for back in range(7, 0, -1):
        service.meter.count(org_id, "storage", clock.now() - dt.timedelta(days=back), requests=100 + back)
    service.meter.count(org_id, "storage", clock.now(), requests=5000)
    service.meter.flush()
    for _ in range(3):
        _turn(service, worker, clock, hours=1)
    told = [text for subject, text in _mails(service) if subject == "An unusual day for Acme"]
    assert len(told) == 1
    assert "5,000 cache requests so far; a usual day has about 104." in told[0]


def test_a_day_that_costs_far_more_than_usual_is_told_though_its_requests_are_as_ever(
    service: Service, worker: Worker, clock: FixedClock
) -> None:
    org_id, usual = _org(service), {"requests": 700, "bytes_out": 100 << 20, "bytes_in": 1 << 20}
    for back in range(7, 0, -1):
        service.meter.count(org_id, "storage", clock.now() - dt.timedelta(days=back), **usual)
    service.meter.count(org_id, "storage", clock.now(), **{**usual, "bytes_out": 50 * (100 << 20)})
    service.meter.flush()
    for _ in range(3):
        _turn(service, worker, clock, hours=1)
    (told,) = [text for subject, text in _mails(service) if subject == "An unusual day for Acme"]
    assert "$0.46 of requests, traffic and storage so far; a usual day costs about $0.02." in told
    assert "cache requests" not in told


def test_equal_files_cost_nothing_to_keep() -> None:
    prices = {"api_million_calls_usd": 1.0, "bandwidth_gb_usd": 0.09, "redis_mb_month_usd": 0.015}
    day = {"requests": 1000, "bytes_out": 1 << 30, "bytes_in": 10 << 20, "duplicate_bytes": 8 << 20}
    assert cost_micros(day, prices) == 1000 + 90_000 + 30_000


def test_the_projection_of_a_first_month_begins_with_the_customer() -> None:
    def at(day: int, hour: int = 0) -> dt.datetime:
        return dt.datetime(2026, 11, day, hour, tzinfo=dt.UTC)

    assert projected(68_400_000, at(26, 12), since=at(26)) == int(68_400_000 * 5.5)  # half a day counts as one
    assert projected(30, at(11), since=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) == 90
    assert projected(1_000, at(1, 1), since=at(1)) == int(1_000 + 1_000 * (30 - 1 / 24))
    assert projected(0, at(30, 23), since=at(30)) == 0


def test_the_weekly_report_has_the_fields_of_the_contract_and_comes_once_a_week(
    service: Service, worker: Worker, clock: FixedClock
) -> None:
    org_id = _org(service)
    service.meter.count(
        org_id,
        "storage",
        clock.now() - dt.timedelta(days=2),
        requests=1000,
        hits=600,
        misses=200,
        sets=200,
        duplicate_sets=90,
        bytes_saved=5 * quota.GB,
        saved_micros=12_000_000,
    )
    service.meter.flush()
    for _ in range(4):
        _turn(service, worker, clock, minutes=30)
    ((subject, text),) = _mails(service)
    text = text.replace("\r", "")
    assert subject == "Your week with AgentCache: $12.45 saved"
    fields = dict(re.findall(r"^([A-Z][\w ]+): +(\S.*)$", text, re.M))
    assert fields["Hit rate"] == "75.0 %"
    assert fields["Total requests"] == "1,000"
    assert fields["Bandwidth saved"] == "5.000 GB"
    assert fields["Duplicate files eliminated"] == "45.0 %"
    assert fields["Saved this week"] == "$12.45"
    assert fields["Monthly projection"] == "$54.10"
    assert fields["Annual projection"] == "$649.18"


def test_an_organization_that_declined_gets_no_report(service: Service, worker: Worker, clock: FixedClock) -> None:
    org_id = _org(service)
    service.meter.count(org_id, "storage", clock.now() - dt.timedelta(days=1), requests=10)
    service.meter.flush()
    with service.db.write() as session:
        session.get_one(Org, org_id).settings = {"weekly_report": False}
    _turn(service, worker, clock, minutes=1)
    assert _mails(service) == []


def _place(service: Service, org_id: str) -> Any:
    return enter(service, Principal(kind="api_key", org_id=org_id), "storage")


def test_reconcile_finds_explains_and_mends_every_difference(any_service: Service) -> None:
    service = any_service
    org_id = _org(service)
    place = _place(service, org_id)
    for key in ("a", "b"):
        calls.put(service, place, key, {"value of": key})
        service.meter.admit(org_id, "requests", amount=1, limit=25000, now=place.now)
        service.meter.count(org_id, "storage", place.now, requests=1)
    assert reconcile.run(service) == []
    service.engine.objects.delete(bytes.fromhex(service.engine.stored_name(org_id, "storage", "a")))
    with service.db.write() as session:
        quota.correct(session, org_id, "requests", "2026-01", to=99)
    found = {item.metric: (item.counter, item.recount, item.reason) for item in reconcile.run(service)}
    assert found["requests"][:2] == (99, 2)
    assert "evicted" in found["hot_bytes"][2]
    reconcile.run(service, mend=True)
    assert reconcile.run(service) == []


def test_a_person_gets_a_copy_without_secrets_and_is_erased_with_the_organization_of_their_own(
    client: TestClient, service: Service, worker: Worker
) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user)
    key = world.make_key(service, org_id, user)
    calls.put(service, _place(service, org_id), "k", "cached content")
    here = world.sign_in(service, user)
    copy = client.get("/api/account/export", headers=here.headers).json()
    assert copy["user"]["email"] == "ada@example.com"
    (own,) = copy["organizations"]
    assert {room["name"] for room in own["records"]["namespaces"]} >= {"storage"}
    assert [entry["key"] for entry in own["entries"]] == ["k"]
    assert not re.search(r"password_hash|digest|argon2", str(copy))
    wrong = client.request("DELETE", "/api/account/me", json={"password": "wrong one"}, headers=here.headers)
    assert wrong.json()["error"] == "password_wrong"
    done = client.request("DELETE", "/api/account/me", json={"password": world.PASSWORD}, headers=here.headers)
    assert done.status_code == 200
    worker.run_due()
    assert client.get("/api/account/me", headers=here.headers).status_code == 401
    assert client.post("/api/cache/get", json={"key": "k"}, headers=key.headers).status_code == 401
    prefix = service.engine.space(org_id, "").tenant_prefix
    assert list(service.engine.objects.scan(prefix)) == []
    with service.db.read() as session:
        left = " ".join(repr(vars(row)) for table in (User, Org, ApiKey) for row in session.scalars(select(table)))
    assert not re.search(r"ada@|Ada|Acme", left)


def test_the_last_admin_of_others_cannot_leave_them_alone(client: TestClient, service: Service) -> None:
    admin, member = world.make_user(service, "ada"), world.make_user(service, "bob")
    world.add_member(service, world.make_org(service, admin), member, "member")
    here = world.sign_in(service, admin)
    answer = client.request("DELETE", "/api/account/me", json={"password": world.PASSWORD}, headers=here.headers)
    assert (answer.status_code, answer.json()["error"]) == (409, "last_admin")


def test_an_admin_is_made_by_the_command_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCACHE_SERVICE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AGENTCACHE_ADMIN_PASSWORD", "an admin's long phrase")
    run = CliRunner().invoke(cli.app, ["create-admin", "--email", "root@example.com", "--username", "root"])
    assert run.exit_code == 0, run.output
    again = CliRunner().invoke(cli.app, ["create-admin", "--email", "root@example.com", "--username", "root"])
    assert again.exit_code == 1
    service = make_service(make_settings(tmp_path), FixedClock())
    with service.db.read() as session:
        rows = [(row.email, row.platform_role) for row in session.scalars(select(User))]
    assert rows == [("root@example.com", "admin")]
    service.close()


def test_the_worker_does_every_kind_of_job_that_is_repeated(service: Service) -> None:
    assert {item.kind for item in REPEATED} <= set(job_functions(service))
