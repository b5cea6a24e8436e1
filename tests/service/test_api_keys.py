"""API keys over HTTP: shown once, rotated with overlap, bounded by the plan."""

from __future__ import annotations

import service_world as world
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.clock import FixedClock
from agentcache_service.identity import orgs
from agentcache_service.identity.keys import create_key
from agentcache_service.identity.tables import ApiKey
from agentcache_service.service import Service


def _alive(service: Service, key: str, clock: FixedClock) -> bool:
    from agentcache_service.crypto import token_digest
    from agentcache_service.identity.credentials import find_key

    with service.db.read() as session:
        return find_key(session, token_digest(key), clock.now()) is not None


def test_a_key_is_shown_once_and_kept_as_its_digest(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    here = world.sign_in(service, user)
    made = client.post("/api/keys", json={"name": "laptop", "scopes": ["cache:read"]}, headers=here.headers).json()
    listed = client.get("/api/keys", headers=here.headers).json()
    assert [row["name"] for row in listed] == ["laptop"]
    assert made["key"] not in str(listed)
    assert (listed[0]["prefix"], listed[0]["last4"]) == (made["key"][:8], made["key"][-4:])
    with service.db.read() as session:
        assert made["key"] not in str(vars(session.scalars(select(ApiKey)).one()))


def test_rotation_keeps_the_old_key_for_the_overlap_and_not_longer(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    here = world.sign_in(service, user)
    old = client.post("/api/keys", json={"name": "laptop"}, headers=here.headers).json()
    path = f"/api/keys/{old['details']['id']}/rotate"
    new = client.post(path, json={"overlap_hours": 2}, headers=here.headers).json()
    assert new["details"]["scopes"] == old["details"]["scopes"]
    assert _alive(service, old["key"], clock)
    clock.advance(hours=2)
    assert not _alive(service, old["key"], clock)
    assert _alive(service, new["key"], clock)


def test_a_rotated_key_counts_again_when_its_successor_is_revoked(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user, plan="free")  # one key
    here = world.sign_in(service, user)
    old = client.post("/api/keys", json={}, headers=here.headers).json()["details"]["id"]
    new = client.post(f"/api/keys/{old}/rotate", json={"overlap_hours": 720}, headers=here.headers).json()
    client.delete(f"/api/keys/{new['details']['id']}", headers=here.headers)
    assert client.post("/api/keys", json={}, headers=here.headers).status_code == 402  # the old one works on
    client.delete(f"/api/keys/{old}", headers=here.headers)
    assert client.post("/api/keys", json={}, headers=here.headers).status_code == 201


def test_a_revoked_key_is_dead_at_the_next_look(client: TestClient, service: Service, clock: FixedClock) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    here = world.sign_in(service, user)
    made = client.post("/api/keys", json={}, headers=here.headers).json()
    assert _alive(service, made["key"], clock)
    client.delete(f"/api/keys/{made['details']['id']}", headers=here.headers)
    assert not _alive(service, made["key"], clock)


def test_the_plan_bounds_keys_and_namespaces(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="free")
    here = world.sign_in(service, user)
    assert client.post("/api/keys", json={}, headers=here.headers).status_code == 201
    refused = client.post("/api/keys", json={}, headers=here.headers)
    assert refused.status_code == 402
    assert refused.json() == {
        "success": False,
        "error": "quota_exceeded",
        "message": "This plan includes 1 API keys.",
        "upgrade_url": "http://testserver/pricing",
    }
    more = client.post(f"/api/orgs/{org_id}/namespaces", json={"name": "more"}, headers=here.headers)
    assert (more.status_code, more.json()["error"]) == (402, "quota_exceeded")


def test_a_key_cannot_be_made_for_another_organizations_namespace(service: Service, client: TestClient) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    here = world.sign_in(service, user)
    answer = client.post("/api/keys", json={"namespaces": ["nowhere"]}, headers=here.headers)
    assert (answer.status_code, answer.json()["error"]) == (422, "namespace_unknown")


def test_the_schema_and_the_services_work_on_both_databases(any_service: Service) -> None:
    user = world.make_user(any_service, "ada")
    org_id = world.make_org(any_service, user)
    with any_service.db.write() as session:
        create_key(any_service, session, world.principal_of(any_service, org_id, user), name="x")
    with any_service.db.read() as session:
        assert len(orgs.namespaces(session, org_id)) == 3
