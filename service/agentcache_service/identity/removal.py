"""Removing a namespace with everything in it: entries, assets, listeners, schedules, charges, rights of keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from agentcache_core.urls import open_backend
from agentcache_service import audit
from agentcache_service.cacheapi.prewarm import PREWARM
from agentcache_service.cacheapi.tables import AssetRecord, Listener
from agentcache_service.identity import orgs
from agentcache_service.identity.tables import ApiKey
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.principal import Principal
from agentcache_service.usage import quota, stock
from agentcache_service.usage.tables import StoredItem

if TYPE_CHECKING:
    from agentcache_service.service import Service

EMPTY = "identity.empty_namespace"
_STOCK = ("hot_bytes", "asset_bytes")


def remove_namespace(service: Service, principal: Principal, *, name: str) -> None:
    """Remove a namespace. When this returns nothing of it is served or charged; a job frees the space."""
    org_id = principal.tenant
    with service.db.write() as session:
        orgs.lock(session, org_id)
        session.delete(orgs.namespace(session, org_id, name))
        for table in (Listener, AssetRecord):
            session.execute(delete(table).where(table.org_id == org_id, table.namespace == name))
        _end_schedules(session, org_id, name)
        _narrow_keys(session, org_id, name)
        _free(session, org_id, name)
        enqueue(session, service.clock, EMPTY, {"namespace": name, "until": time.time()}, org_id=org_id)
        audit.record(session, service.clock, principal=principal, action="namespace.remove", target=name)
    service.engine.view(org_id, name).invalidate(namespace=name)


def _end_schedules(session: Session, org_id: str, name: str) -> None:
    jobs = select(Job).where(Job.org_id == org_id, Job.kind == PREWARM, Job.state == "queued")
    for job in session.scalars(jobs):
        if job.payload["namespace"] == name:
            session.delete(job)


def _narrow_keys(session: Session, org_id: str, name: str) -> None:
    """Take the namespace out of what restricted keys may use; one that may use nothing else may use nothing."""
    for key in session.scalars(select(ApiKey).where(ApiKey.org_id == org_id)):
        if key.namespaces is not None and name in key.namespaces:
            key.namespaces = [room for room in key.namespaces if room != name]


def _free(session: Session, org_id: str, name: str) -> None:
    """Give back what only this namespace stored; what others share stays charged."""
    before = {metric: stock.recount(session, org_id, metric) for metric in _STOCK}
    session.execute(delete(StoredItem).where(StoredItem.org_id == org_id, StoredItem.namespace == name))
    for metric in _STOCK:
        freed = before[metric] - stock.recount(session, org_id, metric)
        quota.give_back(session, org_id, metric, quota.STOCK, amount=freed)


def empty(service: Service, claim: Claim) -> None:
    """The job: delete what storage holds of a removed namespace; one made anew under its name keeps what is newer."""
    assert claim.org_id is not None
    prefix = service.engine.space(claim.org_id, claim.payload["namespace"]).entries_prefix
    remove_stored(service, prefix, until=float(claim.payload["until"]))


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
                    backend.delete(stat.name)
        finally:
            backend.close()
