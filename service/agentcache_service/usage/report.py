"""The weekly report: what a week saved, and what a month and a year would, by mail to the admins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.identity.tables import Org
from agentcache_service.jobs import Claim
from agentcache_service.usage import figures, quota
from agentcache_service.usage.alerts import mail_admins

if TYPE_CHECKING:
    from agentcache_service.service import Service

WEEKLY = "usage.weekly_report"
_WEEKS_A_MONTH = 365 / 12 / 7
_WEEKS_A_YEAR = 365 / 7


@dataclass(frozen=True, slots=True)
class Week:
    """The figures of one week. Rates are shares from 0 to 1, None where nothing was asked or stored."""

    first_day: str
    last_day: str
    hit_rate: float | None
    total_requests: int
    bandwidth_saved_gb: float
    duplicates_eliminated: float | None
    saved_micros: int
    monthly_projection_micros: int
    annual_projection_micros: int


def week_slot(now: datetime) -> str:
    """The slot of the weekly job: the ISO week."""
    year, week, _ = now.isocalendar()
    return f"{year}-W{week:02d}"


def week_before(session: Session, org_id: str, now: datetime, *, bandwidth_gb_usd: float) -> Week:
    """The seven days before today. Money saved is what calls would have cost, and the bandwidth not moved."""
    last, first = now - timedelta(days=1), now - timedelta(days=7)
    sums = figures.sum_days(session, org_id, since=f"{first:%Y-%m-%d}", until=f"{now:%Y-%m-%d}")[""]
    rates = figures.totals(sums)
    saved = figures.saved_micros(sums, bandwidth_gb_usd=bandwidth_gb_usd)
    return Week(
        first_day=f"{first:%Y-%m-%d}",
        last_day=f"{last:%Y-%m-%d}",
        hit_rate=rates["hit_rate"],
        total_requests=sums["requests"],
        bandwidth_saved_gb=sums["bytes_saved"] / quota.GB,
        duplicates_eliminated=sums["duplicate_sets"] / sums["sets"] if sums["sets"] else None,
        saved_micros=saved,
        monthly_projection_micros=round(saved * _WEEKS_A_MONTH),
        annual_projection_micros=round(saved * _WEEKS_A_YEAR),
    )


def send_weekly(service: Service, claim: Claim) -> None:
    """The repeated job: one report for every organization that did anything in the week and has not declined."""
    now = service.clock.now()
    with service.db.read() as session:
        all_orgs = session.scalars(select(Org)).all()
    for org in all_orgs:
        if org.settings.get("weekly_report") is False:
            continue
        with service.db.write() as session:
            week = week_before(session, org.id, now, bandwidth_gb_usd=service.plans.unit_costs["bandwidth_gb_usd"])
            if week.total_requests:
                context = {"org": org, "week": week, "url": f"{service.settings.public_url}/dashboard"}
                mail_admins(service, session, org.id, "weekly_report", context, dedupe=f"weekly:{claim.id}:{org.id}")
