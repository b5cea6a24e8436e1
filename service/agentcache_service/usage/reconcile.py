"""Recounting: counters against what is stored and what was counted day by day; every difference explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.identity.tables import Org
from agentcache_service.usage import figures, quota, stock
from agentcache_service.usage.tables import Reservation, StoredItem

if TYPE_CHECKING:
    from agentcache_service.service import Service


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that does not say what a recount says, and why. `org_id` and `metric` name it."""

    org_id: str
    metric: str
    counter: int
    recount: int
    reason: str


def run(service: Service, *, mend: bool = False) -> list[Difference]:
    """Recount every organization; with `mend`, set counters right and forget items that storage has no more."""
    service.meter.flush(everything=True)
    stock.sweep_expired(service)
    found: list[Difference] = []
    with service.db.read() as session:
        org_ids = session.scalars(select(Org.id)).all()
    for org_id in org_ids:
        found.extend(_lost_items(service, org_id, mend=mend))
        with service.db.write() as session:
            quota.sweep(service, session)
            found.extend(_stock_differences(session, org_id, mend=mend))
            found.extend(_request_differences(service, session, org_id, mend=mend))
    return found


def _lost_items(service: Service, org_id: str, *, mend: bool) -> list[Difference]:
    """Items charged for that storage has no more: evicted, expired early, or removed behind our back."""
    with service.db.read() as session:
        rows = session.execute(
            select(
                StoredItem.namespace, StoredItem.name, StoredItem.bytes, StoredItem.metric, StoredItem.expires_at
            ).where(StoredItem.org_id == org_id, StoredItem.metric == "hot_bytes")
        ).all()
    gone = [row for row in rows if not row.name.startswith("h:") and not service.engine.has(bytes.fromhex(row.name))]
    now = service.clock.now()  # what has expired since this began is not lost, and swept by the next minute's job
    lost = [row for row in gone if row.expires_at is None or row.expires_at > now]
    if mend and lost:
        with service.db.write() as session:
            stock.remove(session, org_id, [(row.namespace, row.name) for row in lost])
    return [
        Difference(org_id, row.metric, row.bytes, 0, f"{row.namespace}: an entry storage no longer has (evicted)")
        for row in lost
    ]


def _stock_differences(session: Session, org_id: str, *, mend: bool) -> list[Difference]:
    found = []
    for metric in ("hot_bytes", "asset_bytes"):
        counter = quota.used(session, org_id, metric, quota.STOCK) or 0
        held = session.scalar(
            select(func.coalesce(func.sum(Reservation.amount), 0)).where(
                Reservation.org_id == org_id, Reservation.metric == metric
            )
        )
        expected = stock.recount(session, org_id, metric) + int(held or 0)
        if counter != expected:
            reason = "the counter and the sum of what is stored (and held for writes under way) differ"
            found.append(Difference(org_id, metric, counter, expected, reason))
            if mend:
                quota.correct(session, org_id, metric, quota.STOCK, to=expected)
    return found


def _request_differences(service: Service, session: Session, org_id: str, *, mend: bool) -> list[Difference]:
    now = service.clock.now()
    period = quota.period_of("requests", now)
    found = []
    sums = figures.sum_days(session, org_id, since=f"{period}-01")[""]
    for metric, counted in (("requests", sums["requests"]), ("bandwidth_bytes", sums["bytes_out"])):
        counter = quota.used(session, org_id, metric, period) or 0
        if counter != counted:
            reason = (
                "taken ahead by a process that was killed, or by one that runs now"
                if counter > counted
                else "figures were written and their admission was not"
            )
            found.append(Difference(org_id, metric, counter, counted, reason))
            if mend:
                quota.correct(session, org_id, metric, period, to=counted)
    return found
