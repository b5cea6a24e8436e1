"""Organizations: namespaces with their nodes, what removing one removes, and who may prepare an account for whom."""

from __future__ import annotations

from typing import Any

import pytest
import service_world as world
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.cacheapi.tables import AssetRecord, Listener
from agentcache_service.clock import FixedClock
from agentcache_service.errors import ServiceError
from agentcache_service.identity import orgs, presets
from agentcache_service.jobs import Worker
from agentcache_service.jobs_tables import Job
from agentcache_service.service import Service
from agentcache_service.usage.reconcile import run as reconcile_usage


class Customer:
    """An organization with an admin's session and a key."""

    def __init__(self, service: Service, http: TestClient) -> None:
        self.service, self.http = service, http
        self.user_id = world.make_user(service, "ada")
        self.org_id = world.make_org(service, self.user_id)
        self.session = dict(world.sign_in(service, self.user_id).headers)
        self.key = dict(world.make_key(service, self.org_id, self.user_id).headers)
        self.rooms = f"/api/orgs/{self.org_id}/namespaces"

    def call(self, path: str, body: dict[str, Any], *, room: str = "storage", expect: int = 200) -> Any:
        answer = self.http.post(path, json=body, headers={**self.key, "x-namespace": room})
        assert answer.status_code == expect, answer.text
        return answer.json()


@pytest.fixture
def customer(service: Service, client: TestClient) -> Customer:
    return Customer(service, client)


def _used(customer: Customer) -> tuple[float, float]:
    storage = customer.http.get("/api/v1/storage/quota", headers=customer.key).json()["storage"]
    return storage["redis"]["used_mb"], storage["jettythunder"]["used_gb"]


def test_removing_a_namespace_removes_what_it_holds_and_frees_what_it_was_charged(
    customer: Customer, service: Service, worker: Worker
) -> None:
    shared = {"key": "shared", "value": "x" * 1000}
    customer.call("/api/cache/set", shared)
    kept = _used(customer)
    for body in (shared, {"key": "secret", "value": "old secret"}, {"key": "big", "value": "y" * 40_000}):
        customer.call("/api/cache/set", body, room="cdn")
    headers = {**customer.key, "x-namespace": "cdn"}
    customer.http.post("/api/assets?key=a", content=b"file", headers=headers)
    listener = {"url": "https://8.8.8.8/", "check_interval": 3600, "namespace": "cdn", "tags": ["t"]}
    customer.call("/api/listeners/register", listener, expect=201, room="cdn")
    nightly = {"requests": [{"key": "n", "value": 1}], "schedule": "nightly"}
    customer.call("/api/cache/prewarm", nightly, room="cdn", expect=202)
    assert customer.http.delete(f"{customer.rooms}/cdn", headers=customer.session).status_code == 200
    assert _used(customer) == kept
    with service.db.read() as session:
        assert session.scalars(select(Listener)).all() == []
        assert session.scalars(select(AssetRecord)).all() == []
        kinds = {job.kind for job in session.scalars(select(Job).where(Job.state == "queued"))}
        assert kinds == {"cacheapi.empty_namespace"}
    assert reconcile_usage(service) == []
    made = customer.http.post(customer.rooms, json={"name": "cdn"}, headers=customer.session)
    assert made.status_code == 201
    assert customer.call("/api/cache/get", {"key": "secret"}, room="cdn") == {"hit": False}
    customer.call("/api/cache/set", {"key": "new", "value": "kept"}, room="cdn")
    worker.run_due()
    prefix = service.engine.space(customer.org_id, "cdn").entries_prefix
    assert len(list(service.engine.objects.scan(prefix))) == 1
    assert customer.call("/api/cache/get", {"key": "new"}, room="cdn")["value"] == "kept"
    assert customer.call("/api/cache/get", {"key": "shared"})["hit"]


def test_a_key_for_a_removed_namespace_alone_may_use_nothing(customer: Customer, service: Service) -> None:
    only = world.make_key(service, customer.org_id, customer.user_id, namespaces=["cdn"], use_in="cdn")
    assert customer.http.post("/api/cache/get", json={"key": "k"}, headers=dict(only.headers)).status_code == 200
    customer.http.delete(f"{customer.rooms}/cdn", headers=customer.session)
    for room in ("cdn", "storage"):
        headers = {**only.headers, "x-namespace": room}
        assert customer.http.post("/api/cache/get", json={"key": "k"}, headers=headers).status_code == 403


def test_the_first_namespaces_of_a_sector_are_those_a_smaller_plan_keeps(service: Service) -> None:
    org_id = world.make_org(service, world.make_user(service, "ada"), plan="free")
    with service.db.read() as session:
        org = orgs.get(session, org_id)
        assert orgs.writable_names(service, session, org) == {"storage", "cdn"}


def test_the_first_node_that_says_something_decides_and_own_settings_win() -> None:
    stored = [presets.as_stored("metadata_cache"), presets.as_stored("audit_log_cache")]
    assert presets.effective(stored)["ttl_s"] == 3600
    assert presets.effective([*stored, presets.as_stored("custom", {"ttl_s": 60})])["ttl_s"] == 60
    for sector in presets.sectors().values():
        for room in sector.namespaces:
            amount = presets.effective([presets.as_stored(node) for node in room.nodes])
            assert amount["ttl_s"] == presets.nodes()[next(n for n in room.nodes if _says_ttl(n))].settings["ttl_s"]


def _says_ttl(node: str) -> bool:
    return "ttl_s" in presets.nodes()[node].settings


def test_a_new_version_of_a_preset_changes_no_namespace_that_has_it_already(monkeypatch: pytest.MonkeyPatch) -> None:
    before = presets.as_stored("metadata_cache")
    newer = presets.Node("metadata_cache", 2, "Metadata cache", "", {"ttl_s": 5})
    monkeypatch.setattr(presets, "nodes", lambda: {"metadata_cache": newer})
    assert presets.effective([before])["ttl_s"] == 3600
    assert presets.effective([presets.as_stored("metadata_cache")])["ttl_s"] == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"ttl_s": 0},
        {"ttl_s": 10**18},
        {"ttl_s": True},
        {"semantic": 5.0},
        {"semantic": -1.0},
        {"semantic": "yes"},
        {"stale_while_revalidate_s": -1},
        {"inline_max_bytes": 1 << 40},
        {"assets": 1},
        {"colour": 1},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(customer: Customer, settings: dict[str, Any]) -> None:
    body = {"nodes": [{"preset": "custom", "settings": settings}]}
    answer = customer.http.put(f"{customer.rooms}/storage/nodes", json=body, headers=customer.session)
    assert answer.status_code == 422


def test_the_page_of_namespaces_keeps_settings_and_order_that_it_does_not_show(
    customer: Customer, service: Service
) -> None:
    nodes = [{"preset": "audit_log_cache"}, {"preset": "metadata_cache", "settings": {"stale_while_revalidate_s": 5}}]
    own = {"preset": "custom", "settings": {"semantic": 0.97, "ttl_s": 60}}
    customer.http.put(f"{customer.rooms}/metadata/nodes", json={"nodes": [*nodes, own]}, headers=customer.session)
    form = {"node": ["metadata_cache", "audit_log_cache", "thumbnail_cache"], "ttl_s": "90"}
    sent = customer.http.post("/dashboard/namespaces/metadata", data=form, headers=customer.session)
    assert sent.status_code == 303
    with service.db.read() as session:
        row = orgs.namespace(session, customer.org_id, "metadata")
    assert [(node["preset"], node["settings"]) for node in row.nodes] == [
        ("audit_log_cache", {}),
        ("metadata_cache", {"stale_while_revalidate_s": 5}),
        ("thumbnail_cache", {}),
        ("custom", {"semantic": 0.97, "ttl_s": 90}),
    ]


def test_rotating_a_key_keeps_the_number_of_working_keys_within_twice_the_plans(
    customer: Customer, service: Service, clock: FixedClock
) -> None:
    made = customer.http.post("/api/keys", json={"name": "k"}, headers=customer.session).json()
    first = made["details"]["id"]
    second = customer.http.post(f"/api/keys/{first}/rotate", json={}, headers=customer.session).json()
    again = customer.http.post(f"/api/keys/{second['details']['id']}/rotate", json={}, headers=customer.session)
    assert (again.status_code, again.json()["error"]) == (409, "rotation_overlaps")
    clock.advance(days=1, seconds=1)
    again = customer.http.post(f"/api/keys/{second['details']['id']}/rotate", json={}, headers=customer.session)
    assert again.status_code == 201, again.text


def test_a_service_error_names_the_node_that_is_unknown() -> None:
    with pytest.raises(ServiceError, match="Unknown node 'toaster'"):
        presets.as_stored("toaster")
