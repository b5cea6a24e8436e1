"""Removing a namespace: what it held is neither served, nor watched, nor charged any longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from service_stand import Stand, stand_in
from starlette.testclient import TestClient

from agentcache_service.cacheapi.objects import Room
from agentcache_service.cacheapi.place import enter
from agentcache_service.principal import Principal
from agentcache_service.usage import quota, reconcile

PAGE = "https://news.example/a"


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def _remove(stand: Stand, name: str) -> None:
    answer = stand.browser().delete(f"/api/orgs/{stand.org_id}/namespaces/{name}")
    assert answer.status_code == 200, answer.text


def _make(stand: Stand, name: str) -> None:
    answer = stand.browser().post(f"/api/orgs/{stand.org_id}/namespaces", json={"name": name})
    assert answer.status_code == 201, answer.text


def _charged(stand: Stand, metric: str = "hot_bytes") -> int:
    with stand.service.db.read() as session:
        return quota.used(session, stand.org_id, metric, quota.STOCK) or 0


def _set(api: TestClient, key: str, value: object, **options: Any) -> None:
    assert api.post("/api/cache/set", json={"key": key, "value": value, **options}).status_code == 200


def _get(api: TestClient, key: str) -> dict[str, Any]:
    return api.post("/api/cache/get", json={"key": key}).json()


def test_a_removed_namespace_gives_its_bytes_back_and_serves_nothing_when_its_name_returns(stand: Stand) -> None:
    _set(stand.api, "k", "old secret")
    _set(stand.api, "large", "x" * 100_000)
    asset = stand.api.post("/api/assets?key=a", content=b"asset").json()
    neighbour = stand.key(use_in="cdn")
    _set(neighbour, "k", "kept")
    _remove(stand, "storage")
    assert stand.api.post("/api/cache/get", json={"key": "k"}).status_code == 404
    assert (_charged(stand), _charged(stand, "asset_bytes")) == (len('"kept"'), 0)
    _make(stand, "storage")
    assert _get(stand.api, "k") == {"hit": False}
    assert stand.api.get(asset["url"].removeprefix("http://testserver")).status_code == 404
    assert _get(neighbour, "k")["value"] == "kept"
    stand.turn(minutes=20)
    prefix = stand.service.engine.space(stand.org_id, "storage").entries_prefix
    assert list(stand.service.engine.objects.scan(prefix)) == []
    assert reconcile.run(stand.service) == []


def test_what_is_stored_under_the_returned_name_survives_the_clean_up(stand: Stand) -> None:
    _set(stand.api, "k", "old")
    _remove(stand, "storage")
    stand.clock.advance(seconds=1)
    _make(stand, "storage")
    _set(stand.api, "new", "fresh")
    stand.turn(seconds=1)
    stand.turn(minutes=20)
    assert _get(stand.api, "new")["value"] == "fresh"
    assert _get(stand.api, "k") == {"hit": False}
    assert _charged(stand) == len('"fresh"')


def test_listeners_and_schedules_of_a_removed_namespace_end(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    stand.web.show("https://data.example/list.json", b'[{"key": "k", "value": 1}]')
    assert stand.api.post("/api/listeners/register", json={"url": PAGE, "tags": ["t"]}).status_code == 201
    body = {"source": "https://data.example/list.json", "schedule": "nightly"}
    job = stand.api.post("/api/cache/prewarm", json=body).json()["job"]
    _remove(stand, "storage")
    _make(stand, "storage")
    assert stand.api.get("/api/listeners").json() == []
    assert stand.api.get(f"/api/cache/prewarm/{job}").json()["state"] == "failed"
    stand.turn(days=1)
    stand.turn(days=1)
    assert _get(stand.api, "k") == {"hit": False}


def test_a_key_of_the_removed_namespace_alone_does_not_open_the_new_one(stand: Stand) -> None:
    narrow = stand.key(namespaces=["storage"])
    _remove(stand, "storage")
    _make(stand, "storage")
    assert narrow.post("/api/cache/get", json={"key": "k"}).status_code == 403


def test_objects_of_remote_clients_go_too_and_what_namespaces_share_stays_charged(stand: Stand) -> None:
    caller = Principal(kind="api_key", org_id=stand.org_id)
    room = Room(stand.service, caller, enter(stand.service, caller, "storage"))
    blob = stand.service.engine.space(stand.org_id, "storage").blobs_prefix + b"digest"
    for name, data in ((b"own", b"1"), (b"n" * 200, b"22"), (blob, b"shared")):
        room.put(name, data)
    _remove(stand, "storage")
    assert _charged(stand) == len(b"shared")
    stand.turn(seconds=1)
    elsewhere = Room(stand.service, caller, enter(stand.service, caller, "cdn"))
    assert [stored is not None for stored in elsewhere.get([b"own", b"n" * 200, blob])] == [False, False, True]


def test_a_write_that_was_under_way_is_taken_back_later(stand: Stand) -> None:
    caller = Principal(kind="api_key", org_id=stand.org_id)
    place = enter(stand.service, caller, "storage", writes=True)
    room = Room(stand.service, caller, place)
    name = stand.service.engine.space(stand.org_id, "storage").entries_prefix + b"late"
    _remove(stand, "storage")
    room.put(name, b"too late")
    assert _charged(stand) == len(b"too late")
    stand.turn(minutes=20)
    assert _charged(stand) == 0
    assert not stand.service.engine.objects.get(name)
