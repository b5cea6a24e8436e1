"""Purchases: asking for the money, opening access, renewing, ending; and the buyer's view of what they have."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, NotFound, Unprocessable
from agentcache_service.identity import orgs
from agentcache_service.money.billing_tables import BillingAccount
from agentcache_service.money.payments import PaymentRequired
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import listings, sales
from .tables import Listing, Purchase, SaleRecord


def buy(service: Service, principal: Principal, listing_id: str, *, expected_price: int | None = None) -> Purchase:
    """Buy a listing: charged and open when this returns; `PaymentRequired` when the card is refused."""
    now = service.clock.now()
    with service.db.write() as session:
        orgs.lock(session, principal.tenant)  # two clicks must not both find that nothing was bought yet
        row = listings.visible(session, listing_id)
        if expected_price is not None and expected_price != row.price:
            raise Conflict("The price has changed meanwhile; look again.", code="price_changed")
        _check_may_buy(service, session, principal, row)
        purchase = Purchase(
            id=new_id("pur"),
            listing_id=row.id,
            org_id=principal.tenant,
            user_id=principal.user,
            creator_org_id=row.org_id,
            kind=row.kind,
            pricing=row.pricing,
            amount=row.price,
            currency="usd",
            price_per_call=row.price_per_call,
            price_per_1k_tokens=row.price_per_1k_tokens,
            fee_bps=service.market.rates.bps(row.category),
            status="pending",
            renews=False,
            period=0,
            cache_calls=True,
            created_at=now,
        )
        session.add(purchase)
        session.flush()
        attempt = None
        if row.price:
            attempt = begin_sale(service, session, purchase, kind="first", serial=0, amount=row.price, what=row.name)
            purchase.payment_intent = attempt
        else:
            sales.complete(session, purchase, now)
        audit.record(session, service.clock, principal=principal, action="market.purchase", target=purchase.id)
        name = purchase.id
    if attempt is not None:
        outcome = service.money.payments.run(attempt)
        if outcome.status != "succeeded":
            raise PaymentRequired(_refused(outcome.failure), extra={"purchase": name, "reason": outcome.failure})
    with service.db.read() as session:
        return session.get_one(Purchase, name)


def begin_sale(
    service: Service, session: Session, purchase: Purchase, *, kind: str, serial: int, amount: int, what: str
) -> str:
    """Write a charge of a purchase and the attempt to take it; the attempt's id, to be run after the commit."""
    sale = SaleRecord(
        id=new_id("sal"),
        purchase_id=purchase.id,
        kind=kind,
        serial=serial,
        amount=amount,
        fee_bps=purchase.fee_bps,
        status="pending",
        created_at=service.clock.now(),
    )
    session.add(sale)
    session.flush()
    attempt = service.money.payments.begin(
        session,
        org_id=purchase.org_id,
        purpose=sales.PURPOSE,
        subject_id=sale.id,
        amount=amount,
        description=f"AgentCache Market: {what}",
    )
    return attempt.id


def own(session: Session, org_id: str, purchase_id: str) -> Purchase:
    """A purchase of this organization, or `NotFound`."""
    row = session.get(Purchase, purchase_id)
    if row is None or row.org_id != org_id:
        raise NotFound("There is no such purchase.")
    return row


def of_buyer(session: Session, org_id: str) -> list[tuple[Purchase, Listing]]:
    """An organization's purchases with their listings, newest first."""
    query = (
        select(Purchase, Listing)
        .join(Listing, Listing.id == Purchase.listing_id)
        .where(Purchase.org_id == org_id)
        .order_by(Purchase.created_at.desc())
    )
    return [(purchase, row) for purchase, row in session.execute(query)]


def cancel(service: Service, session: Session, principal: Principal, purchase_id: str) -> Purchase:
    """Stop a subscription from renewing; what is paid for stays until its end."""
    row = own(session, principal.tenant, purchase_id)
    if row.status != "completed" or not row.renews:
        raise Conflict("This purchase does not renew.")
    row.renews = False
    audit.record(session, service.clock, principal=principal, action="market.purchase.cancel", target=row.id)
    return row


def renew_due(service: Service, *, limit: int = 200) -> int:
    """Charge every subscription whose paid time is over; how many were charged."""
    now = service.clock.now()
    query = (
        select(Purchase.id)
        .where(Purchase.renews, Purchase.status == "completed", Purchase.access_until <= now)
        .limit(limit)
    )
    with service.db.read() as session:
        due = list(session.scalars(query))
    return sum(_renew(service, name) for name in due)


def _renew(service: Service, purchase_id: str) -> bool:
    with service.db.write() as session:
        purchase = session.get_one(Purchase, purchase_id)
        row = session.get_one(Listing, purchase.listing_id)
        if row.status == "suspended":
            purchase.renews = False
            return False
        serial = purchase.period + 1
        present = (
            select(func.count())
            .select_from(SaleRecord)
            .where(SaleRecord.purchase_id == purchase.id, SaleRecord.kind == "renewal", SaleRecord.serial == serial)
        )
        if session.scalar(present):
            return False
        attempt = begin_sale(
            service, session, purchase, kind="renewal", serial=serial, amount=purchase.amount, what=row.name
        )
    service.money.payments.run(attempt)
    return True


def _check_may_buy(service: Service, session: Session, principal: Principal, row: Listing) -> None:
    if row.status != "active":
        raise NotFound("There is no such listing.")
    if row.org_id == principal.tenant:
        raise Conflict("This is your own listing.", code="own_listing")
    now = service.clock.now()
    query = select(Purchase).where(
        Purchase.listing_id == row.id,
        Purchase.org_id == principal.tenant,
        Purchase.status.in_(("pending", "completed")),
    )
    for purchase in session.scalars(query):
        if purchase.status == "pending":
            raise Conflict("A purchase of this is under way.", code="purchase_pending")
        if sales.has_access(purchase, now):
            raise Conflict("You have bought this already.", code="already_bought", extra={"purchase": purchase.id})
    if row.pricing == "usage_based":
        account = session.get(BillingAccount, principal.tenant)
        if account is None or account.card_last4 is None:
            raise PaymentRequired(
                "Usage is charged to a card: add one on the billing page.", extra={"reason": "no_card"}
            )
    if row.price < 0:
        raise Unprocessable("This listing has no valid price.")


def _refused(failure: str | None) -> str:
    if failure == "no_card":
        return "No card is stored. Add one on the billing page."
    return f"The card was refused ({(failure or 'declined').replace('_', ' ')})."
