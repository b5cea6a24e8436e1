"""API keys `ac_<64 hex>`: made, listed, rotated with overlap, revoked. The key itself is returned once and not kept."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import token_digest
from agentcache_service.errors import Conflict, NotFound, Unprocessable
from agentcache_service.identity import orgs
from agentcache_service.identity.tables import ApiKey, Namespace
from agentcache_service.orm import new_id
from agentcache_service.policy import SCOPES
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: its row and, for this one time, the secret."""

    row: ApiKey
    secret: str


def create_key(
    service: Service,
    session: Session,
    principal: Principal,
    *,
    name: str,
    scopes: Sequence[str] = SCOPES,
    namespaces: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """Make a key within the plan's number of living keys."""
    org = orgs.lock(session, principal.tenant)
    limit = orgs.plan_of(service, org).limits["api_keys"]
    if limit is not None and _living_count(session, service, org.id) >= limit:
        raise orgs.limit_reached(service, f"This plan includes {limit} API keys.")
    return _make(service, session, principal, name=name, scopes=scopes, namespaces=namespaces, expires_at=expires_at)


def _make(
    service: Service,
    session: Session,
    principal: Principal,
    *,
    name: str,
    scopes: Sequence[str],
    namespaces: Sequence[str] | None,
    expires_at: datetime | None,
) -> NewKey:
    now = service.clock.now()
    wrong = sorted(set(scopes) - set(SCOPES))
    if wrong or not scopes:
        raise Unprocessable(f"Unknown scopes {wrong}; known are {list(SCOPES)}.", code="scope_unknown")
    if expires_at is not None and expires_at <= now:
        raise Unprocessable("The key would expire in the past.", code="expiry_past")
    if namespaces is not None:
        _check_namespaces(session, principal.tenant, namespaces)
    secret = "ac_" + secrets.token_hex(32)
    row = ApiKey(
        id=new_id("key"),
        org_id=principal.tenant,
        name=name.strip() or "API key",
        digest=token_digest(secret),
        prefix=secret[:8],
        last4=secret[-4:],
        scopes=sorted(set(scopes)),
        namespaces=None if namespaces is None else sorted(set(namespaces)),
        created_by=principal.user_id,
        created_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    audit.record(session, service.clock, principal=principal, action="key.create", target=row.id)
    return NewKey(row, secret)


def _check_namespaces(session: Session, org_id: str, names: Sequence[str]) -> None:
    known = set(session.scalars(select(Namespace.name).where(Namespace.org_id == org_id)))
    missing = sorted(set(names) - known)
    if missing or not names:
        raise Unprocessable(f"There is no namespace {missing}.", code="namespace_unknown")


def _working(service: Service) -> tuple[ColumnElement[bool], ...]:
    now = service.clock.now()
    return (ApiKey.revoked_at.is_(None), ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now))


def _living_count(session: Session, service: Service, org_id: str) -> int:
    """The keys a plan counts. A rotated key and its successor are one, as long as the successor works."""
    query = select(ApiKey.id, ApiKey.replaced_by).where(ApiKey.org_id == org_id, *_working(service))
    successors = dict(session.execute(query).all())
    return sum(successor not in successors for successor in successors.values())


def list_keys(session: Session, org_id: str) -> Sequence[ApiKey]:
    """All keys of the organization that are not revoked, newest first."""
    query = select(ApiKey).where(ApiKey.org_id == org_id, ApiKey.revoked_at.is_(None))
    return session.scalars(query.order_by(ApiKey.created_at.desc())).all()


def _own(session: Session, org_id: str, key_id: str) -> ApiKey:
    row = session.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.org_id == org_id)).one_or_none()
    if row is None or row.revoked_at is not None:
        raise NotFound("There is no such API key.")
    return row


def rotate_key(
    service: Service, session: Session, principal: Principal, *, key_id: str, overlap: timedelta = timedelta(hours=24)
) -> NewKey:
    """A new key with the old one's rights; the old one goes on working for `overlap`."""
    orgs.lock(session, principal.tenant)
    old = _own(session, principal.tenant, key_id)
    if old.replaced_by is not None:
        raise Conflict("This key was rotated already.", code="already_rotated")
    before = select(ApiKey.id).where(ApiKey.replaced_by == old.id, *_working(service))
    if session.scalar(before) is not None:
        raise Conflict(
            "The key before this one still works; revoke it, or wait until it ends.", code="rotation_overlaps"
        )
    now = service.clock.now()
    made = _make(
        service,
        session,
        principal,
        name=old.name,
        scopes=old.scopes,
        namespaces=old.namespaces,
        expires_at=old.expires_at,
    )
    old.replaced_by = made.row.id
    end = now + overlap
    old.expires_at = end if old.expires_at is None else min(old.expires_at, end)
    audit.record(session, service.clock, principal=principal, action="key.rotate", target=old.id)
    return made


def revoke_key(service: Service, session: Session, principal: Principal, *, key_id: str) -> None:
    """End a key; the next request with it is refused."""
    row = _own(session, principal.tenant, key_id)
    row.revoked_at = service.clock.now()
    audit.record(session, service.clock, principal=principal, action="key.revoke", target=row.id)
