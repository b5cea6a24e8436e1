"""Figures for people and programs: the quota answer, sums over days, projections. Everything comes from counters."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.identity import orgs
from agentcache_service.usage import quota
from agentcache_service.usage.meter import FIGURES
from agentcache_service.usage.tables import UsageDay

if TYPE_CHECKING:
    from agentcache_service.service import Service


def usage_of(service: Service, session: Session, org_id: str) -> dict[str, tuple[int, int | None]]:
    """For every metric: what is used now, and the limit (None: unlimited)."""
    now = service.clock.now()
    plan = orgs.plan_of(service, orgs.get(session, org_id))
    return {
        metric: (
            quota.used(session, org_id, metric, quota.period_of(metric, now)) or 0,
            plan.limits[metric],
        )
        for metric in ("requests", "hot_bytes", "asset_bytes", "bandwidth_bytes")
    }


def quota_answer(service: Service, org_id: str) -> dict[str, Any]:
    """The contract's quota answer."""
    service.meter.flush(everything=True)
    with service.db.read() as session:
        plan = orgs.plan_of(service, orgs.get(session, org_id))
        use = usage_of(service, session, org_id)
    hot, assets, band, calls = (use[name] for name in ("hot_bytes", "asset_bytes", "bandwidth_bytes", "requests"))
    percent = None if not assets[1] else round(100 * assets[0] / assets[1], 2)
    return {
        "tier": plan.name,
        "storage": {
            "redis": _in_mb(hot),
            "jettythunder": {**_in_gb(assets), "percent_used": percent},
        },
        "bandwidth": _in_gb(band),
        "requests": {
            "limit": calls[1],
            "used": calls[0],
            "available": None if calls[1] is None else max(0, calls[1] - calls[0]),
        },
    }


def _in_mb(use: tuple[int, int | None]) -> dict[str, float | None]:
    """The contract's megabytes: whole numbers where they are whole."""
    used, limit = use
    return {
        "limit_mb": None if limit is None else _whole(limit / quota.MB),
        "used_mb": _whole(used / quota.MB),
        "available_mb": None if limit is None else _whole(max(0, limit - used) / quota.MB),
    }


def _in_gb(use: tuple[int, int | None]) -> dict[str, float | None]:
    """The contract's gigabytes: the limit a whole number where it is one, the others with a fraction."""
    used, limit = use
    return {
        "limit_gb": None if limit is None else _whole(limit / quota.GB),
        "used_gb": round(used / quota.GB, 6),
        "available_gb": None if limit is None else round(max(0, limit - used) / quota.GB, 6),
    }


def _whole(value: float) -> float:
    return int(value) if value == int(value) else round(value, 6)


def totals(sums: Mapping[str, int]) -> dict[str, Any]:
    """Sums with the rates that follow from them; a rate is None while there is nothing to divide by."""
    asked = sums["hits"] + sums["misses"]
    moved = sums["bytes_in"] + sums["bytes_saved"]
    return {
        **{name: sums[name] for name in FIGURES},
        "hit_rate": sums["hits"] / asked if asked else None,
        "dedup_rate": sums["duplicate_bytes"] / sums["bytes_in"] if sums["bytes_in"] else None,
        "bandwidth_saved_rate": sums["bytes_saved"] / moved if moved else None,
    }


def sum_days(
    session: Session, org_id: str, *, since: str = "", until: str = "9", by_namespace: bool = False
) -> dict[str, dict[str, int]]:
    """Sums of all figures from day `since` to before `until`, under "" or per namespace."""
    columns = [func.coalesce(func.sum(getattr(UsageDay, name)), 0) for name in FIGURES]
    where = (UsageDay.org_id == org_id, UsageDay.day >= since, UsageDay.day < until)
    if not by_namespace:
        row = session.execute(select(*columns).where(*where)).one()
        return {"": {name: int(value) for name, value in zip(FIGURES, row, strict=True)}}
    rows = session.execute(select(UsageDay.namespace, *columns).where(*where).group_by(UsageDay.namespace))
    return {row[0]: {name: int(value) for name, value in zip(FIGURES, row[1:], strict=True)} for row in rows}


def saved_micros(sums: Mapping[str, int], *, bandwidth_gb_usd: float) -> int:
    """Micro-USD saved: what answered calls had cost to compute, and the bytes that were not moved from their origin."""
    return sums["saved_micros"] + round(sums["bytes_saved"] / quota.GB * bandwidth_gb_usd * 1_000_000)


def projected(micros: int, now: datetime, *, since: datetime) -> int:
    """The month's micro-USD if the rest of it goes on like the days so far: those of the month, or, within a
    customer's first month, those since they came (`since`). Part of a first day counts as a whole one."""
    days = calendar.monthrange(now.year, now.month)[1]
    begun = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    passed = max((now - max(begun, since)) / timedelta(days=1), 1.0)
    left = days - (now - begun) / timedelta(days=1)
    return int(micros + micros / passed * left)


def stats(service: Service, org_id: str) -> dict[str, Any]:
    """This month, all time, per namespace, and the month's projection."""
    service.meter.flush()
    now, price = service.clock.now(), service.plans.unit_costs["bandwidth_gb_usd"]
    with service.db.read() as session:
        since = orgs.get(session, org_id).created_at
        month = sum_days(session, org_id, since=f"{now:%Y-%m}-01")[""]
        ever = sum_days(session, org_id)[""]
        rooms = sum_days(session, org_id, since=f"{now:%Y-%m}-01", by_namespace=True)

    def complete(sums: Mapping[str, int]) -> dict[str, Any]:
        return {**totals(sums), "cost_saved_micros": saved_micros(sums, bandwidth_gb_usd=price)}

    return {
        "month": complete(month),
        "all_time": complete(ever),
        "namespaces": {name: complete(sums) for name, sums in sorted(rooms.items())},
        "projected_saved_micros": projected(saved_micros(month, bandwidth_gb_usd=price), now, since=since),
    }


def series(session: Session, org_id: str, now: datetime, *, days: int = 30) -> list[dict[str, Any]]:
    """One point per day, oldest first, days without any call included."""
    first = now - timedelta(days=days - 1)
    columns = [func.sum(getattr(UsageDay, name)) for name in FIGURES]
    rows = session.execute(
        select(UsageDay.day, *columns)
        .where(UsageDay.org_id == org_id, UsageDay.day >= f"{first:%Y-%m-%d}")
        .group_by(UsageDay.day)
    )
    known = {row[0]: dict(zip(FIGURES, map(int, row[1:]), strict=True)) for row in rows}
    nothing = dict.fromkeys(FIGURES, 0)
    names = [f"{first + timedelta(days=offset):%Y-%m-%d}" for offset in range(days)]
    return [{"day": name, **known.get(name, nothing)} for name in names]
