"""The tables of background work: the outbox of jobs and the slots of repeated ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class Job(Base):
    """One piece of work to be done at or after `run_at`. `state` is queued, running, done or failed."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_run_at", "state", "run_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    org_id: Mapped[str | None] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="queued")
    run_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    dedupe_key: Mapped[str | None] = mapped_column(unique=True)
    progress: Mapped[dict[str, Any]]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
