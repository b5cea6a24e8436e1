"""Usage turned into charges: metered calls, charged when enough has come together or a month is over."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agentcache_service.money.postings import MICROS_PER_CENT
from agentcache_service.service import Service

from .purchases import begin_sale
from .tables import Listing, ModelCall, Purchase, SaleRecord

LONGEST = timedelta(days=30)
RETRY_AFTER = timedelta(days=1)


def settle_due(service: Service) -> int:
    """Charge every purchase whose unpaid usage is due; how many were charged.

    Whole cents are charged; the part of a cent that is left over is the buyer's.
    """
    now = service.clock.now()
    query = (
        select(ModelCall.purchase_id, func.sum(ModelCall.cost), func.min(ModelCall.at))
        .where(ModelCall.sale_id.is_(None), ModelCall.cost > 0)
        .group_by(ModelCall.purchase_id)
    )
    with service.db.read() as session:
        owed = [(name, int(total), oldest) for name, total, oldest in session.execute(query)]
    due = [
        name
        for name, total, oldest in owed
        if total >= MICROS_PER_CENT and (total >= service.market.rates.usage_settle or now - oldest >= LONGEST)
    ]
    with service.db.read() as session:
        refused = select(SaleRecord.purchase_id).where(
            SaleRecord.kind == "usage", SaleRecord.status == "failed", SaleRecord.created_at > now - RETRY_AFTER
        )
        waiting = set(session.scalars(refused))
    return sum(charge(service, name) for name in due if name not in waiting)


def charge(service: Service, purchase_id: str) -> bool:
    """Charge one purchase's unpaid usage now; False when there is less than a cent of it."""
    with service.db.write() as session:
        purchase = session.get_one(Purchase, purchase_id, with_for_update=True)
        unpaid = (ModelCall.purchase_id == purchase_id, ModelCall.sale_id.is_(None), ModelCall.cost > 0)
        total = int(session.scalar(select(func.coalesce(func.sum(ModelCall.cost), 0)).where(*unpaid)) or 0)
        amount = total // MICROS_PER_CENT * MICROS_PER_CENT
        if amount == 0:
            return False
        serial = session.scalar(
            select(func.count())
            .select_from(SaleRecord)
            .where(SaleRecord.purchase_id == purchase_id, SaleRecord.kind == "usage")
        )
        row = session.get_one(Listing, purchase.listing_id)
        attempt = begin_sale(
            service, session, purchase, kind="usage", serial=serial or 0, amount=amount, what=f"usage of {row.name}"
        )
        sale = session.scalars(
            select(SaleRecord).where(
                SaleRecord.purchase_id == purchase_id, SaleRecord.kind == "usage", SaleRecord.serial == (serial or 0)
            )
        ).one()
        session.execute(update(ModelCall).where(*unpaid).values(sale_id=sale.id))
    service.money.payments.run(attempt)
    return True


def unpaid_usage(service: Service, purchase_id: str) -> int:
    """What a purchase's calls cost that were not charged yet, in micro-USD."""
    with service.db.read() as session:
        return _uncharged(session, purchase_id)


def unpaid(session: Session, purchase_id: str) -> int:
    """The whole cents a purchase's calls cost that were not charged yet, in micro-USD."""
    return _uncharged(session, purchase_id) // MICROS_PER_CENT * MICROS_PER_CENT


def _uncharged(session: Session, purchase_id: str) -> int:
    query = select(func.coalesce(func.sum(ModelCall.cost), 0)).where(
        ModelCall.purchase_id == purchase_id, ModelCall.sale_id.is_(None)
    )
    return int(session.scalar(query) or 0)
