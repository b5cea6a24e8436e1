"""Quotas: the only code that changes counters. Admission is one statement, so it is exact under any concurrency.

`UPDATE … SET used = used + n WHERE used + n <= limit` either takes the whole amount or nothing. Reading first and
writing later admits too many (measured: 115 and 108 of 100). The owner of a quota is the organization.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from agentcache_service.errors import QuotaExceeded
from agentcache_service.orm import new_id
from agentcache_service.usage.tables import Reservation, UsageCounter

if TYPE_CHECKING:
    from agentcache_service.service import Service

STOCK = "stock"
RESERVATION_LIFE = timedelta(minutes=10)
STOCK_METRICS = ("hot_bytes", "asset_bytes")
_WORDS = {
    "requests": "Request limit exceeded. Used: {used} / {limit}",
    "hot_bytes": "Storage limit exceeded. Used: {used_gb:.3f}GB / {limit_gb:.3f}GB",
    "asset_bytes": "Storage limit exceeded. Used: {used_gb:.3f}GB / {limit_gb:.3f}GB",
    "bandwidth_bytes": "Bandwidth limit exceeded. Used: {used_gb:.3f}GB / {limit_gb:.3f}GB",
}
GB = 1 << 30
MB = 1 << 20


def period_of(metric: str, now: datetime) -> str:
    """The period a metric is counted in: the calendar month, or `stock` for what is held at one time."""
    return STOCK if metric in STOCK_METRICS else now.isoformat()[:7]


def _insert_counter(session: Session, org_id: str, metric: str, period: str) -> None:
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgres_insert
    values = {"org_id": org_id, "metric": metric, "period": period, "used": 0}
    session.execute(insert(UsageCounter).values(values).on_conflict_do_nothing())


def take(session: Session, org_id: str, metric: str, period: str, *, amount: int, limit: int | None) -> bool:
    """Add `amount` to a counter unless that would pass `limit` (None: no limit); True when it was added."""
    if amount < 0:
        raise ValueError("an amount to take is at least 0; use give_back for the other direction")
    for _ in range(2):
        statement = update(UsageCounter).where(
            UsageCounter.org_id == org_id, UsageCounter.metric == metric, UsageCounter.period == period
        )
        if limit is not None:
            statement = statement.where(UsageCounter.used + amount <= limit)
        changed = session.execute(
            statement.values(used=UsageCounter.used + amount).returning(UsageCounter.used),
            execution_options={"synchronize_session": False},
        ).first()
        if changed is not None:
            return True
        if used(session, org_id, metric, period, default=None) is not None:
            return False
        _insert_counter(session, org_id, metric, period)
    return False


def give_back(session: Session, org_id: str, metric: str, period: str, *, amount: int) -> None:
    """Subtract what was taken and not used, or what is stored no longer; never below zero."""
    if amount <= 0:
        return
    session.execute(
        update(UsageCounter)
        .where(UsageCounter.org_id == org_id, UsageCounter.metric == metric, UsageCounter.period == period)
        .values(used=case((UsageCounter.used >= amount, UsageCounter.used - amount), else_=0)),
        execution_options={"synchronize_session": False},
    )


def used(session: Session, org_id: str, metric: str, period: str, *, default: int | None = 0) -> int | None:
    """What a counter says now; `default` when nothing was ever counted."""
    found = session.scalar(
        select(UsageCounter.used).where(
            UsageCounter.org_id == org_id, UsageCounter.metric == metric, UsageCounter.period == period
        )
    )
    return default if found is None else found


def refusal(service: Service, *, metric: str, used: int, limit: int) -> QuotaExceeded:
    """The 402 of a metric, in the words of the contract."""
    message = _WORDS[metric].format(used=used, limit=limit, used_gb=used / GB, limit_gb=limit / GB)
    return QuotaExceeded(message, upgrade_url=f"{service.settings.public_url}/pricing")


@dataclass(frozen=True, slots=True)
class Hold:
    """An amount taken before the work it pays for. Exactly one of `commit` and `release` follows; else it is swept."""

    id: str
    org_id: str
    metric: str
    period: str
    amount: int


def reserve(service: Service, session: Session, org_id: str, metric: str, *, amount: int, limit: int | None) -> Hold:
    """Take an amount for a while; raises `QuotaExceeded` when it does not fit."""
    now = service.clock.now()
    period = period_of(metric, now)
    if not take(session, org_id, metric, period, amount=amount, limit=limit):
        assert limit is not None
        raise refusal(service, metric=metric, used=used(session, org_id, metric, period) or 0, limit=limit)
    hold = Hold(new_id("res"), org_id, metric, period, amount)
    session.add(
        Reservation(
            id=hold.id,
            org_id=org_id,
            metric=metric,
            period=period,
            amount=amount,
            expires_at=now + RESERVATION_LIFE,
        )
    )
    return hold


def commit(session: Session, hold: Hold, *, actual: int | None = None) -> bool:
    """Keep a held amount (or the smaller `actual` one); False when it was swept in the meantime."""
    if not _close(session, hold):
        return False
    if actual is not None and actual < hold.amount:
        give_back(session, hold.org_id, hold.metric, hold.period, amount=hold.amount - actual)
    return True


def release(session: Session, hold: Hold) -> bool:
    """Give a held amount back; False when it was swept in the meantime."""
    if not _close(session, hold):
        return False
    give_back(session, hold.org_id, hold.metric, hold.period, amount=hold.amount)
    return True


def _close(session: Session, hold: Hold) -> bool:
    closed = session.execute(delete(Reservation).where(Reservation.id == hold.id).returning(Reservation.id)).first()
    return closed is not None


def sweep(service: Service, session: Session) -> int:
    """Give back reservations whose holder never came back; how many there were."""
    expired = session.execute(
        delete(Reservation)
        .where(Reservation.expires_at < service.clock.now())
        .returning(Reservation.org_id, Reservation.metric, Reservation.period, Reservation.amount)
    ).all()
    for org_id, metric, period, amount in expired:
        give_back(session, org_id, metric, period, amount=amount)
    return len(expired)


def correct(session: Session, org_id: str, metric: str, period: str, *, to: int) -> None:
    """Set a counter to a recounted value: for `reconcile` only."""
    _insert_counter(session, org_id, metric, period)
    session.execute(
        update(UsageCounter)
        .where(UsageCounter.org_id == org_id, UsageCounter.metric == metric, UsageCounter.period == period)
        .values(used=to),
        execution_options={"synchronize_session": False},
    )
