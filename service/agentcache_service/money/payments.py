"""Payments: attempts written first, the gateway asked outside transactions, outcome and effect together.

A crash between the gateway's answer and our writing loses nothing: `resume` asks again under the same key and the
gateway answers with what it did. Webhooks lead to the same `settle`, so whichever comes first has the effect and
the other finds it done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.errors import Conflict, NotFound, ServiceError
from agentcache_service.orm import new_id

from .billing_tables import BillingAccount, PaymentAttempt, ReceivedEvent
from .gateway import Charge, GatewayEvent, PaymentGateway
from .payouts import settle_payout
from .postings import cents


class PaymentRequired(ServiceError):
    """Money is needed and could not be had: no card, or the card was refused."""

    status, code = 402, "payment_failed"


class Effect(Protocol):
    """What payments of one purpose bring about. Every method runs in the transaction that records the outcome."""

    def paid(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """The money is in."""

    def failed(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """The card was refused."""

    def refunded(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """The gateway has returned the money."""

    def disputed(self, session: Session, attempt: PaymentAttempt, now: datetime, *, outcome: str) -> None:
        """A dispute was "opened", "won" or "lost"."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: its id, status and the gateway's failure code."""

    attempt: str
    status: str
    failure: str | None


class Payments:
    """Takes money for the purposes it was given effects for."""

    def __init__(
        self, database: Database, gateway: PaymentGateway, clock: Clock, effects: Mapping[str, Effect]
    ) -> None:
        self._database = database
        self.gateway = gateway
        self._clock = clock
        self._effects = dict(effects)

    def begin(
        self, session: Session, *, org_id: str, purpose: str, subject_id: str, amount: int, description: str
    ) -> PaymentAttempt:
        """Write down that money will be asked for. `amount` in micro-USD, a whole number of cents."""
        cents(amount)
        if purpose not in self._effects:
            raise ValueError(f"nothing is known about payments for {purpose!r}")
        tried = session.scalar(
            select(func.count())
            .select_from(PaymentAttempt)
            .where(PaymentAttempt.purpose == purpose, PaymentAttempt.subject_id == subject_id)
        )
        attempt = PaymentAttempt(
            id=new_id("pay"),
            org_id=org_id,
            purpose=purpose,
            subject_id=subject_id,
            serial=tried or 0,
            amount=amount,
            description=description,
            status="pending",
            gateway=self.gateway.name,
            created_at=self._clock.now(),
        )
        session.add(attempt)
        try:
            session.flush()
        except IntegrityError:
            raise Conflict("A payment for this is under way already.") from None
        return attempt

    def run(self, attempt_id: str) -> Outcome:
        """Ask the gateway for an attempt's money and write the outcome with its effect."""
        with self._database.read() as session:
            attempt = session.get_one(PaymentAttempt, attempt_id)
            account = session.get(BillingAccount, attempt.org_id)
        if attempt.status != "pending":
            return Outcome(attempt.id, attempt.status, attempt.failure)
        if account is None or account.customer_ref is None or account.card_last4 is None:
            charge = Charge("", "failed", cents(attempt.amount), "no_card")
        else:
            charge = self.gateway.charge(
                account.customer_ref,
                cents(attempt.amount),
                idempotency_key=attempt.id,
                description=attempt.description,
                metadata={"attempt": attempt.id},
            )
        with self._database.write() as session:
            settled = self.settle(session, attempt_id, charge, self._clock.now())
            return Outcome(settled.id, settled.status, settled.failure)

    def settle(self, session: Session, attempt_id: str, charge: Charge, now: datetime) -> PaymentAttempt:
        """Write a charge's outcome and its effect once; later news of the same charge changes nothing."""
        attempt = session.get_one(PaymentAttempt, attempt_id, with_for_update=True)
        if attempt.status != "pending":
            return attempt
        attempt.status, attempt.failure = charge.status, charge.failure
        attempt.charge_id, attempt.finished_at = charge.id or None, now
        effect = self._effects[attempt.purpose]
        (effect.paid if charge.status == "succeeded" else effect.failed)(session, attempt, now)
        return attempt

    def refund(self, attempt_id: str) -> None:
        """Return a paid attempt's money; its `refunded` effect is written when the gateway has agreed."""
        with self._database.read() as session:
            attempt = session.get(PaymentAttempt, attempt_id)
        if attempt is None:
            raise NotFound("There is no such payment.")
        if attempt.status == "refunded":
            return
        if attempt.status != "succeeded" or attempt.charge_id is None:
            raise Conflict("Only a payment that succeeded can be returned.")
        self.gateway.refund(attempt.charge_id, cents(attempt.amount), idempotency_key=f"{attempt.id}-refund")
        with self._database.write() as session:
            self._mark_refunded(session, attempt_id, self._clock.now())

    def resume(self, *, older_than: timedelta = timedelta(minutes=5), limit: int = 50) -> int:
        """Finish attempts whose outcome was lost (a crash, a gateway that did not answer); how many were finished."""
        before = self._clock.now() - older_than
        with self._database.read() as session:
            query = (
                select(PaymentAttempt.id)
                .where(PaymentAttempt.status == "pending", PaymentAttempt.created_at < before)
                .order_by(PaymentAttempt.created_at)
                .limit(limit)
            )
            lost = list(session.scalars(query))
        return sum(self.run(name).status != "pending" for name in lost)

    def receive(self, event: GatewayEvent) -> bool:
        """Apply a verified webhook; False when it was applied before or concerns nothing of ours.

        The event's row and its effect are one transaction. Order is not trusted: an event can only move an attempt
        forward, and effects are posted under causes that are unique in the ledger.
        """
        now = self._clock.now()
        with self._database.write() as session:
            if session.get(ReceivedEvent, event.id) is not None:
                return False
            session.add(
                ReceivedEvent(
                    id=event.id,
                    gateway=self.gateway.name,
                    kind=event.kind,
                    object_id=event.object_id,
                    created=event.created,
                    received_at=now,
                )
            )
            return self._apply(session, event, now)

    def _apply(self, session: Session, event: GatewayEvent, now: datetime) -> bool:
        if event.kind in {"payout.paid", "payout.failed"}:
            return settle_payout(session, event.object_id, paid=event.kind == "payout.paid", now=now)
        attempt = self._attempt_of(session, event)
        if attempt is None:
            return False
        match event.kind:
            case "charge.succeeded":
                self.settle(session, attempt.id, Charge(event.object_id, "succeeded", cents(attempt.amount)), now)
            case "charge.failed":
                failed = Charge(event.object_id, "failed", cents(attempt.amount), "card_declined")
                self.settle(session, attempt.id, failed, now)
            case "charge.refunded":
                self._mark_refunded(session, attempt.id, now)
            case "dispute.opened" | "dispute.won" | "dispute.lost":
                effect = self._effects[attempt.purpose]
                effect.disputed(session, attempt, now, outcome=event.kind.removeprefix("dispute."))
            case _:
                return False
        return True

    def _attempt_of(self, session: Session, event: GatewayEvent) -> PaymentAttempt | None:
        named = event.metadata.get("attempt")
        if named is not None:
            return session.get(PaymentAttempt, named)
        query = select(PaymentAttempt).where(PaymentAttempt.charge_id == event.object_id)
        return session.scalars(query).one_or_none()

    def _mark_refunded(self, session: Session, attempt_id: str, now: datetime) -> None:
        attempt = session.get_one(PaymentAttempt, attempt_id, with_for_update=True)
        if attempt.status == "refunded":
            return
        attempt.status = "refunded"
        self._effects[attempt.purpose].refunded(session, attempt, now)
