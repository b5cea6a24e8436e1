"""Payouts: what creators and referrers are owed, sent to them once, with failures owed again."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.errors import Conflict, Unprocessable
from agentcache_service.orm import new_id

from . import accounts, entries, ledger
from .billing_tables import BillingAccount, Payout
from .entries import Payee
from .gateway import PaymentGateway
from .postings import MICROS_PER_CENT, cents, dollars


def payable(session: Session, payee: Payee, org_id: str) -> int:
    """What an organization is owed now, in micro-USD; negative after refunds that followed a payout."""
    account = accounts.creator(org_id) if payee == "creator" else accounts.affiliate(org_id)
    return -ledger.balance(session, account)


def request_payout(session: Session, payee: Payee, *, org_id: str, minimum: int, gateway: str, now: datetime) -> Payout:
    """Set aside everything owed, in whole cents, for one payout; the caller then has `send` move it."""
    account = session.get(BillingAccount, org_id, with_for_update=True)  # one request at a time reads what is owed
    if account is None or account.payee_ref is None:
        raise Conflict("Set up where to be paid first.", code="payout_method_missing")
    owed = payable(session, payee, org_id) // MICROS_PER_CENT * MICROS_PER_CENT
    if owed < minimum or owed <= 0:
        raise Unprocessable(
            f"{dollars(max(owed, 0))} is below the smallest payout of {dollars(minimum)}.", code="below_minimum"
        )
    row = Payout(
        id=new_id("out"), org_id=org_id, payee=payee, amount=owed, status="pending", gateway=gateway, requested_at=now
    )
    session.add(row)
    session.flush()
    ledger.post(session, entries.payout_started(row.id, payee, org_id=org_id, amount=owed, at=now))
    return row


def send(database: Database, gateway: PaymentGateway, clock: Clock, payout_id: str) -> str:
    """Ask the gateway to pay a pending payout and write the outcome; its status. Repeating it sends nothing twice."""
    with database.read() as session:
        row = session.get_one(Payout, payout_id)
        account = session.get_one(BillingAccount, row.org_id)
    if row.status != "pending":
        return row.status
    assert account.payee_ref is not None
    sent = gateway.pay_out(account.payee_ref, cents(row.amount), idempotency_key=row.id)
    with database.write() as session:
        row = session.get_one(Payout, payout_id, with_for_update=True)
        row.transfer_id = sent.id
        if sent.status != "pending":
            _finish(session, row, paid=sent.status == "paid", failure=sent.failure, now=clock.now())
        return row.status


def settle_payout(session: Session, transfer_id: str, *, paid: bool, now: datetime) -> bool:
    """Apply a gateway's later word about a transfer; False when it is not one of ours or was settled before."""
    row = session.scalars(select(Payout).where(Payout.transfer_id == transfer_id)).one_or_none()
    if row is None or row.status != "pending":
        return False
    _finish(session, row, paid=paid, failure=None if paid else "payout_failed", now=now)
    return True


def _finish(session: Session, row: Payout, *, paid: bool, failure: str | None, now: datetime) -> None:
    if row.status != "pending":
        return
    row.status, row.failure, row.finished_at = ("paid" if paid else "failed"), failure, now
    if paid:
        ledger.post(session, entries.payout_paid(row.id, row.amount, gateway=row.gateway, at=now))
        return
    payee = cast("Payee", row.payee)
    ledger.post(session, entries.payout_failed(row.id, payee, org_id=row.org_id, amount=row.amount, at=now))
