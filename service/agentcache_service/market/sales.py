"""Sales: what the outcome of a charge does to a purchase, its access and the ledger."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from agentcache_service.money import entries, ledger
from agentcache_service.money.billing_tables import PaymentAttempt
from agentcache_service.money.entries import Sale
from agentcache_service.money.subscription_rules import add_month

from .listing_rules import purchase_after
from .tables import AccessKey, Listing, ModelCall, Purchase, SaleRecord

PURPOSE = "sale"


class SalePayments:
    """The effects of a sale's payment; `dispute_fee` in micro-USD is booked when a dispute is lost."""

    def __init__(self, dispute_fee: int) -> None:
        self._dispute_fee = dispute_fee

    def paid(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """Book the sale and open, prolong or reopen access, in one transaction."""
        sale = session.get_one(SaleRecord, attempt.subject_id)
        purchase = session.get_one(Purchase, sale.purchase_id)
        sale.status, sale.paid_at = "paid", now
        ledger.post(session, entries.sale(as_sale(sale, purchase, attempt.gateway), now))
        if sale.kind == "first":
            complete(session, purchase, now)
        elif sale.kind == "renewal":
            start = purchase.access_until if purchase.access_until and purchase.access_until > now else now
            purchase.access_until, purchase.period = add_month(start), sale.serial
        elif purchase.ended_at is None:
            purchase.access_until = None

    def failed(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """A first charge fails the purchase; a later one stops access until it is paid."""
        sale = session.get_one(SaleRecord, attempt.subject_id)
        purchase = session.get_one(Purchase, sale.purchase_id)
        sale.status = "failed"
        if sale.kind == "first":
            purchase.status = purchase_after("pending", "failed")
        elif sale.kind == "renewal":
            purchase.renews, purchase.ended_at = False, now
        else:
            purchase.access_until = now
            session.execute(update(ModelCall).where(ModelCall.sale_id == sale.id).values(sale_id=None))

    def refunded(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """Reverse the sale in the ledger and revoke what it gave."""
        sale = session.get_one(SaleRecord, attempt.subject_id)
        purchase = session.get_one(Purchase, sale.purchase_id)
        item = as_sale(sale, purchase, attempt.gateway)
        ledger.post(session, entries.refund(item, now))
        ledger.post(session, entries.refund_settled(item, now))
        sale.status = "refunded"
        revoke(session, purchase, now)

    def disputed(self, session: Session, attempt: PaymentAttempt, now: datetime, *, outcome: str) -> None:
        """Hold the money and the access while a dispute is open; give back or take away when it is decided."""
        sale = session.get_one(SaleRecord, attempt.subject_id)
        purchase = session.get_one(Purchase, sale.purchase_id)
        item = as_sale(sale, purchase, attempt.gateway)
        ledger.post(session, entries.dispute_opened(item, now))
        if outcome == "won":
            ledger.post(session, entries.dispute_won(item, now))
            sale.status = "paid"
        elif outcome == "lost":
            ledger.post(session, entries.dispute_lost(item, now, self._dispute_fee))
            sale.status, attempt.status = "refunded", "refunded"
            revoke(session, purchase, now)
        elif sale.status == "paid":
            sale.status = "disputed"


def as_sale(sale: SaleRecord, purchase: Purchase, gateway: str) -> Sale:
    """A sale's row as the ledger's noun."""
    return Sale(sale.id, purchase.creator_org_id, sale.amount, sale.fee_bps, gateway, purchase.currency)


def complete(session: Session, purchase: Purchase, now: datetime) -> None:
    """Open access: at once, because the buyer is looking."""
    purchase.status = purchase_after("pending", "completed")
    purchase.completed_at = now
    if purchase.pricing == "subscription":
        purchase.access_until, purchase.renews = add_month(now), True
    elif purchase.kind == "agent":
        purchase.transferred_at = now
    session.execute(update(Listing).where(Listing.id == purchase.listing_id).values(sales=Listing.sales + 1))


def revoke(session: Session, purchase: Purchase, now: datetime) -> None:
    """Close access for good: keys off, no renewal, no download."""
    if purchase.status == "completed":
        session.execute(update(Listing).where(Listing.id == purchase.listing_id).values(sales=Listing.sales - 1))
    purchase.status = purchase_after("completed", "refunded")
    purchase.access_until, purchase.renews, purchase.ended_at = now, False, now
    session.execute(update(AccessKey).where(AccessKey.purchase_id == purchase.id).values(active=False))


def has_access(purchase: Purchase, now: datetime) -> bool:
    """True while a purchase gives what was bought."""
    return purchase.status == "completed" and (purchase.access_until is None or purchase.access_until > now)
