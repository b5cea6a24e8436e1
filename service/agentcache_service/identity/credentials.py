"""From a request's credential to a `Principal`: the session cookie or the `X-API-Key` header."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fastapi import Request
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_service.crypto import token_digest
from agentcache_service.identity.tables import ApiKey, LoginSession, Membership, User
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

KEY_PREFIX = "ac_"
_KEY_LENGTH = len(KEY_PREFIX) + 64
_TOUCH_EVERY = timedelta(minutes=1)


def cookie_name(*, is_https: bool) -> str:
    """The session cookie's name: host-bound where TLS makes that possible."""
    return "__Host-agentcache" if is_https else "agentcache"


def csrf_token(session_token: str) -> str:
    """The CSRF token of a session: derived, so it needs no storage and dies with the session."""
    return hashlib.sha256(b"csrf " + session_token.encode()).hexdigest()


def identify(service: Service, request: Request) -> Principal:
    """The caller. An API key, where one is sent, decides; otherwise the session cookie."""
    address = request.client.host if request.client else ""
    key = request.headers.get("x-api-key")
    if key is not None:
        return principal_of_key(service, key, address=address) or Principal(address=address)
    token = request.cookies.get(cookie_name(is_https=service.settings.is_https))
    if token:
        return _by_session(service, token, address) or Principal(address=address)
    return Principal(address=address)


def is_key(text: str) -> bool:
    """True for a text that has the form of an API key."""
    return len(text) == _KEY_LENGTH and text.startswith(KEY_PREFIX)


def is_living(revoked_at: datetime | None, expires_at: datetime | None, now: datetime) -> bool:
    """True for a key that is neither revoked nor expired."""
    return revoked_at is None and (expires_at is None or expires_at > now)


def wants_touch(last_used_at: datetime | None, now: datetime) -> bool:
    """True when the note of a key's last use is more than a minute old."""
    return last_used_at is None or now - last_used_at > _TOUCH_EVERY


def principal_of_key(service: Service, key: str, *, address: str = "") -> Principal | None:
    """Whose key this is; None for one that is unknown, revoked or expired. One read of an indexed row."""
    if not is_key(key):
        return None
    now = service.clock.now()
    with service.db.read() as session:
        row = find_key(session, token_digest(key), now)
        if row is None:
            return None
    if wants_touch(row.last_used_at, now):
        service.meter.touch(row.id, now)
    return Principal(
        kind="api_key",
        org_id=row.org_id,
        scopes=frozenset(row.scopes),
        namespaces=None if row.namespaces is None else frozenset(row.namespaces),
        key_id=row.id,
        address=address,
    )


def find_key(session: Session, digest: str, now: datetime) -> ApiKey | None:
    """The living key with this digest: neither revoked nor expired."""
    row = session.scalars(select(ApiKey).where(ApiKey.digest == digest)).one_or_none()
    return row if row is not None and is_living(row.revoked_at, row.expires_at, now) else None


def _by_session(service: Service, token: str, address: str) -> Principal | None:
    now = service.clock.now()
    with service.db.read() as session:
        found = session.execute(
            select(LoginSession, User, Membership.role)
            .join(User, User.id == LoginSession.user_id)
            .outerjoin(
                Membership,
                (Membership.user_id == LoginSession.user_id) & (Membership.org_id == LoginSession.org_id),
            )
            .where(LoginSession.digest == token_digest(token))
        ).one_or_none()
    if found is None:
        return None
    login, user, role = found
    if login.revoked_at is not None or login.expires_at <= now or user.erased_at is not None:
        return None
    if now - login.last_seen_at > _TOUCH_EVERY:
        with service.db.write() as session:
            session.execute(update(LoginSession).where(LoginSession.id == login.id).values(last_seen_at=now))
    is_admin = user.platform_role == "admin"
    confirmed = login.second_factor_at is not None
    return Principal(
        kind="session",
        user_id=user.id,
        org_id=login.org_id if role is not None else None,
        role=role,
        session_id=login.id,
        is_staff=is_admin and confirmed,
        needs_second_factor=not confirmed and (is_admin or user.totp_confirmed_at is not None),
        address=address,
        csrf_token=csrf_token(token),
    )
