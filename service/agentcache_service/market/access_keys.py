"""Buyers' own keys for bought models: shown once, kept as digests, revocable, never the creator's key."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import token_digest
from agentcache_service.errors import Conflict, NotFound, Unprocessable
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import purchases, sales
from .listing_rules import PERMISSION
from .tables import AccessKey

PREFIX = "acm_"
MAX_KEYS = 20


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made and its secret, which nothing else remembers."""

    row: AccessKey
    secret: str


def create(
    service: Service,
    session: Session,
    principal: Principal,
    *,
    purchase_id: str,
    name: str,
    permissions: list[str],
    expires_at: datetime | None,
) -> NewKey:
    """A key for a bought model; `permissions` narrow what the creator allows."""
    purchase = purchases.own(session, principal.tenant, purchase_id)
    now = service.clock.now()
    if purchase.kind != "model":
        raise Unprocessable("An agent is downloaded; only models are called with a key.")
    if not sales.has_access(purchase, now):
        raise Conflict("This purchase gives no access now.", code="no_access")
    if any(not PERMISSION.match(permission) for permission in permissions):
        raise Unprocessable("permissions: use `*`, a path such as `chat/completions`, or `POST chat/*`.")
    if expires_at is not None and expires_at <= now:
        raise Unprocessable("expires_at lies in the past.")
    active = select(func.count()).select_from(AccessKey).where(AccessKey.purchase_id == purchase.id, AccessKey.active)
    if (session.scalar(active) or 0) >= MAX_KEYS:
        raise Conflict(f"At most {MAX_KEYS} keys per purchase; revoke one first.")
    secret = PREFIX + secrets.token_hex(32)
    row = AccessKey(
        id=new_id("mky"),
        purchase_id=purchase.id,
        listing_id=purchase.listing_id,
        org_id=principal.tenant,
        name=name,
        digest=token_digest(secret),
        last4=secret[-4:],
        permissions=permissions or ["*"],
        active=True,
        expires_at=expires_at,
        created_at=now,
    )
    session.add(row)
    audit.record(session, service.clock, principal=principal, action="market.key.create", target=row.id)
    return NewKey(row, secret)


def revoke(service: Service, session: Session, principal: Principal, *, purchase_id: str, key_id: str) -> None:
    """End a key; its next call is refused."""
    purchases.own(session, principal.tenant, purchase_id)
    row = session.get(AccessKey, key_id)
    if row is None or row.purchase_id != purchase_id:
        raise NotFound("There is no such key.")
    row.active = False
    audit.record(session, service.clock, principal=principal, action="market.key.revoke", target=row.id)


def of_purchase(session: Session, purchase_id: str) -> list[AccessKey]:
    """A purchase's keys, newest first."""
    query = select(AccessKey).where(AccessKey.purchase_id == purchase_id).order_by(AccessKey.created_at.desc())
    return list(session.scalars(query))


def find(session: Session, secret: str, now: datetime) -> AccessKey | None:
    """The living key a secret belongs to."""
    if not secret.startswith(PREFIX) or len(secret) != len(PREFIX) + 64:
        return None
    row = session.scalars(select(AccessKey).where(AccessKey.digest == token_digest(secret))).one_or_none()
    if row is None or not row.active or (row.expires_at is not None and row.expires_at <= now):
        return None
    return row
