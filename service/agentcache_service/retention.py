"""How long things that have served their purpose are kept, and the repeated job that lets them go."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, delete, or_, select

from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.identity.tables import LoginSession, OneTimeToken
from agentcache_service.jobs import Claim
from agentcache_service.jobs_tables import Job

if TYPE_CHECKING:
    from agentcache_service.service import Service

PURGE = "retention.purge"
DONE_JOBS = timedelta(days=1)
REPEATED_JOBS = timedelta(days=9)
"""Longer than the slot of the rarest repeated job, a week: its row is what keeps it from being done twice."""
MINUTE_JOBS = timedelta(hours=1)
FAILED_JOBS = timedelta(days=30)
ENDED_SESSIONS = timedelta(days=30)
USED_TOKENS = timedelta(days=7)
_BATCH = 1000


def purge(service: Service, minutely: Iterable[str], _claim: Claim) -> None:
    """The repeated job. `minutely` are the kinds of jobs that are planted every minute."""
    now = service.clock.now()
    _remove(service, Job, _ended_jobs(now, list(minutely)))
    over = now - ENDED_SESSIONS
    _remove(service, LoginSession, or_(LoginSession.expires_at < over, LoginSession.revoked_at < over))
    spent = now - USED_TOKENS
    _remove(service, OneTimeToken, or_(OneTimeToken.expires_at < spent, OneTimeToken.used_at < spent))
    _remove(service, AssetRecord, AssetRecord.expires_at < now)


def _ended_jobs(now: datetime, minutely: list[str]) -> ColumnElement[bool]:
    done = Job.state == "done"
    return or_(
        and_(done, Job.kind.in_(minutely), Job.finished_at < now - MINUTE_JOBS),
        and_(done, Job.dedupe_key.is_(None), Job.finished_at < now - DONE_JOBS),
        and_(done, Job.finished_at < now - REPEATED_JOBS),
        and_(Job.state == "failed", Job.finished_at < now - FAILED_JOBS),
    )


def _remove(service: Service, table: Any, condition: ColumnElement[bool]) -> int:
    """Delete the rows, a batch in each transaction: others write meanwhile."""
    removed = 0
    while True:
        with service.db.write() as session:
            names = session.scalars(select(table.id).where(condition).limit(_BATCH)).all()
            session.execute(delete(table).where(table.id.in_(names)))
        removed += len(names)
        if len(names) < _BATCH:
            return removed
