"""Tables of billing: gateway customers, payment attempts, subscriptions, invoices, payouts, webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class BillingAccount(Base):
    """An organization as the gateway knows it: as somebody who pays, and as somebody who is paid."""

    __tablename__ = "billing_accounts"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    gateway: Mapped[str]
    email: Mapped[str]
    customer_ref: Mapped[str | None]
    card_brand: Mapped[str | None]
    card_last4: Mapped[str | None]
    payee_ref: Mapped[str | None]
    payee_email: Mapped[str | None]
    created_at: Mapped[datetime]


class PaymentAttempt(Base):
    """One request for money, written before the gateway is asked; its id is the idempotency key.

    `purpose` and `subject_id` say what it pays for; `status` is pending, succeeded, failed or refunded. At most one
    attempt per (purpose, subject_id, serial) exists.
    """

    __tablename__ = "payment_attempts"
    __table_args__ = (
        UniqueConstraint("purpose", "subject_id", "serial"),
        Index(None, "status", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(index=True)
    purpose: Mapped[str]
    subject_id: Mapped[str]
    serial: Mapped[int] = mapped_column(default=0)
    amount: Mapped[int]
    description: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    gateway: Mapped[str]
    charge_id: Mapped[str | None] = mapped_column(index=True)
    failure: Mapped[str | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Subscription(Base):
    """An organization's paid plan; the columns are those of `subscription_rules.Terms`."""

    __tablename__ = "billing_subscriptions"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    plan: Mapped[str]
    status: Mapped[str]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime] = mapped_column(index=True)
    cancel_at_end: Mapped[bool] = mapped_column(default=False)
    next_plan: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime | None]


class Invoice(Base):
    """A numbered invoice. `kind` is plan (to a customer) or partner (to a partner, for commissions owed to us).

    `lines` holds `{"text", "quantity", "amount"}` with amounts in micro-USD; `status` is open, paid or void.
    """

    __tablename__ = "invoices"
    __table_args__ = (UniqueConstraint("kind", "party", "period_start", "reference"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    party: Mapped[str] = mapped_column(index=True)
    party_name: Mapped[str]
    reference: Mapped[str] = mapped_column(default="")
    plan: Mapped[str | None]
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    total: Mapped[int]
    status: Mapped[str] = mapped_column(default="open")
    issued_at: Mapped[datetime]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    paid_at: Mapped[datetime | None]


class Payout(Base):
    """Money sent to an organization. `status` is pending, paid or failed; the id is the idempotency key."""

    __tablename__ = "payouts"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(index=True)
    payee: Mapped[str]
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(default="pending")
    gateway: Mapped[str]
    transfer_id: Mapped[str | None] = mapped_column(index=True)
    failure: Mapped[str | None]
    requested_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ReceivedEvent(Base):
    """A gateway's webhook, written in the transaction of its effect so that it has that effect once."""

    __tablename__ = "gateway_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    gateway: Mapped[str]
    kind: Mapped[str]
    object_id: Mapped[str]
    created: Mapped[datetime]
    received_at: Mapped[datetime]


class IdempotencyRecord(Base):
    """What a call under an `Idempotency-Key` asked and answered; `answer` is null while it is in progress."""

    __tablename__ = "idempotency_records"
    __table_args__ = (UniqueConstraint("org_id", "route", "key"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    route: Mapped[str]
    key: Mapped[str]
    asked: Mapped[str]
    status: Mapped[int | None]
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(index=True)


ALL = [
    table.__table__
    for table in (BillingAccount, PaymentAttempt, Subscription, Invoice, Payout, ReceivedEvent, IdempotencyRecord)
]
