"""Where a cache call acts: its organization, namespace, plan and the settings of the namespace's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import aliased

from agentcache_service.errors import Forbidden, NotFound
from agentcache_service.identity import presets
from agentcache_service.identity.tables import Namespace, Org
from agentcache_service.principal import Principal
from agentcache_service.usage.plans import Plan

if TYPE_CHECKING:
    from agentcache_service.service import Service


@dataclass(frozen=True, slots=True)
class Place:
    """One namespace, as a call finds it."""

    org_id: str
    namespace: str
    plan: Plan
    settings: Mapping[str, Any]
    now: datetime


_older = aliased(Namespace)
_RANK = (
    select(func.count())
    .select_from(_older)
    .where(
        _older.org_id == Namespace.org_id,
        (_older.created_at < Namespace.created_at)
        | ((_older.created_at == Namespace.created_at) & (_older.name < Namespace.name)),
    )
    .scalar_subquery()
)
_READ = (
    select(Org.plan, Org.trial_ends_at, Namespace.nodes)
    .join(Namespace, Namespace.org_id == Org.id)
    .where(Org.id == bindparam("org_id"), Namespace.name == bindparam("namespace"))
)
_READ_RANKED = _READ.add_columns(_RANK)


def enter(service: Service, principal: Principal, namespace: str, *, writes: bool = False) -> Place:
    """Find the namespace of a call and check its rate; a write to a namespace beyond the plan's number is refused."""
    now = service.clock.now()
    with service.db.quick() as connection:
        row = connection.execute(
            _READ_RANKED if writes else _READ, {"org_id": principal.tenant, "namespace": namespace}
        ).one_or_none()
    if row is None:
        raise NotFound(f"There is no namespace {namespace!r} in this organization.", code="namespace_unknown")
    plan = service.plans.current(row[0], row[1], now)
    service.limiter.check(plan.rate, "cache", principal.tenant)
    limit = plan.limits["namespaces"]
    if writes and limit is not None and row[3] >= limit:
        raise Forbidden(
            f"This namespace is read-only: the {plan.title} plan includes {limit}.", code="namespace_read_only"
        )
    return Place(principal.tenant, namespace, plan, presets.effective(row[2]), now)


def admit_request(service: Service, place: Place) -> None:
    """Count one request against the plan; raises `QuotaExceeded`."""
    service.meter.admit(place.org_id, "requests", amount=1, limit=place.plan.limits["requests"], now=place.now)


def admit_bytes(service: Service, place: Place, size: int) -> None:
    """Count bytes about to be sent against the plan; raises `QuotaExceeded`."""
    if size:
        limit = place.plan.limits["bandwidth_bytes"]
        service.meter.admit(place.org_id, "bandwidth_bytes", amount=size, limit=limit, now=place.now)
