"""Routes of organizations, their namespaces, nodes, members and audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.cacheapi import removal
from agentcache_service.errors import NotFound
from agentcache_service.identity import orgs, presets
from agentcache_service.identity.tables import Membership, Namespace, Org, User
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done

router = APIRouter(prefix="/api", tags=["organizations"])


class OrgView(BaseModel):
    """An organization."""

    id: str
    slug: str
    name: str
    description: str
    sector: str
    plan: str = Field(description="the plan in force")
    trial_ends_at: datetime | None
    role: str | None = Field(description="the caller's role")


class OrgBody(Body):
    """Fields to change; those left out stay."""

    name: str | None = Field(default=None, min_length=1, max_length=120)
    description: str | None = Field(default=None, max_length=2000)


class NodeBody(Body):
    """A node: a preset's name (or `custom`) and settings that differ from it.

    `version` is needed only to move a node the namespace has to the preset's newest version.
    """

    preset: str = Field(max_length=60)
    settings: dict[str, StrictBool | StrictInt | StrictFloat] = Field(default_factory=dict, max_length=20)
    version: int | None = Field(default=None, ge=1, le=1000)


class NodeView(BaseModel):
    """A node of a namespace: the version of the preset it was given, and the newest there is."""

    preset: str
    version: int
    newest_version: int
    settings: dict[str, Any]


class NamespaceBody(Body):
    """A namespace to be made."""

    name: str = Field(max_length=64)
    nodes: list[str] = Field(default_factory=list, max_length=20)


class NodesBody(Body):
    """The nodes a namespace shall have."""

    nodes: list[NodeBody] = Field(max_length=20)


class NamespaceView(BaseModel):
    """A namespace, its nodes and the settings they amount to."""

    name: str
    nodes: list[NodeView]
    settings: dict[str, Any]
    read_only: bool
    created_at: datetime


class MemberView(BaseModel):
    """A person of the organization."""

    user: str
    username: str
    role: str


class EventView(BaseModel):
    """An audit event."""

    id: str
    at: datetime
    actor: str
    action: str
    target: str
    address: str
    detail: dict[str, Any]


class SectorView(BaseModel):
    """A sector and the namespaces it begins with."""

    key: str
    title: str
    description: str
    namespaces: dict[str, list[str]]


def _own(caller: Principal, org_id: str) -> str:
    if org_id != caller.org_id:
        raise NotFound("There is no such organization.")
    return org_id


def _org_view(service: Service, org: Org, caller: Principal) -> OrgView:
    return OrgView(
        id=org.id,
        slug=org.slug,
        name=org.name,
        description=org.description,
        sector=org.sector,
        plan=orgs.plan_of(service, org).name,
        trial_ends_at=org.trial_ends_at,
        role=caller.role,
    )


def _namespace_view(row: Namespace, *, read_only: bool) -> NamespaceView:
    return NamespaceView(
        name=row.name,
        nodes=[
            NodeView.model_validate({**node, "newest_version": presets.newest_version(node["preset"])})
            for node in row.nodes
        ],
        settings=presets.effective(row.nodes),
        read_only=read_only,
        created_at=row.created_at,
    )


def _one(service: Service, session: Session, org_id: str, row: Namespace) -> NamespaceView:
    writable = orgs.writable_names(service, session, orgs.get(session, org_id))
    return _namespace_view(row, read_only=row.name not in writable)


@router.get("/sectors")
def list_sectors(_caller: Principal = public()) -> list[SectorView]:
    """The sectors one can choose at sign-up."""
    return [
        SectorView(
            key=sector.key,
            title=sector.title,
            description=sector.description,
            namespaces={room.name: list(room.nodes) for room in sector.namespaces},
        )
        for sector in presets.sectors().values()
    ]


@router.get("/orgs")
def list_orgs(request: Request, caller: Principal = require("org:read")) -> list[OrgView]:
    """The organization this session acts in."""
    service = service_of(request)
    with service.db.read() as session:
        return [_org_view(service, orgs.get(session, caller.tenant), caller)]


@router.get("/orgs/{org_id}")
def read_org(org_id: str, request: Request, caller: Principal = require("org:read")) -> OrgView:
    """One organization."""
    service = service_of(request)
    with service.db.read() as session:
        return _org_view(service, orgs.get(session, _own(caller, org_id)), caller)


@router.patch("/orgs/{org_id}")
def edit_org(org_id: str, body: OrgBody, request: Request, caller: Principal = require("org:write")) -> OrgView:
    """Change name or description."""
    service = service_of(request)
    with service.db.write() as session:
        org = orgs.get(session, _own(caller, org_id))
        org.name = (body.name or org.name).strip() or org.name
        org.description = org.description if body.description is None else body.description.strip()
        audit.record(session, service.clock, principal=caller, action="org.edit", target=org.id)
        return _org_view(service, org, caller)


@router.get("/orgs/{org_id}/namespaces")
def list_namespaces(
    org_id: str, request: Request, caller: Principal = require("namespaces:read")
) -> list[NamespaceView]:
    """The organization's namespaces."""
    service = service_of(request)
    with service.db.read() as session:
        org = orgs.get(session, _own(caller, org_id))
        writable = orgs.writable_names(service, session, org)
        rows = orgs.namespaces(session, org.id)
        return [_namespace_view(row, read_only=row.name not in writable) for row in rows]


@router.post("/orgs/{org_id}/namespaces", status_code=201)
def add_namespace(
    org_id: str, body: NamespaceBody, request: Request, caller: Principal = require("namespaces:write")
) -> NamespaceView:
    """A further namespace, within the plan."""
    service = service_of(request)
    with service.db.write() as session:
        _own(caller, org_id)
        row = orgs.add_namespace(service, session, caller, name=body.name, nodes=body.nodes)
        session.flush()
        return _one(service, session, org_id, row)


@router.put("/orgs/{org_id}/namespaces/{name}/nodes")
def edit_nodes(
    org_id: str, name: str, body: NodesBody, request: Request, caller: Principal = require("namespaces:write")
) -> NamespaceView:
    """Replace a namespace's nodes."""
    service = service_of(request)
    with service.db.write() as session:
        _own(caller, org_id)
        nodes = [node.model_dump() for node in body.nodes]
        row = orgs.edit_nodes(service, session, caller, name=name, nodes=nodes)
        return _one(service, session, org_id, row)


@router.delete("/orgs/{org_id}/namespaces/{name}")
def remove_namespace(org_id: str, name: str, request: Request, caller: Principal = require("namespaces:write")) -> Done:
    """Remove a namespace and what it holds: entries, assets, listeners, schedules. Its storage is free at once."""
    _own(caller, org_id)
    removal.remove_namespace(service_of(request), caller, name=name)
    return Done()


@router.get("/orgs/{org_id}/members")
def list_members(org_id: str, request: Request, caller: Principal = require("members:read")) -> list[MemberView]:
    """The people of the organization."""
    with service_of(request).db.read() as session:
        query = select(Membership, User).join(User, User.id == Membership.user_id)
        rows = session.execute(query.where(Membership.org_id == _own(caller, org_id)).order_by(Membership.created_at))
        return [MemberView(user=user.id, username=user.username, role=row.role) for row, user in rows]


@router.get("/orgs/{org_id}/audit")
def read_audit(org_id: str, request: Request, caller: Principal = require("audit:read")) -> list[EventView]:
    """The newest audit events."""
    with service_of(request).db.read() as session:
        return [
            EventView(
                id=event.id,
                at=event.at,
                actor=event.actor,
                action=event.action,
                target=event.target,
                address=event.address,
                detail=event.detail,
            )
            for event in audit.recent(session, _own(caller, org_id))
        ]


def _our_org(_service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    return {"org_id": org_id}


def our_namespace(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    """A namespace, and a name for another, for tests of access."""
    owner = Principal(kind="session", user_id=user_id, org_id=org_id, role="admin")
    with service.db.write() as session:
        count = len(orgs.namespaces(session, org_id))
        row = orgs.add_namespace(service, session, owner, name=f"seed{count}", nodes=[])
        return {"org_id": org_id, "name": row.name, "new": f"new{count}"}


ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/sectors", for_everybody()),
    Row("GET", "/api/orgs", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/api/orgs/{org_id}", for_sessions(least="viewer"), seed=_our_org),
    Row("PATCH", "/api/orgs/{org_id}", for_sessions(least="admin"), seed=_our_org, body={"description": "new"}),
    Row("GET", "/api/orgs/{org_id}/namespaces", for_sessions(least="viewer"), seed=_our_org),
    Row(
        "POST",
        "/api/orgs/{org_id}/namespaces",
        for_sessions(201, least="admin"),
        seed=our_namespace,
        body={"name": "{new}", "nodes": ["metadata_cache"]},
    ),
    Row(
        "PUT",
        "/api/orgs/{org_id}/namespaces/{name}/nodes",
        for_sessions(least="admin"),
        seed=our_namespace,
        body={"nodes": [{"preset": "metadata_cache", "settings": {"ttl_s": 60}}]},
    ),
    Row("DELETE", "/api/orgs/{org_id}/namespaces/{name}", for_sessions(least="admin"), seed=our_namespace),
    Row("GET", "/api/orgs/{org_id}/members", for_sessions(least="viewer"), seed=_our_org),
    Row("GET", "/api/orgs/{org_id}/audit", for_sessions(least="admin"), seed=_our_org),
)
