"""Alerts: 90 % of a limit, and days far above a customer's own past. Each is told once per period."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from agentcache_service.identity import orgs
from agentcache_service.identity.tables import Membership, Org, User
from agentcache_service.jobs import Claim
from agentcache_service.mail import queue_mail
from agentcache_service.usage import figures, quota
from agentcache_service.usage.tables import AlertSent, UsageDay

if TYPE_CHECKING:
    from agentcache_service.service import Service

CHECK_LIMITS = "usage.check_limits"
CHECK_ANOMALIES = "usage.check_anomalies"
NAMES = {
    "requests": "requests",
    "hot_bytes": "hot storage",
    "asset_bytes": "asset storage",
    "bandwidth_bytes": "bandwidth",
}


@dataclass(frozen=True, slots=True)
class Near:
    """A metric near or at its limit. `percent` is of the limit, which is never 0 here."""

    metric: str
    used: int
    limit: int
    percent: float

    @property
    def text(self) -> str:
        """The sentence of the banner."""
        return f"You have used {self.percent:.0f} % of your {NAMES[self.metric]}."


def percent_used(used: int, limit: int | None) -> float | None:
    """Percentage of a limit; None where there is no limit, or a limit of 0, of which nothing is a share."""
    return None if not limit else 100 * used / limit


def near_limits(use: Mapping[str, tuple[int, int | None]], threshold: int) -> list[Near]:
    """The metrics at or above the threshold (in per cent)."""
    found = []
    for metric, (used, limit) in use.items():
        share = percent_used(used, limit)
        if share is not None and limit is not None and share >= threshold:
            found.append(Near(metric, used, limit, share))
    return found


def banners(service: Service, session: Session, org: Org) -> list[Near]:
    """What the dashboard warns of now."""
    return near_limits(figures.usage_of(service, session, org.id), service.plans.alert_percent)


def check_limits(service: Service, _claim: Claim) -> None:
    """The repeated job: mail the admins of every organization that is near a limit, once per month and metric."""
    threshold = service.plans.alert_percent
    month = f"{service.clock.now():%Y-%m}"
    with service.db.read() as session:
        all_orgs = session.scalars(select(Org)).all()
        near = {org.id: near_limits(figures.usage_of(service, session, org.id), threshold) for org in all_orgs}
    for org in all_orgs:
        for item in near[org.id]:
            with service.db.write() as session:
                if first_time(session, org.id, item.metric, month, threshold, service.clock.now()):
                    context = {
                        "org": org,
                        "name": NAMES[item.metric],
                        "percent": item.percent,
                        "used": _amount(item.metric, item.used),
                        "limit": _amount(item.metric, item.limit),
                        "url": f"{service.settings.public_url}/dashboard/plan",
                    }
                    mail_admins(service, session, org.id, "limit_near", context)


def _amount(metric: str, value: int) -> str:
    return f"{value:,}" if metric == "requests" else f"{value / quota.GB:.3f} GB"


def first_time(session: Session, org_id: str, metric: str, period: str, threshold: int, now: datetime) -> bool:
    """True for the one caller that may tell this; the row's key makes it one."""
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgres_insert
    statement = insert(AlertSent).values(org_id=org_id, metric=metric, period=period, threshold=threshold, sent_at=now)
    return session.execute(statement.on_conflict_do_nothing().returning(AlertSent.org_id)).first() is not None


def mail_admins(
    service: Service,
    session: Session,
    org_id: str,
    template: str,
    context: Mapping[str, Any],
    *,
    dedupe: str | None = None,
) -> int:
    """Queue one mail for every admin of an organization; how many."""
    query = select(User).join(Membership, Membership.user_id == User.id)
    admins = session.scalars(
        query.where(Membership.org_id == org_id, Membership.role == "admin", User.verified_at.is_not(None))
    ).all()
    for user in admins:
        queue_mail(
            session,
            service.clock,
            service.vault,
            to=user.email,
            template=template,
            context={**context, "user": user},
            org_id=org_id,
            dedupe_key=f"{dedupe}:{user.id}" if dedupe else None,
        )
    return len(admins)


def is_anomaly(past: Sequence[int], today: int, rule: Mapping[str, float], *, least: float) -> bool:
    """True when a day's sum is far above the days before: by many standard deviations, by a factor, and at all."""
    if len(past) < rule["least_days"] or today < least:
        return False
    mean, spread = statistics.fmean(past), statistics.pstdev(past)
    return today > mean + rule["sigmas"] * max(spread, mean**0.5) and today > rule["least_ratio"] * mean


def cost_micros(sums: Mapping[str, int], prices: Mapping[str, float]) -> int:
    """What a day costs us, in micro-USD: its requests, the bytes sent, and a month of hot storage for new bytes."""
    usd = (
        sums["requests"] / 1_000_000 * prices["api_million_calls_usd"]
        + sums["bytes_out"] / quota.GB * prices["bandwidth_gb_usd"]
        + max(0, sums["bytes_in"] - sums["duplicate_bytes"]) / quota.MB * prices["redis_mb_month_usd"]
    )
    return round(usd * 1_000_000)


_SUMMED = ("requests", "bytes_in", "bytes_out", "duplicate_bytes")


def _days_since(session: Session, since: str) -> dict[str, dict[str, dict[str, int]]]:
    """For every organization, the sums of each of its days."""
    columns = [func.sum(getattr(UsageDay, name)) for name in _SUMMED]
    rows = session.execute(
        select(UsageDay.org_id, UsageDay.day, *columns)
        .where(UsageDay.day >= since)
        .group_by(UsageDay.org_id, UsageDay.day)
    )
    days: dict[str, dict[str, dict[str, int]]] = {}
    for org_id, day, *sums in rows:
        days.setdefault(org_id, {})[day] = dict(zip(_SUMMED, map(int, sums), strict=True))
    return days


def check_anomalies(service: Service, _claim: Claim) -> None:
    """The repeated job: tell organizations of a day whose requests or costs are far above their own past."""
    now, rule, prices = service.clock.now(), service.plans.anomaly, service.plans.unit_costs
    today, since = f"{now:%Y-%m-%d}", f"{now - timedelta(days=rule['days']):%Y-%m-%d}"
    with service.db.read() as session:
        everybody = _days_since(session, since)
    for org_id, days in everybody.items():
        requests = {day: sums["requests"] for day, sums in days.items()}
        costs = {day: cost_micros(sums, prices) for day, sums in days.items()}
        watched = (
            ("requests", requests, rule["least_requests"]),
            ("cost", costs, rule.get("least_micros", float("inf"))),
        )
        unusual = [
            (metric, values)
            for metric, values, least in watched
            if is_anomaly(_before(values, today), values.get(today, 0), rule, least=least)
        ]
        if unusual:
            _tell_anomalies(service, org_id, today, unusual)


def _before(values: Mapping[str, int], today: str) -> list[int]:
    return [value for day, value in values.items() if day < today]


def _tell_anomalies(
    service: Service, org_id: str, today: str, unusual: Sequence[tuple[str, Mapping[str, int]]]
) -> None:
    with service.db.write() as session:
        told = [
            _unusual(metric, values[today], statistics.fmean(_before(values, today)))
            for metric, values in unusual
            if first_time(session, org_id, f"anomaly:{metric}", today, 0, service.clock.now())
        ]
        if told:
            url = f"{service.settings.public_url}/dashboard/usage"
            context = {"org": orgs.get(session, org_id), "told": told, "url": url}
            mail_admins(service, session, org_id, "anomaly", context)


def _unusual(metric: str, today: int, usual: float) -> str:
    if metric == "requests":
        return f"{today:,} cache requests so far; a usual day has about {round(usual):,}."
    return f"${today / 1e6:,.2f} of requests, traffic and storage so far; a usual day costs about ${usual / 1e6:,.2f}."
