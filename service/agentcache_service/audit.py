"""The audit log: what was done, by whom, to what; written in the same transaction as the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.audit_tables import AuditEvent
from agentcache_service.clock import Clock
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal


def record(
    session: Session,
    clock: Clock,
    *,
    principal: Principal | None,
    action: str,
    target: str = "",
    org_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one event. `detail` must not hold secrets: it is shown to the organization's admins.

    `principal` is None for what the service does by itself (schedules, the command line).
    """
    session.add(
        AuditEvent(
            id=new_id("evt"),
            at=clock.now(),
            org_id=org_id or (principal.org_id if principal else None),
            actor=principal.actor if principal else "system",
            action=action,
            target=target,
            address=principal.address if principal else "",
            detail=dict(detail or {}),
        )
    )


def recent(session: Session, org_id: str, *, limit: int = 100) -> Sequence[AuditEvent]:
    """The newest events of an organization, newest first."""
    query = select(AuditEvent).where(AuditEvent.org_id == org_id).order_by(AuditEvent.at.desc()).limit(limit)
    return session.scalars(query).all()
