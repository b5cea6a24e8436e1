"""What a person may ask about their own data: a copy of all of it, and its erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.audit_tables import AuditEvent
from agentcache_service.cacheapi.tables import AssetRecord, Listener
from agentcache_service.errors import Conflict, Forbidden
from agentcache_service.identity import sessions
from agentcache_service.identity.tables import (
    ApiKey,
    LoginSession,
    Membership,
    Namespace,
    OneTimeToken,
    Org,
    RecoveryCode,
    User,
)
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.principal import Principal
from agentcache_service.usage import quota
from agentcache_service.usage.tables import StoredItem, UsageDay

if TYPE_CHECKING:
    from agentcache_service.service import Service

WIPE = "privacy.wipe_tenant"
_HIDDEN = {"password_hash", "totp_sealed", "totp_last_step", "digest", "secret_sealed"}


def _plain(row: Any) -> dict[str, Any]:
    """A row's columns as JSON-able values, without anything that is a secret."""
    found = {column.key: getattr(row, column.key) for column in row.__table__.columns if column.key not in _HIDDEN}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in found.items()}


def export(session: Session, principal: Principal) -> dict[str, Any]:
    """Everything kept about the signed-in person, and, for its admins, about the organization."""
    user = session.get_one(User, principal.user)
    memberships = session.scalars(select(Membership).where(Membership.user_id == user.id)).all()
    copy: dict[str, Any] = {
        "user": _plain(user),
        "sessions": [_plain(row) for row in _rows(session, LoginSession, LoginSession.user_id == user.id)],
        "memberships": [_plain(row) for row in memberships],
        "actions": [_plain(row) for row in _rows(session, AuditEvent, AuditEvent.actor == user.id)],
        "organizations": [],
    }
    for membership in memberships:
        if membership.role == "admin":
            copy["organizations"].append(_organization(session, membership.org_id))
    return copy


def _rows(session: Session, table: Any, *conditions: Any) -> Any:
    return session.scalars(select(table).where(*conditions)).all()


def _organization(session: Session, org_id: str) -> dict[str, Any]:
    tables: dict[str, Any] = {"namespaces": Namespace, "api_keys": ApiKey, "listeners": Listener, "assets": AssetRecord}
    return {
        **_plain(session.get_one(Org, org_id)),
        **{
            name: [_plain(row) for row in _rows(session, table, table.org_id == org_id)]
            for name, table in tables.items()
        },
        "usage": [_plain(row) for row in _rows(session, UsageDay, UsageDay.org_id == org_id)],
    }


def erase(service: Service, principal: Principal, *, password: str) -> None:
    """Erase the signed-in person: names, address, credentials, sessions.

    An organization of theirs alone goes with them, cached content included; one with other people must have another
    admin. What accounting needs keeps ids only.
    """
    with service.db.read() as session:
        stored = session.get_one(User, principal.user).password_hash
    if not service.passwords.verify(stored, password):
        raise Forbidden("The password is wrong.", code="password_wrong")
    with service.db.write() as session:
        user = session.get_one(User, principal.user)
        for membership in _rows(session, Membership, Membership.user_id == user.id):
            _leave(service, session, membership)
        sessions.revoke_all(session, service, user_id=user.id)
        for table in (LoginSession, OneTimeToken, RecoveryCode):
            session.execute(delete(table).where(table.user_id == user.id))
        _blank(service, user)
        session.execute(update(AuditEvent).where(AuditEvent.actor == user.id).values(address=""))
        audit.record(session, service.clock, principal=None, action="account.erase", target=user.id)


def _blank(service: Service, user: User) -> None:
    user.email, user.username = f"{user.id}@erased.invalid", user.id
    user.first_name = user.last_name = user.password_hash = ""
    user.avatar_url = user.totp_sealed = user.totp_confirmed_at = user.totp_last_step = None
    user.platform_role = "user"
    user.erased_at = service.clock.now()


def _leave(service: Service, session: Session, membership: Membership) -> None:
    others = session.scalar(
        select(func.count())
        .select_from(Membership)
        .where(Membership.org_id == membership.org_id, Membership.user_id != membership.user_id)
    )
    admins = session.scalar(
        select(func.count())
        .select_from(Membership)
        .where(
            Membership.org_id == membership.org_id,
            Membership.user_id != membership.user_id,
            Membership.role == "admin",
        )
    )
    if others and membership.role == "admin" and not admins:
        raise Conflict("Make somebody else an admin of your organization first.", code="last_admin")
    if not others:
        _close_organization(service, session, membership.org_id)
    session.delete(membership)


def _close_organization(service: Service, session: Session, org_id: str) -> None:
    org = session.get_one(Org, org_id)
    org.name, org.description, org.slug = "erased", "", org.id
    org.settings = {"weekly_report": False}
    session.execute(
        update(ApiKey)
        .where(ApiKey.org_id == org_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=service.clock.now())
    )
    for table in (Listener, AssetRecord, Namespace):
        session.execute(delete(table).where(table.org_id == org_id))
    enqueue(session, service.clock, WIPE, {}, org_id=org_id, dedupe_key=f"{WIPE}:{org_id}")


def wipe(service: Service, claim: Claim) -> None:
    """The job: remove everything the engine keeps for a closed organization, and free its counters."""
    assert claim.org_id is not None
    prefix = service.engine.space(claim.org_id, "").tenant_prefix
    for stat in list(service.engine.objects.scan(prefix)):
        service.engine.objects.delete(stat.name)
    with service.db.write() as session:
        session.execute(delete(StoredItem).where(StoredItem.org_id == claim.org_id))
        for metric in ("hot_bytes", "asset_bytes"):
            quota.correct(session, claim.org_id, metric, quota.STOCK, to=0)
