"""The cache over HTTP: shapes of the contract, keys of the engine, quota, tenants, bytes and ranges."""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import service_world as world
from starlette.testclient import TestClient

from agentcache_core import Cache
from agentcache_service.app import build_app
from agentcache_service.service import Service
from agentcache_service.usage import quota

REQUEST = {"model": "gpt-5", "messages": [{"role": "user", "content": "What is a cache?"}], "temperature": 0}


@pytest.fixture
def org_id(service: Service) -> str:
    return world.make_org(service, world.make_user(service, "ada"), plan="pro")


@pytest.fixture
def api(service: Service, org_id: str) -> Iterator[TestClient]:
    with service.db.read() as session:
        from sqlalchemy import select

        from agentcache_service.identity.tables import Membership

        user = session.scalars(select(Membership.user_id)).one()
    key = world.make_key(service, org_id, user)
    with TestClient(build_app(service=service), headers=dict(key.headers)) as client:
        yield client


def _set(api: TestClient, key: str, value: Any, **options: Any) -> dict[str, Any]:
    answer = api.post("/api/cache/set", json={"key": key, "value": value, "ttl": 604800, **options})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _get(api: TestClient, **body: Any) -> dict[str, Any]:
    answer = api.post("/api/cache/get", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_set_and_get_have_the_shapes_of_the_contract(api: TestClient) -> None:
    stored = _set(api, "k", {"a": [1, 2.5, None, "ü"]}, cost={"usd_micros": 1500, "output_tokens": 20})
    assert stored.keys() == {"success", "key", "bytes", "deduplicated", "expires_at"}
    assert (stored["success"], stored["key"], stored["deduplicated"]) == (True, "k", False)
    hit = _get(api, key="k")
    assert hit["value"] == {"a": [1, 2.5, None, "ü"]}
    assert (hit["hit"], hit["how"], hit["similarity"], hit["freshness"]) == (True, "exact", None, "fresh")
    assert hit["saved"]["usd_micros"] == 1500
    assert 0 < hit["ttl_s"] <= 604800
    assert _get(api, key="absent") == {"hit": False}


def test_a_request_is_keyed_as_in_the_embedded_engine(api: TestClient, service: Service, org_id: str) -> None:
    body = {"provider": "openai", "request": REQUEST, "response": {"text": "fast"}, "ttl": 60}
    stored = api.post("/api/cache/set", json=body).json()
    embedded = Cache(tenant=org_id, namespace="storage")
    assert stored["key"] == embedded.key({"provider": "openai", **REQUEST}).digest.hex()
    reordered = dict(reversed(REQUEST.items()))
    assert _get(api, provider="openai", request=reordered)["value"] == {"text": "fast"}
    assert _get(api, provider="anthropic", request=REQUEST) == {"hit": False}
    embedded.close()


def test_equal_values_are_told_as_duplicates_and_charged_once(api: TestClient, service: Service, org_id: str) -> None:
    firmware = "x" * 1000
    assert not _set(api, "a", firmware)["deduplicated"]
    assert _set(api, "b", firmware)["deduplicated"]
    with service.db.read() as session:
        assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == 1002


def test_bytes_travel_as_base64_or_raw_and_in_parts(api: TestClient) -> None:
    content = bytes(range(256)) * 300
    _set(api, "b64", base64.b64encode(content).decode(), encoding="base64")
    hit = _get(api, key="b64")
    assert (hit["encoding"], base64.b64decode(hit["value"])) == ("base64", content)
    raw = api.put("/api/cache/value", params={"key": "raw"}, content=content)
    assert (raw.status_code, raw.json()["bytes"], raw.json()["deduplicated"]) == (200, len(content), True)
    whole = api.get("/api/cache/value", params={"key": "raw"})
    assert whole.content == content
    part = api.get("/api/cache/value", params={"key": "raw"}, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    beyond = api.get("/api/cache/value", params={"key": "raw"}, headers={"range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    again = api.get("/api/cache/value", params={"key": "raw"}, headers={"if-none-match": whole.headers["etag"]})
    assert again.status_code == 304
    charged = api.get("/api/stats").json()["month"]["bytes_out"]
    assert charged == 2 * len(content) + 10  # by key, whole and in part: what was sent, and nothing for the 304 and 416


@pytest.mark.parametrize(
    ("selector", "left"),
    [
        ({"key": "a1"}, {"a2", "b1"}),
        ({"keys": ["a1", "b1", "nothing"]}, {"a2"}),
        ({"pattern": "a*"}, {"b1"}),
        ({"tag": "red"}, {"a2"}),
        ({"url": "https://example.com/b"}, {"a1", "a2"}),
        ({"namespace": "storage"}, set()),
    ],
)
def test_each_selector_invalidates_what_it_names_and_frees_it(
    api: TestClient, service: Service, org_id: str, selector: dict[str, Any], left: set[str]
) -> None:
    _set(api, "a1", "1", tags=["red"])
    _set(api, "a2", "22")
    _set(api, "b1", "333", tags=["red"], sources=["https://example.com/b"])
    answer = api.post("/api/cache/invalidate", json=selector).json()
    assert answer == {"invalidated": 3 - len(left)}
    assert {key for key in ("a1", "a2", "b1") if _get(api, key=key)["hit"]} == left
    sizes = {"a1": 3, "a2": 4, "b1": 5}
    with service.db.read() as session:
        assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == sum(sizes[key] for key in left)


def test_older_than_narrows_any_selector(api: TestClient) -> None:
    _set(api, "a", "1", tags=["red"])
    assert api.post("/api/cache/invalidate", json={"tag": "red", "older_than": 3600}).json() == {"invalidated": 0}
    assert api.post("/api/cache/invalidate", json={"key": "a", "older_than": 3600}).json() == {"invalidated": 0}
    assert _get(api, key="a")["hit"]
    assert api.post("/api/cache/invalidate", json={"tag": "red", "older_than": 0}).json() == {"invalidated": 1}
    assert not _get(api, key="a")["hit"]


def test_two_organizations_and_two_namespaces_never_see_each_other(
    api: TestClient, service: Service, org_id: str
) -> None:
    stranger = world.make_user(service, "eve")
    theirs = world.make_key(service, world.make_org(service, stranger, name="Others"), stranger)
    _set(api, "k", "ours")
    assert api.post("/api/cache/get", json={"key": "k"}, headers=dict(theirs.headers)).json() == {"hit": False}
    assert api.post("/api/cache/get", json={"key": "k"}, headers={"x-namespace": "cdn"}).json() == {"hit": False}
    gone = api.post("/api/cache/invalidate", json={"pattern": "*"}, headers=dict(theirs.headers)).json()
    assert gone == {"invalidated": 0}
    assert _get(api, key="k")["hit"]


def test_a_namespace_nobody_made_is_not_found_and_a_missing_header_is_told(api: TestClient) -> None:
    assert api.post("/api/cache/get", json={"key": "k"}, headers={"x-namespace": "nowhere"}).status_code == 404
    del api.headers["x-namespace"]
    answer = api.post("/api/cache/get", json={"key": "k"})
    assert (answer.status_code, answer.json()["error"]) == (400, "namespace_missing")


def test_a_revoked_key_is_refused_by_the_next_request(api: TestClient, service: Service) -> None:
    from sqlalchemy import update

    from agentcache_service.identity.tables import ApiKey

    assert not _get(api, key="k")["hit"]
    with service.db.write() as session:
        session.execute(update(ApiKey).values(revoked_at=service.clock.now()))
    assert api.post("/api/cache/get", json={"key": "k"}).status_code == 401


def test_requests_beyond_the_plan_are_refused_exactly(service: Service) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="free")
    with service.db.write() as session:
        quota.take(session, org_id, "requests", "2026-01", amount=995, limit=1000)
    key = world.make_key(service, org_id, user, use_in="cdn")
    client = TestClient(build_app(service=service), headers=dict(key.headers))
    answers = [client.post("/api/cache/get", json={"key": "k"}) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [402] * 2
    assert answers[-1].json()["error"] == "quota_exceeded"
    assert answers[-1].json()["upgrade_url"] == "http://testserver/pricing"


def test_features_outside_the_plan_are_refused(service: Service) -> None:
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user, plan="free"), user, use_in="cdn")
    client = TestClient(build_app(service=service), headers=dict(key.headers))
    answer = client.post("/api/cache/invalidate", json={"key": "k"})
    assert (answer.status_code, answer.json()["error"]) == (402, "feature_not_in_plan")


def test_a_value_too_large_for_the_plan_leaves_nothing_behind(service: Service) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="free")
    key = world.make_key(service, org_id, user, use_in="cdn")
    client = TestClient(build_app(service=service), headers=dict(key.headers))
    answer = client.post("/api/cache/set", json={"key": "k", "value": "x" * (11 << 20)})
    assert (answer.status_code, answer.json()["error"]) == (402, "quota_exceeded")
    assert client.post("/api/cache/get", json={"key": "k"}).json() == {"hit": False}
    with service.db.read() as session:
        assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == 0


def test_figures_equal_what_was_done(api: TestClient, service: Service) -> None:
    _set(api, "a", "x" * 98)
    _set(api, "b", "x" * 98)
    _get(api, key="a")
    _get(api, key="a")
    _get(api, key="nothing")
    month = api.get("/api/stats").json()["month"]
    assert (month["requests"], month["sets"], month["hits"], month["misses"]) == (5, 2, 2, 1)
    assert (month["bytes_in"], month["duplicate_bytes"], month["bytes_saved"]) == (200, 100, 200)
    assert (month["hit_rate"], month["dedup_rate"]) == (2 / 3, 0.5)
    assert api.get("/api/v1/storage/quota").json()["requests"]["used"] == 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key": "k"},
        {"key": "k", "value": 1, "provider": "openai"},
        {"key": "k", "value": 1, "ttl": -1},
        {"key": "k", "response": 1},
        {"provider": "openai", "request": {}, "value": 1},
        {"key": "k", "value": "%", "encoding": "base64"},
        {"key": "k", "value": 1, "unknown": True},
    ],
)
def test_bodies_that_contradict_themselves_are_422(api: TestClient, body: dict[str, Any]) -> None:
    answer = api.post("/api/cache/set", json=body)
    assert (answer.status_code, answer.json()["success"]) == (422, False)


def test_an_invalidation_waits_its_turn_while_another_process_writes(service: Service) -> None:
    """Longer than an agent's cache would: there a call goes on without it, here it would be refused."""
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user), user)
    http = TestClient(build_app(service=service))
    headers = {**key.headers, "x-namespace": "storage"}
    assert http.post("/api/cache/set", json={"key": "k", "value": 1}, headers=headers).status_code == 200
    object_name = service.engine.space("elsewhere", "storage").entries_prefix + b"object"
    other = sqlite3.connect(service.settings.data_dir / "cache.db", isolation_level=None, check_same_thread=False)
    for call in (
        lambda: http.post("/api/cache/invalidate", json={"keys": ["k"]}, headers=headers).status_code == 200,
        lambda: bool(service.engine.objects.put(object_name, b"frame")),
    ):
        other.execute("BEGIN IMMEDIATE")
        ends = threading.Timer(0.6, other.rollback)
        ends.start()
        assert call()
        ends.join()
    other.close()
