"""The earnings page's figures: this month with its change, all time, top partner, events, chart, funnel."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.money.finance import month_of
from agentcache_service.money.payouts import payable

from .integration_tables import AffiliateAccount, Click, Commission, Referral

CHART_MONTHS = 6


def summary(session: Session, org_id: str, now: datetime) -> dict[str, Any]:
    """Everything of the earnings page; money in micro-USD, the referrer's share."""
    account = session.get(AffiliateAccount, org_id)
    rows = list(
        session.scalars(
            select(Commission)
            .where(Commission.org_id == org_id, Commission.state != "void")
            .order_by(Commission.earned_at)
        )
    )
    this_month = month_of(None, now)
    last_month = month_of(None, this_month.start - timedelta(days=1))
    now_earned = sum(row.share for row in rows if row.earned_at >= this_month.start)
    before = sum(row.share for row in rows if last_month.start <= row.earned_at < last_month.end)
    by_partner: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        by_partner[row.partner] += row.share
    top = max(by_partner.items(), key=lambda item: (item[1], item[0]), default=None)
    return {
        "opted_in": account is not None and account.opted_in_at is not None,
        "this_month": now_earned,
        "last_month": before,
        "change": (now_earned - before) / before if before > 0 else None,
        "all_time": sum(row.share for row in rows),
        "pending": sum(row.share for row in rows if row.state == "pending"),
        "payable": payable(session, "affiliate", org_id),
        "top_partner": {"partner": top[0], "earned": top[1]} if top and top[1] > 0 else None,
        "recent": [_event(row) for row in reversed(rows[-10:])],
        "chart": _chart(rows, now),
        "funnel": _funnel(session, org_id, rows),
    }


def _event(row: Commission) -> dict[str, Any]:
    return {
        "at": row.earned_at.isoformat(),
        "partner": row.partner,
        "kind": row.kind,
        "state": row.state,
        "share": row.share,
    }


def _chart(rows: list[Commission], now: datetime) -> list[dict[str, Any]]:
    """The referrer's share per month, oldest first, months without earnings included."""
    month = month_of(None, now)
    names = [month.name]
    for _ in range(CHART_MONTHS - 1):
        month = month_of(None, month.start - timedelta(days=1))
        names.insert(0, month.name)
    sums = dict.fromkeys(names, 0)
    for row in rows:
        name = f"{row.earned_at:%Y-%m}"
        if name in sums:
            sums[name] += row.share
    return [{"month": name, "earned": earned} for name, earned in sums.items()]


def _funnel(session: Session, org_id: str, rows: list[Commission]) -> dict[str, int]:
    clicks = session.scalar(select(func.count()).select_from(Click).where(Click.org_id == org_id)) or 0
    signups = session.scalar(select(func.count()).select_from(Referral).where(Referral.org_id == org_id)) or 0
    return {
        "clicks": clicks,
        "signups": signups,
        "conversions": len({row.referral_id for row in rows if row.amount > 0}),
    }
