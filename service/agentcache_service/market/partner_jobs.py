"""Jobs at compute partners: cache warming and batch invalidation on Modal, GPU jobs on RunPod.

A job is a row first; the worker starts it, looks after it, and writes status, log and cost until it ends or is
cancelled. Scheduled jobs make the next row when one ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from croniter import croniter  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from agentcache_service.errors import Conflict, NotFound, ServiceError, Unprocessable
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import connections, partner_dialects
from .connections import Credential
from .integration_tables import PartnerJob
from .partner_catalog import Partner
from .partner_dialects import Progress

LOOK_AGAIN = timedelta(seconds=20)
MAX_LOG = 500
SCHEDULES = {"nightly": "0 3 * * *", "weekly": "0 3 * * 1"}
ENDED = ("succeeded", "failed", "canceled")


def trigger(
    service: Service, principal: Principal, slug: str, *, action: str, given: Mapping[str, Any], schedule: str | None
) -> PartnerJob:
    """Write a job; it starts at once, or at the schedule's next time."""
    chosen = connections.partner(service, slug)
    if action not in chosen.actions:
        raise NotFound(f"{chosen.name} has no action {action!r}.")
    connections.credential(service, principal.tenant, slug)
    now = service.clock.now()
    cron = _cron(schedule)
    row = PartnerJob(
        id=new_id("pjb"),
        org_id=principal.tenant,
        partner=slug,
        action=action,
        given=dict(given),
        schedule=cron,
        state="queued",
        log=[],
        cost=0,
        result={},
        created_by=principal.user,
        created_at=now,
        next_at=croniter(cron, now).get_next(type(now)) if cron else now,
    )
    with service.db.write() as session:
        session.add(row)
    return row


def own(session: Session, org_id: str, slug: str, *, job_id: str) -> PartnerJob:
    """A job of this organization at this partner, or `NotFound`."""
    row = session.get(PartnerJob, job_id)
    if row is None or row.org_id != org_id or row.partner != slug:
        raise NotFound("There is no such job.")
    return row


def of_org(session: Session, org_id: str, slug: str) -> list[PartnerJob]:
    """An organization's jobs at a partner, newest first."""
    query = select(PartnerJob).where(PartnerJob.org_id == org_id, PartnerJob.partner == slug)
    return list(session.scalars(query.order_by(PartnerJob.created_at.desc(), PartnerJob.id).limit(100)))


def cancel(service: Service, principal: Principal, slug: str, *, job_id: str) -> PartnerJob:
    """Stop a job here and at the partner."""
    with service.db.read() as session:
        row = own(session, principal.tenant, slug, job_id=job_id)
    if row.state in ENDED:
        raise Conflict(f"The job has {row.state} already.")
    stop(service, row)
    with service.db.write() as session:
        row = session.get_one(PartnerJob, job_id)
        row.state, row.next_at, row.finished_at = "canceled", None, service.clock.now()
        row.log = [*row.log, _line(service, "cancelled")][-MAX_LOG:]
        return row


def stop(service: Service, row: PartnerJob) -> None:
    """Stop a job at its partner, if it has begun there; `ServiceError` when the partner does not take it."""
    if row.remote_id is not None:
        chosen = connections.partner(service, row.partner)
        partner_dialects.stop(service, chosen, _credential(service, row), row.remote_id)


def advance(service: Service, *, limit: int = 100) -> int:
    """Start, look after and end every job whose time has come; how many were touched."""
    now = service.clock.now()
    query = (
        select(PartnerJob.id)
        .where(PartnerJob.state.in_(("queued", "running")))
        .where(or_(PartnerJob.next_at.is_(None), PartnerJob.next_at <= now))
        .order_by(PartnerJob.next_at)
        .limit(limit)
    )
    with service.db.read() as session:
        due = list(session.scalars(query))
    for name in due:
        _step(service, name)
    return len(due)


def _step(service: Service, name: str) -> None:
    with service.db.read() as session:
        row = session.get_one(PartnerJob, name)
    chosen = connections.partner(service, row.partner)
    try:
        credential = _credential(service, row)
        if row.remote_id is None:
            progress = partner_dialects.start(service, chosen, credential, row)
        else:
            progress = partner_dialects.look(service, chosen, credential, row.remote_id)
    except ServiceError as trouble:
        progress = Progress("failed" if row.remote_id is None else "running", log=(trouble.message,))
    with service.db.write() as session:
        row = session.get_one(PartnerJob, name)
        if row.state in ENDED:
            return
        _write(service, session, row, chosen, progress)


def _write(service: Service, session: Session, row: PartnerJob, chosen: Partner, progress: Progress) -> None:
    now = service.clock.now()
    row.state = progress.state
    row.remote_id = progress.remote_id or row.remote_id
    known = {line["text"] for line in row.log}
    row.log = [*row.log, *(_line(service, text) for text in progress.log if text not in known)][-MAX_LOG:]
    row.cost = round(progress.seconds * chosen.second_price) if progress.seconds else row.cost
    row.result = dict(progress.result) or row.result
    row.next_at = now + LOOK_AGAIN
    if row.state not in ENDED:
        return
    row.next_at, row.finished_at = None, now
    if row.state == "succeeded":
        connections.note_use(session, row.org_id, row.partner, hits=0, misses=1, saved=0, service=service)
    if row.schedule is not None:
        session.add(
            PartnerJob(
                id=new_id("pjb"),
                org_id=row.org_id,
                partner=row.partner,
                action=row.action,
                given=row.given,
                schedule=row.schedule,
                state="queued",
                log=[],
                cost=0,
                result={},
                created_by=row.created_by,
                created_at=now,
                next_at=croniter(row.schedule, now).get_next(type(now)),
            )
        )


def _credential(service: Service, row: PartnerJob) -> Credential:
    return connections.credential(service, row.org_id, row.partner)


def _cron(schedule: str | None) -> str | None:
    if schedule is None:
        return None
    cron = SCHEDULES.get(schedule, schedule)
    if not croniter.is_valid(cron):
        raise Unprocessable("schedule is `nightly`, `weekly` or a cron expression with five fields.")
    return cron


def _line(service: Service, text: str) -> dict[str, str]:
    return {"at": service.clock.now().isoformat(), "text": text[:500]}
