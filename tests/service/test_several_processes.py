"""Two processes of one installation: what one knows, the other knows too, without any of them being asked to tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from sqlalchemy import create_engine, select, text
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.cacheapi import quick
from agentcache_service.clock import FixedClock
from agentcache_service.db import normalise_url
from agentcache_service.identity.keys import revoke_key
from agentcache_service.identity.tables import ApiKey
from agentcache_service.mail import Outbox
from agentcache_service.market import forwarding
from agentcache_service.market.blobs import BlobCorrupt, BlobMissing, cid_of
from agentcache_service.market.integration_tables import Connection
from agentcache_service.metrics import Metrics
from agentcache_service.orm import new_id
from agentcache_service.service import Service


@pytest.fixture
def pair(tmp_path: Path, clock: FixedClock, any_database_url: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on one database, with data folders of their own and a store of files that both reach."""
    shared = {
        "database_url": any_database_url,
        "cache_tiers": [f"sqlite:///{tmp_path / 'cache.db'}"],
        "files_url": f"file://{tmp_path / 'files'}",
        "master_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    }
    both = tuple(make_service(make_settings(tmp_path / name, **shared), clock) for name in ("one", "other"))
    yield both[0], both[1]
    for service in both:
        service.close()


def _customer(service: Service) -> tuple[str, str, world.Caller]:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="pro")
    return user, org_id, world.make_key(service, org_id, user)


def test_a_mail_delivered_by_one_is_in_the_outbox_of_the_other(pair: tuple[Service, Service]) -> None:
    one, other = pair
    mail = EmailMessage()
    mail["Subject"], mail["To"] = "Grüße", "ada@example.com"
    mail.set_content("Guten Tag")
    one.mail.deliver(mail)
    assert isinstance(other.mail, Outbox)
    (name,) = other.mail.names()
    found = other.mail.read(name)
    assert found is not None
    assert (found["subject"], found.get_content().strip()) == ("Grüße", "Guten Tag")
    for no_name in ("nothing.eml", "../packages/x", name.replace(".eml", "")):
        assert other.mail.read(no_name) is None


def test_packages_and_credentials_are_read_elsewhere_and_checked(pair: tuple[Service, Service]) -> None:
    one, other = pair
    cid = one.market.packages.put(b"a package")
    assert one.market.packages.put(b"a package") == cid
    assert other.market.packages.get(cid) == b"a package"
    with pytest.raises(BlobMissing):
        other.market.credentials.get(cid)
    assert one.files is not None
    one.files.put(f"packages/{cid}", b"something else")
    with pytest.raises(BlobCorrupt):
        other.market.packages.get(cid)
    other.market.packages.remove(cid)
    with pytest.raises(BlobMissing):
        one.market.packages.get(cid)
    assert cid == cid_of(b"a package")


def test_look_ups_of_one_are_counted_for_partners_although_the_other_does_the_jobs(
    pair: tuple[Service, Service], clock: FixedClock
) -> None:
    one, other = pair
    user, org_id, key = _customer(one)
    with one.db.write() as session:
        row = Connection(id=new_id("con"), org_id=org_id, partner="replicate", method="key", connected_by=user)
        row.sealed, row.connected_at = b"sealed", clock.now()
        session.add(row)
    api = TestClient(build_app(service=one), headers=dict(key.headers))
    for _ in range(3):
        request = {"version": "v", "input": {"prompt": "a"}}
        assert api.post("/api/cache/get", json={"provider": "replicate", "request": request}).status_code == 200
    forwarding.flush(other)
    forwarding.collect(one)
    with other.db.read() as session:
        assert session.scalars(select(Connection.misses)).one() == 3


def test_a_key_revoked_by_one_is_refused_by_the_next_look_up_of_the_other(pair: tuple[Service, Service]) -> None:
    one, other = pair
    user, org_id, key = _customer(one)
    there = TestClient(build_app(service=other), headers=dict(key.headers))
    assert there.post("/api/cache/get", json={"key": "k"}).status_code == 200
    with one.db.write() as session:
        key_id = session.scalars(select(ApiKey.id)).one()
        revoke_key(one, session, world.principal_of(one, org_id, user), key_id=key_id)
    assert there.post("/api/cache/get", json={"key": "k"}).status_code == 401


@pytest.mark.postgres
def test_a_database_that_was_restarted_is_asked_again(
    tmp_path: Path, clock: FixedClock, postgres_url: str, postgres_server: str
) -> None:
    service = make_service(make_settings(tmp_path, database_url=postgres_url), clock)
    _, _, key = _customer(service)
    assert service.keys.find(key.headers["x-api-key"], "storage") is not None
    root = create_engine(normalise_url(postgres_server), isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": service.db.engine.url.database},
        )
    root.dispose()
    assert service.keys.find(key.headers["x-api-key"], "storage") is not None
    service.close()


def _variants(key: str) -> list[tuple[dict[str, str], bytes]]:
    """Calls in good order and not: headers and body."""
    good = {"content-type": "application/json", "x-api-key": key, "x-namespace": "storage"}
    body = b'{"key": "k"}'
    return [
        (good, body),
        ({**good, "content-type": "application/json; charset=utf-8"}, body),
        ({**good, "content-type": "text/plain"}, body),
        ({**good, "x-namespace": "nowhere"}, body),
        ({**good, "x-namespace": "n" * 65}, body),
        ({name: value for name, value in good.items() if name != "x-namespace"}, body),
        ({**good, "x-api-key": "ac_" + "0" * 64}, body),
        ({**good, "x-api-key": ""}, body),
        (good, b'{"key": "absent"}'),
        (good, b'{"key": "k", "max_age": 0}'),
        (good, b'{"key": "k", "semantic": true}'),
        (good, b'{"key": "k", "nonsense": 1}'),
        (good, b'{"key": "k"'),
        (good, b""),
        (good, b"[1]"),
        (good, b'{"key": "\xff"}'),
        (good, json.dumps({"provider": "p", "request": {"model": "m", "x": [1.5, None, "ü"]}}).encode()),
        (good, b'{"provider": "p", "request": {"a": NaN}}'),
        (good, b'{"provider": "p", "request": {"a": ' + b"[" * 3000 + b"]" * 3000 + b"}}"),
    ]


def test_the_quick_way_answers_what_the_route_answers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    user, org_id, key = _customer(service)
    taken: list[str] = []

    async def straight_on(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    quickly = TestClient(build_app(service=service), raise_server_exceptions=False)
    quickly.post("/api/cache/set", json={"key": "k", "value": {"a": 1}}, headers=dict(key.headers))

    def answers() -> list[tuple[int, Any, str]]:
        found = []
        for headers, body in _variants(key.headers["x-api-key"]):
            answer = quickly.post("/api/cache/get", content=body, headers=headers)
            content = answer.json()
            content.pop("age_s", None), content.pop("ttl_s", None)
            found.append((answer.status_code, content, answer.headers["content-type"]))
        return found

    original = quick.answer

    async def noted(*given: Any) -> bytes:
        taken.append("quick")
        return await original(*given)

    monkeypatch.setattr(quick, "answer", noted)
    with_layer, by_layer = answers(), len(taken)
    monkeypatch.setattr(quick.QuickGet, "__call__", straight_on)
    assert answers() == with_layer
    assert {status for status, _, _ in with_layer} >= {200, 400, 401, 404, 422}
    assert by_layer >= 5
    assert user
    assert org_id


def test_callers_cannot_make_up_labels_of_figures() -> None:
    metrics = Metrics()
    for method in ("GET", "BREW", "PROPFIND"):
        metrics.answered(method, "/x", 200, 0.1)
    shown = metrics.render().decode()
    assert 'method="OTHER",route="/x",status="200"} 2.0' in shown
    assert "BREW" not in shown
