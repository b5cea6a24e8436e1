"""Figures of the platform for those who run it: recurring revenue, churn, lifetime value, users, sales, volume."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.identity.tables import LoginSession, Org, User
from agentcache_service.money import finance
from agentcache_service.money.billing_tables import Subscription
from agentcache_service.service import Service
from agentcache_service.usage.tables import UsageDay

from .commission_rates import Rates
from .tables import Creator, Listing, ListingVersion, ModelCall, Purchase, SaleRecord

GB = 1 << 30


def overview(service: Service, month: finance.Month) -> dict[str, Any]:
    """Every figure of a month; money in micro-USD, shares from 0 to 1, None where there is nothing to divide by."""
    with service.db.read() as session:
        recurring = _mrr(service, session, month)
        at_start, ended = _churn(session, month)
        revenue = finance.revenue_lines(session, month)
        payers = recurring["subscribers"]
        churn = ended / at_start if at_start else None
        average = recurring["mrr"] / payers if payers else None
        return {
            "month": month.name,
            "mrr": recurring["mrr"],
            "subscribers": payers,
            "churn": churn,
            "average_revenue_per_subscriber": None if average is None else round(average),
            "lifetime_value": round(average / churn) if average is not None and churn else None,
            "revenue": revenue,
            "users": _count(session, select(func.count()).select_from(User).where(User.erased_at.is_(None))),
            "organizations": _count(session, select(func.count()).select_from(Org)),
            "active_users": _active_users(session, month),
            "requests": _requests(session, month),
            "uploads": _between(session, ListingVersion.created_at, month),
            "sales": _sales(session, month),
            "model_calls": _between(session, ModelCall.at, month),
            "creators": _count(session, select(func.count()).select_from(Creator)),
            "listings": dict(_by_status(session)),
        }


def as_csv(figures: dict[str, Any]) -> str:
    """The figures as two columns; nested ones are named with a dot."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("figure", "value"))
    for name, value in figures.items():
        inner = value.items() if isinstance(value, dict) else ((None, value),)
        for part, single in inner:
            writer.writerow((name if part is None else f"{name}.{part}", "" if single is None else single))
    return out.getvalue()


def storage_costs(session: Session, rates: Rates) -> list[dict[str, Any]]:
    """What keeping every package costs per month, dearest first, in micro-USD."""
    query = select(Listing.id, Listing.name, func.sum(ListingVersion.package_bytes)).join(
        ListingVersion, ListingVersion.listing_id == Listing.id
    )
    rows = session.execute(query.group_by(Listing.id, Listing.name))
    priced = [
        {"listing": name, "name": title, "bytes": int(size or 0), "cost": _monthly(int(size or 0), rates)}
        for name, title, size in rows
        if size
    ]
    return sorted(priced, key=lambda row: -int(row["bytes"]))


def _monthly(size: int, rates: Rates) -> int:
    return round(size / GB * rates.storage_gb_month_usd * 1_000_000)


def _mrr(service: Service, session: Session, month: finance.Month) -> dict[str, int]:
    """Monthly recurring revenue: prices of living plan subscriptions, and our share of living listing subscriptions."""
    plans = list(session.scalars(select(Subscription.plan).where(Subscription.status != "canceled")))
    total = sum(service.plans.by_name[plan].price_micros for plan in plans if plan in service.plans.by_name)
    query = select(Purchase.amount, Purchase.fee_bps).where(Purchase.renews, Purchase.status == "completed")
    total += sum(amount * bps // 10_000 for amount, bps in session.execute(query))
    return {"mrr": total, "subscribers": len(plans)}


def _churn(session: Session, month: finance.Month) -> tuple[int, int]:
    """Subscriptions alive when the month began, and those of them that ended in it."""
    began = list(session.scalars(select(Subscription).where(Subscription.period_start < month.end)))
    ended = [row for row in began if row.status == "canceled" and month.start <= row.period_end < month.end]
    alive = [row for row in began if row.status != "canceled" or row.period_end >= month.start]
    return len(alive), len(ended)


def _active_users(session: Session, month: finance.Month) -> int:
    query = select(func.count(func.distinct(LoginSession.user_id))).where(
        LoginSession.last_seen_at >= month.start, LoginSession.last_seen_at < month.end
    )
    return _count(session, query)


def _requests(session: Session, month: finance.Month) -> int:
    last = month.end - timedelta(days=1)
    query = select(func.coalesce(func.sum(UsageDay.requests), 0)).where(
        UsageDay.day >= f"{month.start:%Y-%m-%d}", UsageDay.day <= f"{last:%Y-%m-%d}"
    )
    return _count(session, query)


def _sales(session: Session, month: finance.Month) -> dict[str, int]:
    query = select(func.count(), func.coalesce(func.sum(SaleRecord.amount), 0)).where(
        SaleRecord.paid_at >= month.start, SaleRecord.paid_at < month.end, SaleRecord.status != "refunded"
    )
    count, amount = session.execute(query).one()
    return {"count": int(count), "amount": int(amount)}


def _between(session: Session, column: Any, month: finance.Month) -> int:
    return _count(session, select(func.count()).where(column >= month.start, column < month.end))


def _by_status(session: Session) -> list[tuple[str, int]]:
    query = select(Listing.status, func.count()).group_by(Listing.status).order_by(Listing.status)
    return [(status, int(count)) for status, count in session.execute(query)]


def _count(session: Session, query: Any) -> int:
    return int(session.scalar(query) or 0)
