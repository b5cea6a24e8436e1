"""Ending an organization's account with us: nothing may be under way, nothing owed is lost without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agentcache_service.errors import Conflict
from agentcache_service.jobs import enqueue

from . import payouts
from . import subscription_rules as rules
from .billing_tables import BillingAccount, Invoice, PaymentAttempt, Payout, Subscription
from .jobs import FORGET, RENAME
from .postings import dollars
from .subscriptions import store, terms_of

if TYPE_CHECKING:
    from agentcache_service.service import Service


def refuse_while_open(session: Session, org_id: str, *, on_hold: int, give_up_balance: bool) -> None:
    """Raise `Conflict` while a payment or payout is under way, or money is owed that nobody has given up.

    `on_hold` is what commissions not approved yet would earn, in micro-USD.
    """
    for table, what in ((PaymentAttempt, "payment"), (Payout, "payout")):
        pending = select(func.count()).select_from(table).where(table.org_id == org_id, table.status == "pending")
        if session.scalar(pending):
            raise Conflict(f"A {what} is under way; try again when it has ended.", code=f"{what}_pending")
    owed = max(0, payouts.payable(session, "creator", org_id)) + max(0, payouts.payable(session, "affiliate", org_id))
    if (owed or on_hold) and not give_up_balance:
        raise Conflict(
            f"We owe your organization {dollars(owed)}, and {dollars(on_hold)} of commissions wait for approval. "
            "Have it paid out first, or say that you give it up (give_up_balance).",
            code="balance_open",
            extra={"owed_micros": owed, "on_hold_micros": on_hold},
        )


def close(service: Service, session: Session, org_id: str) -> None:
    """End the subscription, void what is open, and have the gateway forget the customer and payee."""
    row = session.get(Subscription, org_id)
    if row is not None and row.status != "canceled":
        store(session, org_id, rules.ended(terms_of(row)))
    session.execute(
        update(Invoice)
        .where(Invoice.kind == "plan", Invoice.party == org_id, Invoice.status == "open")
        .values(status="void")
    )
    account = session.get(BillingAccount, org_id)
    if account is not None and (account.customer_ref or account.payee_ref):
        known = {"customer": account.customer_ref, "payee": account.payee_ref}
        enqueue(session, service.clock, FORGET, known)


def hand_over(service: Service, session: Session, org_id: str, *, leaving: str, to: str) -> None:
    """Put another admin's address in the place of one that leaves; `Conflict` where payouts are sent to it."""
    account = session.get(BillingAccount, org_id)
    if account is None:
        return
    if account.payee_email == leaving:
        raise Conflict(
            "Your organization's payouts are sent to your address: set another one first.", code="payout_address"
        )
    if account.email == leaving:
        account.email = to
        enqueue(session, service.clock, RENAME, {}, org_id=org_id)
