"""Inputs nobody means: each is a refusal in the one shape, on SQLite and PostgreSQL; errors tell no secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import ormsgpack
import pytest
import service_world as world
from service_conftest import make_service, make_settings
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from starlette.testclient import TestClient

from agentcache_core import Cache
from agentcache_service.app import build_app
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import User
from agentcache_service.jobs import Worker, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.logs import configure_logs
from agentcache_service.orm import new_id
from agentcache_service.policy import public
from agentcache_service.service import Service

DEEP = "[" * 500 + "]" * 500
ACCOUNT = {"email": "n@example.net", "password": "a long enough phrase", "organization": "Acme", "sector": "rag"}


@pytest.fixture
def api(any_service: Service) -> Iterator[TestClient]:
    user = world.make_user(any_service, "ada")
    key = world.make_key(any_service, world.make_org(any_service, user), user)
    with TestClient(build_app(service=any_service), headers=dict(key.headers)) as client:
        yield client


def _refused(answer: Any) -> int:
    assert 400 <= answer.status_code < 500, (answer.request.url, answer.text)
    body = answer.json()
    assert (body["success"], bool(body["error"]), bool(body["message"])) == (False, True, True)
    return int(answer.status_code)


RAW = {
    "an integer of 71 bits": f'{{"key": "k", "value": {2**70}}}',
    "half a character": '{"key": "k", "value": "\\ud800"}',
    "half a character in a name": '{"key": "k", "value": {"\\ud800": 1}}',
    "500 lists": f'{{"key": "k", "value": {DEEP}}}',
    "100,000 lists": '{"key": "k", "value": ' + "[" * 100_000,
    "a key of half a character": '{"key": "\\ud800", "value": 1}',
    "a field of half a character": '{"key": "k", "value": 1, "\\ud800": 1}',
    "a ttl beyond time": '{"key": "k", "value": 1, "ttl": 1e300}',
    "a ttl that is no number": '{"key": "k", "value": 1, "ttl": NaN}',
    "a ttl that is true": '{"key": "k", "value": 1, "ttl": true}',
    "a ttl in words": '{"key": "k", "value": 1, "ttl": "60"}',
    "a cost in words": '{"key": "k", "value": 1, "cost": {"usd_micros": "5"}}',
    "a key with NUL": '{"key": "a\\u0000", "value": 1}',
    "a tag with NUL": '{"key": "k", "value": 1, "tags": ["\\u0000"]}',
}


def test_values_without_a_form_in_json_and_names_with_nul_are_refused(api: TestClient) -> None:
    for body in RAW.values():
        _refused(api.post("/api/cache/set", content=body, headers={"content-type": "application/json"}))
    for path, body in (
        ("/api/cache/get", {"key": "\0"}),
        ("/api/cache/get", {"key": "k", "max_age": float("inf")}),
        ("/api/cache/get", {"key": "k", "max_age": "5"}),
        ("/api/cache/get", {"key": "k", "max_age": False}),
        ("/api/cache/invalidate", {"key": "k", "older_than": True}),
        ("/api/listeners/register", {"url": "https://example.com/", "check_interval": "600"}),
        ("/api/cache/invalidate", {"namespace": "\0"}),
        ("/api/cache/invalidate", {"pattern": "\0"}),
        ("/api/listeners/register", {"url": "http://127.0.0.1/", "tags": ["\0"]}),
        ("/api/listeners/register", {"url": "http://127.0.0.1/", "pattern": "\0"}),
        ("/api/account/register", {**ACCOUNT, "organization": "Nul\0Org"}),
        ("/api/account/register", {**ACCOUNT, "first_name": "a\0"}),
        ("/api/account/login", {"login": "a\0", "password": "x"}),
    ):
        _refused(api.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))
    # content is not a name: a text with NUL is stored and comes back
    assert api.post("/api/cache/set", json={"key": "k", "value": "a\0b"}).status_code == 200
    assert api.post("/api/cache/get", json={"key": "k"}).json()["value"] == "a\0b"
    assert api.post("/api/cache/prewarm", json={"requests": [{"key": "\0", "value": "\0"}]}).status_code == 202


def test_addresses_with_nul_and_odd_ranges_are_refused_or_ignored(api: TestClient) -> None:
    for method, path in (
        ("GET", "/api/assets/%00"),
        ("POST", "/api/assets?key=%00"),
        ("PUT", "/api/cache/value?key=%00"),
        ("GET", "/api/cache/prewarm/%00"),
        ("DELETE", "/api/listeners/%00"),
        ("GET", "/verify?token=%00"),
    ):
        _refused(api.request(method, path, content=b"x" if method in {"POST", "PUT"} else None))
    assert api.put("/api/cache/value?key=raw", content=b"0123456789").status_code == 200
    for wanted in ("bytes=0-" + "9" * 5000, "bytes=١-٢", "bytes=--1"):
        answer = api.get("/api/cache/value?key=raw", headers={"range": wanted.encode()})
        assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_forms_with_nul_are_refused(api: TestClient) -> None:
    answer = api.post("/login", data={"login": "a\0", "password": "x"})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), "soon", True])
def test_batches_with_odd_expiries_are_refused(api: TestClient, moment: Any) -> None:
    body = ormsgpack.packb([[b"name", b"data", moment, False, None]])
    _refused(api.post("/api/v1/batches/put", content=body))


def test_a_value_of_a_remote_client_that_orjson_cannot_write_is_read_through_the_api(
    any_service: Service, api: TestClient
) -> None:
    from agentcache_service.identity.tables import Org

    with any_service.db.read() as session:
        org_id = session.query(Org.id).scalar()
    view: Cache = any_service.engine.view(org_id, "storage")
    view.set("big", {"n": 2**70})
    answer = api.post("/api/cache/get", json={"key": "big"})
    assert answer.json()["value"] == {"n": 2**70}


@pytest.fixture
def logged(service: Service) -> Iterator[None]:
    """Logging set up as in a running service, and taken down again."""
    root = logging.getLogger()
    before, access = list(root.handlers), logging.getLogger("uvicorn.access").disabled
    configure_logs(service.settings)
    yield
    root.handlers[:] = before
    logging.getLogger("uvicorn.access").disabled = access


def _twice(service: Service) -> None:
    """Write one person twice: an integrity error, whose text the database fills with what was written."""
    with service.db.write() as session:
        for _ in range(2):
            session.add(
                User(
                    id=new_id("usr"),
                    email="secret-person@example.net",
                    username="secret-person",
                    first_name="A",
                    last_name="B",
                    password_hash="$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
                    created_at=service.clock.now(),
                )
            )
            session.flush()


SECRETS = ("secret-person@", "$argon2", "aGFzaGhhc2g")


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_an_unhandled_error_is_a_500_in_the_one_shape_and_one_line_without_secrets(
    tmp_path: Any, request: pytest.FixtureRequest, database: str, capsys: pytest.CaptureFixture[str], logged: None
) -> None:
    url = "" if database == "sqlite" else request.getfixturevalue("postgres_url")
    service = make_service(make_settings(tmp_path / "own", database_url=url), FixedClock())
    app = build_app(service=service)

    @app.get("/api/breaks")
    def breaks(_caller: Any = public()) -> None:
        _twice(service)

    with TestClient(app) as client:
        answer = client.get("/api/breaks")
        page = client.get("/api/breaks".replace("/api", ""), headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/json")
    body = answer.json()
    assert (body["success"], body["error"]) == (False, "internal")
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "default-src" in answer.headers["content-security-policy"]
    assert page.status_code == 404
    with pytest.raises(IntegrityError):
        _twice(service)
    with service.db.write() as session:
        enqueue(session, service.clock, "breaks", {})
    Worker(service.db, service.clock, {"breaks": lambda _claim: _twice(service)}).run_one()
    with service.db.read() as session:
        reason = session.query(Job.last_error).scalar()
    service.close()
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=ValueError(SECRETS[0] + "x.net"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if line["event"] == "unhandled error"]
    assert len(told) == 1
    assert told[0]["id"] == body["request_id"]
    assert "IntegrityError" in told[0]["exception"]
    assert [line["event"] for line in lines if "ASGI" in line["event"]] == ["Exception in ASGI application"]
    assert "IntegrityError" in reason
    for secret in SECRETS:
        assert secret not in json.dumps(lines)
        assert secret not in reason


def test_an_error_of_the_database_says_nothing_of_what_was_written(any_service: Service) -> None:
    with pytest.raises(Exception, match="hidden") as caught, any_service.db.write() as session:
        session.execute(text("INSERT INTO nowhere VALUES (:mail)"), {"mail": "secret-person@example.net"})
    assert "secret-person" not in str(caught.value)
