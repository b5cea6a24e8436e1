"""Sessions of browsers: opaque random tokens whose digests are rows, so that every one can be listed and revoked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_service.crypto import new_token, token_digest
from agentcache_service.errors import NotFound
from agentcache_service.identity.tables import LoginSession, Membership
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service


def open_session(
    service: Service,
    session: Session,
    *,
    user_id: str,
    address: str = "",
    agent: str = "",
    second_factor: bool = False,
) -> str:
    """Sign a user in and return the token for the cookie; the session acts in the user's oldest organization."""
    now = service.clock.now()
    token = new_token()
    org_id = session.scalar(
        select(Membership.org_id).where(Membership.user_id == user_id).order_by(Membership.created_at).limit(1)
    )
    session.add(
        LoginSession(
            id=new_id("ses"),
            digest=token_digest(token),
            user_id=user_id,
            org_id=org_id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + timedelta(days=service.settings.session_days),
            second_factor_at=now if second_factor else None,
            address=address[:255],
            agent=agent[:400],
        )
    )
    return token


def elevate(service: Service, session: Session, principal: Principal) -> str:
    """Note that the second factor was given; the session gets a new token, which is returned."""
    token = new_token()
    session.execute(
        update(LoginSession)
        .where(LoginSession.id == principal.session_id)
        .values(second_factor_at=service.clock.now(), digest=token_digest(token))
    )
    return token


def living(session: Session, service: Service, user_id: str) -> Sequence[LoginSession]:
    """The user's sessions that are neither revoked nor expired, newest first."""
    query = (
        select(LoginSession)
        .where(
            LoginSession.user_id == user_id,
            LoginSession.revoked_at.is_(None),
            LoginSession.expires_at > service.clock.now(),
        )
        .order_by(LoginSession.last_seen_at.desc())
    )
    return session.scalars(query).all()


def revoke(session: Session, service: Service, *, user_id: str, session_id: str) -> None:
    """End one session of the user; raises `NotFound` when it is not theirs."""
    ended = session.execute(
        update(LoginSession)
        .where(LoginSession.id == session_id, LoginSession.user_id == user_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=service.clock.now())
        .returning(LoginSession.id)
    ).first()
    if ended is None:
        raise NotFound("There is no such session.")


def revoke_all(session: Session, service: Service, *, user_id: str, except_id: str | None = None) -> None:
    """End every session of the user, except one where named."""
    query = update(LoginSession).where(LoginSession.user_id == user_id, LoginSession.revoked_at.is_(None))
    if except_id is not None:
        query = query.where(LoginSession.id != except_id)
    session.execute(query.values(revoked_at=service.clock.now()))
