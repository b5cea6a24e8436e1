"""What a creator earns and how their listings are used: revenue from the ledger, the rest from calls and downloads."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.money import accounts, ledger
from agentcache_service.money.payouts import payable
from agentcache_service.money.postings import split

from . import listings, search
from .tables import Download, ModelCall, Purchase, SaleRecord

DAYS = 30


def overview(session: Session, org_id: str, now: datetime) -> dict[str, Any]:
    """Everything of the creator page; money in micro-USD."""
    since = (now - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = listings.of_creator(session, org_id)
    ids = [row.id for row in rows]
    revenue = _revenue_by_listing(session, org_id)
    entries = ledger.statement(session, accounts.creator(org_id), limit=10_000)
    earned = -sum(amount for entry, amount in entries if entry.kind in {"sale", "refund", "dispute"})
    return {
        "revenue": earned,
        "payable": payable(session, "creator", org_id),
        "sales": sum(row.sales for row in rows),
        "calls": _calls(session, ids),
        "downloads": sum(row.downloads for row in rows),
        "listings": [
            {
                "id": row.id,
                "name": row.name,
                "kind": row.kind,
                "status": row.status,
                "sales": row.sales,
                "calls": row.calls,
                "downloads": row.downloads,
                "revenue": revenue.get(row.id, 0),
                "rating": search.rating(row),
                "ratings": row.rating_count,
                "latency_ms": search.latency_ms(row),
                "uptime": search.uptime(row),
            }
            for row in rows
        ],
        "days": _days(session, org_id, ids, since=since, now=now),
        "recent": [
            {"at": entry.at.isoformat(), "kind": entry.kind, "amount": -amount} for entry, amount in entries[:20]
        ],
    }


def _revenue_by_listing(session: Session, org_id: str) -> dict[str, int]:
    """The creator's part of every listing's paid sales."""
    query = (
        select(Purchase.listing_id, SaleRecord.amount, SaleRecord.fee_bps)
        .join(SaleRecord, SaleRecord.purchase_id == Purchase.id)
        .where(Purchase.creator_org_id == org_id, SaleRecord.status.in_(("paid", "disputed")))
    )
    sums: dict[str, int] = defaultdict(int)
    for listing_id, amount, bps in session.execute(query):
        sums[listing_id] += split(amount, bps)[1]
    return sums


def _calls(session: Session, ids: list[str]) -> dict[str, int]:
    query = select(
        func.count(),
        func.coalesce(func.sum(ModelCall.cost), 0),
        func.coalesce(func.sum(ModelCall.input_tokens), 0),
        func.coalesce(func.sum(ModelCall.output_tokens), 0),
    ).where(ModelCall.listing_id.in_(ids))
    count, cost, input_tokens, output_tokens = session.execute(query).one()
    cached = session.scalar(
        select(func.count()).select_from(ModelCall).where(ModelCall.listing_id.in_(ids), ModelCall.cached)
    )
    return {
        "total": int(count),
        "cached": int(cached or 0),
        "metered": int(cost),
        "input_tokens": int(input_tokens),
        "output_tokens": int(output_tokens),
    }


def _days(session: Session, org_id: str, ids: list[str], *, since: datetime, now: datetime) -> list[dict[str, Any]]:
    """Per day: revenue (refunds taken off), calls and downloads."""
    days = {(since + timedelta(days=n)).date().isoformat(): [0, 0, 0] for n in range((now - since).days + 1)}
    for entry, amount in ledger.statement(session, accounts.creator(org_id), limit=10_000):
        day = entry.at.date().isoformat()
        if day in days and entry.kind in {"sale", "refund", "dispute"}:
            days[day][0] -= amount
    for position, table in ((1, ModelCall), (2, Download)):
        query = select(func.date(table.at), func.count()).where(table.listing_id.in_(ids), table.at >= since)
        for day, count in session.execute(query.group_by(func.date(table.at))):
            if str(day) in days:
                days[str(day)][position] += int(count)
    return [{"day": day, "revenue": r, "calls": c, "downloads": d} for day, (r, c, d) in days.items()]
