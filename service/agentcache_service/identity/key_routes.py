"""Routes of API keys."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from pydantic import AwareDatetime, BaseModel, Field

from agentcache_service.identity import keys
from agentcache_service.identity.tables import ApiKey
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import SCOPES, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done

router = APIRouter(prefix="/api/keys", tags=["keys"])


class KeyBody(Body):
    """A key to be made."""

    name: str = Field(default="API key", max_length=120)
    scopes: list[str] = Field(default_factory=lambda: list(SCOPES), max_length=10)
    namespaces: list[str] | None = Field(default=None, max_length=200, description="None: every namespace")
    expires_at: AwareDatetime | None = None


class RotateBody(Body):
    """How long the old key goes on working."""

    overlap_hours: float = Field(default=24.0, ge=0, le=24 * 30)


class KeyView(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    last4: str
    scopes: list[str]
    namespaces: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None


class NewKeyView(Done):
    """A key just made. `key` is shown this one time."""

    key: str
    details: KeyView


def view(row: ApiKey) -> KeyView:
    """The wire form of a key."""
    return KeyView(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        last4=row.last4,
        scopes=row.scopes,
        namespaces=row.namespaces,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        replaced_by=row.replaced_by,
    )


@router.get("")
def list_keys(request: Request, caller: Principal = require("keys:read")) -> list[KeyView]:
    """The organization's keys."""
    with service_of(request).db.read() as session:
        return [view(row) for row in keys.list_keys(session, caller.tenant)]


@router.post("", status_code=201)
def create_key(body: KeyBody, request: Request, caller: Principal = require("keys:write")) -> NewKeyView:
    """Make a key; its secret is in this answer and nowhere else."""
    service = service_of(request)
    with service.db.write() as session:
        made = keys.create_key(
            service,
            session,
            caller,
            name=body.name,
            scopes=body.scopes,
            namespaces=body.namespaces,
            expires_at=body.expires_at,
        )
        session.flush()
        return NewKeyView(key=made.secret, details=view(made.row))


@router.post("/{key_id}/rotate", status_code=201)
def rotate_key(
    key_id: str, request: Request, body: RotateBody | None = None, caller: Principal = require("keys:write")
) -> NewKeyView:
    """A new key with the same rights; the old one works on for the overlap."""
    service = service_of(request)
    overlap = timedelta(hours=(body or RotateBody()).overlap_hours)
    with service.db.write() as session:
        made = keys.rotate_key(service, session, caller, key_id=key_id, overlap=overlap)
        session.flush()
        return NewKeyView(key=made.secret, details=view(made.row))


@router.delete("/{key_id}")
def revoke_key(key_id: str, request: Request, caller: Principal = require("keys:write")) -> Done:
    """End a key: its next request is refused."""
    service = service_of(request)
    with service.db.write() as session:
        keys.revoke_key(service, session, caller, key_id=key_id)
    return Done()


def a_key(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    """A key for tests of access."""
    owner = Principal(kind="session", user_id=user_id, org_id=org_id, role="admin")
    with service.db.write() as session:
        return {"key_id": keys.create_key(service, session, owner, name="seed").row.id}


ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/keys", for_sessions(least="member", other_tenant=200)),
    Row("POST", "/api/keys", for_sessions(201, least="admin", other_tenant=201), body={"name": "new"}),
    Row("POST", "/api/keys/{key_id}/rotate", for_sessions(201, least="admin"), seed=a_key),
    Row("DELETE", "/api/keys/{key_id}", for_sessions(least="admin"), seed=a_key),
)
