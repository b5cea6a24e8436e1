"""The table of audit events: append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class AuditEvent(Base):
    """Something that was done: who, what, to what, from where. Rows are never changed."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_org_id_at", "org_id", "at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    org_id: Mapped[str | None]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    address: Mapped[str]
    detail: Mapped[dict[str, Any]]
