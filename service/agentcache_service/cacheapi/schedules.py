"""Schedules of prewarming: rows with their next time, from which a repeated job makes the jobs that are due.

A schedule goes on whatever becomes of a single night; it ends when it is stopped or its namespace is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter  # type: ignore[import-untyped]  # the package has no types
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.cacheapi.place import Place
from agentcache_service.cacheapi.tables import PrewarmSchedule
from agentcache_service.errors import NotFound, Unprocessable
from agentcache_service.identity import orgs
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

TICK = "cacheapi.prewarm_tick"
PER_ORG = 50
_NAMED = {"nightly": "0 3 * * *", "weekly": "0 3 * * 1"}


def cron_of(schedule: str) -> str:
    """The cron expression of a schedule: nightly (03:00 UTC), weekly (Mondays) or five fields, at most hourly."""
    expression = _NAMED.get(schedule, schedule)
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise Unprocessable('schedule is "nightly", "weekly" or a cron expression of five fields.', code="schedule")
    if not expression.split()[0].isdigit():
        raise Unprocessable("A schedule runs at most once an hour: its first field is one minute.", code="schedule")
    return expression


def next_run(expression: str, now: datetime) -> datetime:
    """The next moment a cron expression names after `now` (UTC)."""
    found: datetime = croniter(expression, now).get_next(datetime)
    return found


def add(
    service: Service,
    session: Session,
    place: Place,
    expression: str,
    *,
    items: Sequence[Mapping[str, Any]] | None,
    source: str | None,
    job: str,
) -> PrewarmSchedule:
    """Keep a schedule whose first job was made already."""
    orgs.lock(session, place.org_id)
    query = select(func.count()).select_from(PrewarmSchedule).where(PrewarmSchedule.org_id == place.org_id)
    if (session.scalar(query) or 0) >= PER_ORG:
        raise Unprocessable(f"An organization has at most {PER_ORG} schedules.", code="schedules_many")
    row = PrewarmSchedule(
        id=new_id("pws"),
        org_id=place.org_id,
        namespace=place.namespace,
        expression=expression,
        items=None if items is None else list(items),
        source=source,
        next_run_at=next_run(expression, place.now),
        last_job=job,
        created_at=place.now,
    )
    session.add(row)
    return row


def list_for(session: Session, org_id: str, namespace: str) -> Sequence[PrewarmSchedule]:
    """The schedules of a namespace, newest first."""
    query = select(PrewarmSchedule).where(PrewarmSchedule.org_id == org_id, PrewarmSchedule.namespace == namespace)
    return session.scalars(query.order_by(PrewarmSchedule.created_at.desc(), PrewarmSchedule.id)).all()


def stop(service: Service, session: Session, principal: Principal, schedule_id: str) -> None:
    """End a schedule; raises `NotFound` when it is not the organization's, or of a namespace the key may not use."""
    row = session.get(PrewarmSchedule, schedule_id)
    if row is None or row.org_id != principal.tenant:
        raise NotFound("There is no such schedule.")
    if principal.namespaces is not None and row.namespace not in principal.namespaces:
        raise NotFound("There is no such schedule.")
    session.delete(row)
    audit.record(session, service.clock, principal=principal, action="prewarm.stop", target=schedule_id)


def tick(service: Service, kind: str, _claim: Claim) -> None:
    """The repeated job: one job of `kind` for every schedule that is due. Nights that passed while nothing ran are
    made up for once."""
    now = service.clock.now()
    with service.db.write() as session:
        for row in session.scalars(select(PrewarmSchedule).where(PrewarmSchedule.next_run_at <= now).limit(200)):
            slot = f"{kind}:{row.id}:{row.next_run_at:%Y%m%dT%H%M}"
            payload = {"namespace": row.namespace, "items": row.items, "source": row.source, "schedule": row.id}
            made = enqueue(session, service.clock, kind, payload, org_id=row.org_id, dedupe_key=slot)
            row.last_job = made or row.last_job
            row.next_run_at = next_run(row.expression, now)
