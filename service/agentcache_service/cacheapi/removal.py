"""Removing a namespace with what it holds: entries, assets, listeners, schedules, and their charge.

The rows go in one transaction; then the engine forgets the namespace, so that nothing old is served should the name be
used again; and a job frees the bytes. The job returns once more for calls that were under way meanwhile.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from agentcache_core.urls import open_backend
from agentcache_service.cacheapi import objects
from agentcache_service.cacheapi.prewarm import PREWARM
from agentcache_service.cacheapi.tables import AssetRecord, Listener, PrewarmSchedule
from agentcache_service.identity import orgs
from agentcache_service.identity.tables import ApiKey, Namespace
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.principal import Principal
from agentcache_service.usage import stock

if TYPE_CHECKING:
    from agentcache_service.service import Service

EMPTY = "cacheapi.empty_namespace"
_LONGEST_CALL = timedelta(minutes=15)


def remove_namespace(service: Service, principal: Principal, *, name: str) -> None:
    """Remove a namespace of the caller's organization; raises `NotFound`."""
    org_id, now = principal.tenant, service.clock.now()
    view = service.engine.view(org_id, name)
    with service.db.write() as session:
        orgs.lock(session, org_id)
        orgs.remove_namespace(service, session, principal, name=name)
        _forget_rows(service, session, org_id, name)
        payload = {"namespace": name, "removed_at": service.engine.now(), "until": now.isoformat()}
        own = _release(service, session, org_id, name, until=None)
        enqueue(session, service.clock, EMPTY, {**payload, "own": own}, org_id=org_id)
        enqueue(session, service.clock, EMPTY, {**payload, "own": []}, org_id=org_id, run_at=now + _LONGEST_CALL)
        view.invalidate(namespace=name)  # before the name is free: a crash leaves an empty namespace, never old answers
    view.invalidate(namespace=name)  # again, for writes that came in between


def _forget_rows(service: Service, session: Session, org_id: str, name: str) -> None:
    for table in (Listener, PrewarmSchedule, AssetRecord):
        session.execute(delete(table).where(table.org_id == org_id, table.namespace == name))
    for key in session.scalars(select(ApiKey).where(ApiKey.org_id == org_id, ApiKey.namespaces.is_not(None))):
        # a key that has no namespace left can do nothing; it must not come to life with the name
        key.namespaces = [item for item in key.namespaces or () if item != name]
    waiting = session.scalars(select(Job).where(Job.org_id == org_id, Job.kind == PREWARM, Job.state == "queued"))
    ended = [job.id for job in waiting if job.payload["namespace"] == name]
    reason = "the namespace was removed"
    session.execute(
        update(Job).where(Job.id.in_(ended)).values(state="failed", finished_at=service.clock.now(), last_error=reason)
    )


def _release(service: Service, session: Session, org_id: str, name: str, *, until: datetime | None) -> list[str]:
    """Take the charge of a namespace back; the names, in storage and in hex, of the customer's own objects in it.

    Blobs are shared by the namespaces of an organization: they stay charged, to the oldest that is left.
    """
    space = service.engine.space(org_id, name)
    left = [row.name for row in orgs.namespaces(session, org_id) if row.name != name]
    if left:
        stock.move(session, org_id, name, left[0], prefix=space.blobs_prefix.hex())
    gone = stock.remove_all(session, org_id, name, until=until)
    return [item for item in gone if objects.is_own(space, item)]


def empty(service: Service, claim: Claim) -> None:
    """The job: delete what was stored in the namespace, and what calls that were under way have charged since.

    Where the name is in use again, only what is older than the removal goes.
    """
    assert claim.org_id is not None
    org_id, name = claim.org_id, claim.payload["namespace"]
    space = service.engine.space(org_id, name)
    until: datetime | None = datetime.fromisoformat(claim.payload["until"])
    removed_at = claim.payload["removed_at"]
    with service.db.write() as session:
        orgs.lock(session, org_id)
        if session.scalar(select(Namespace.id).where(Namespace.org_id == org_id, Namespace.name == name)) is None:
            until, removed_at = None, service.engine.now()
            _forget_rows(service, session, org_id, name)
            service.engine.view(org_id, name).invalidate(namespace=name)
        own = [*claim.payload["own"], *_release(service, session, org_id, name, until=until)]
    remove_stored(service, space.entries_prefix, until=removed_at)
    objects.delete_own(service, space, own)


def remove_stored(service: Service, prefix: bytes, *, until: float | None = None) -> None:
    """Delete everything under a prefix from every durable tier, or what was written up to a moment (Unix seconds).

    Copies in a process's memory are not reached: they die with their namespace's generation.
    """
    for address in service.settings.cache_tiers:
        if address.startswith("memory:"):
            continue
        backend: Any = open_backend(address, face="blocking")
        try:
            for stat in list(backend.scan(prefix)):
                if until is None or stat.modified_at <= until:
                    backend.delete(stat.name, if_version=stat.version)
        finally:
            backend.close()
