"""Reports for those who run the service: computed from the ledger and `plans.toml`, never from remembered totals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.errors import Unprocessable
from agentcache_service.identity.tables import Org
from agentcache_service.usage.tables import UsageCounter

from . import accounts, ledger
from .billing_tables import Invoice
from .subscription_rules import add_month
from .tables import LedgerPosting, LedgerTransaction

if TYPE_CHECKING:
    from agentcache_service.service import Service

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])\Z")
GB = 1 << 30
MB = 1 << 20
MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC, end exclusive."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """The month as `2026-11`."""
        return f"{self.start:%Y-%m}"


@dataclass(frozen=True, slots=True)
class UsageSums:
    """What a customer used in a period: bytes held now, bytes moved and requests made in it."""

    hot_bytes: int = 0
    asset_bytes: int = 0
    bandwidth_bytes: int = 0
    requests: int = 0


def month_of(text: str | None, now: datetime) -> Month:
    """The month a text such as `2026-11` names, or the one `now` lies in."""
    if text is None:
        start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return Month(start, add_month(start))
    found = _MONTH.match(text)
    if found is None:
        raise Unprocessable("A month is written like 2026-11.")
    start = datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)
    return Month(start, add_month(start))


def monthly_report(service: Service, month: Month) -> dict[str, Any]:
    """Month, active customers, revenue, cost, gross profit and average margin, with what they are made of."""
    with service.db.read() as session:
        records = [_record(service, session, org, month) for org in session.scalars(select(Org))]
        revenue = revenue_lines(session, month)
        cost_of_disputes = sum(_sums(session, accounts.EXPENSE_DISPUTES, month).values())
    active = [record for record in records if record["charged_to_user"] or record["used"]]
    earned = sum(revenue.values())
    cost = sum(record["internal_cost"]["total"] for record in active) + cost_of_disputes
    margins = [record["margin"] for record in active if record["margin"] is not None]
    return {
        "month": month.name,
        "active_customers": len(active),
        "revenue": earned,
        "revenue_by_source": revenue,
        "cost": cost,
        "gross_profit": earned - cost,
        "average_margin": sum(margins) / len(margins) if margins else None,
        "unit": "micro-USD",
        "source": "ledger postings of the month; costs from plans.toml unit_costs and metered usage",
    }


def billing_records(service: Service, month: Month) -> Iterator[dict[str, Any]]:
    """The internal billing record of every customer for a month; their sums are the revenue pool."""
    with service.db.read() as session:
        records = [_record(service, session, org, month) for org in session.scalars(select(Org).order_by(Org.id))]
    for record in records:
        record.pop("used")
        yield record


def revenue_pool(records: list[dict[str, Any]]) -> dict[str, int]:
    """What all customers were charged and cost in a period, and what is left, in micro-USD."""
    charged = sum(record["charged_to_user"] for record in records)
    cost = sum(record["internal_cost"]["total"] for record in records)
    return {"customers": len(records), "charged": charged, "cost": cost, "pool": charged - cost}


def revenue_lines(session: Session, month: Month) -> dict[str, int]:
    """Revenue of a month by source, refunds taken off, in micro-USD."""
    sums: dict[str, int] = {"plans": 0, "commission": 0, "affiliate": 0}
    for account, amount in _sums(session, "revenue:", month).items():
        sums[account.removeprefix("revenue:")] = -amount
    return sums


def usage_sums(session: Session, org_id: str, month: Month) -> UsageSums:
    """What an organization's counters say for a month; bytes held are those held now."""
    query = select(UsageCounter.metric, UsageCounter.used).where(
        UsageCounter.org_id == org_id, UsageCounter.period.in_((month.name, "stock"))
    )
    known = set(UsageSums.__dataclass_fields__)
    return UsageSums(**{metric: used for metric, used in session.execute(query) if metric in known})


def unit_cost_micros(unit_costs: Mapping[str, float], used: UsageSums) -> dict[str, int]:
    """What serving a customer cost, by part, in micro-USD: storage, bandwidth, calls and overhead."""
    storage = used.hot_bytes / MB * unit_costs["redis_mb_month_usd"]
    storage += used.asset_bytes / GB * unit_costs["asset_gb_month_usd"]
    bandwidth = used.bandwidth_bytes / GB * unit_costs["bandwidth_gb_usd"]
    calls = used.requests / 1_000_000 * unit_costs["api_million_calls_usd"]
    overhead = unit_costs["overhead_customer_month_usd"]
    parts = {"storage": storage, "bandwidth": bandwidth, "api_calls": calls, "overhead": overhead}
    rounded = {name: round(value * MICROS) for name, value in parts.items()}
    return {**rounded, "total": sum(rounded.values())}


def _record(service: Service, session: Session, org: Org, month: Month) -> dict[str, Any]:
    used = usage_sums(session, org.id, month)
    cost = unit_cost_micros(service.plans.unit_costs, used)
    charged = _charged(session, org.id, month)
    plan = service.plans.current(org.plan, org.trial_ends_at, month.start)
    limits = plan.limits
    return {
        "source_platform": "agentcache",
        "user_id": org.id,
        "period": month.name,
        "jettythunder_allocation": {
            "storage_gb": _gb(limits["asset_bytes"]),
            "bandwidth_gb": _gb(limits["bandwidth_bytes"]),
            "requests": limits["requests"],
        },
        "internal_cost": cost,
        "charged_to_user": charged,
        "margin": (charged - cost["total"]) / charged if charged else None,
        "used": any((used.hot_bytes, used.asset_bytes, used.bandwidth_bytes, used.requests)),
    }


def _charged(session: Session, org_id: str, month: Month) -> int:
    """What an organization paid for its plan in a month, refunds taken off, read from the ledger by its invoices."""
    query = (
        select(LedgerPosting.amount)
        .join(LedgerTransaction)
        .join(Invoice, Invoice.id == LedgerTransaction.source_id)
        .where(
            Invoice.party == org_id,
            Invoice.kind == "plan",
            LedgerTransaction.source.in_(("plan_payment", "plan_refund")),
            LedgerTransaction.at >= month.start,
            LedgerTransaction.at < month.end,
            LedgerPosting.account == accounts.REVENUE_PLANS,
        )
    )
    return -sum(session.scalars(query))


def _sums(session: Session, prefix: str, month: Month) -> dict[str, int]:
    found: dict[str, int] = {}
    for (account, _kind), amount in ledger.turnover(session, prefix, start=month.start, end=month.end).items():
        found[account] = found.get(account, 0) + amount
    return found


def _gb(limit: int | None) -> float | None:
    return None if limit is None else limit / GB
