"""Subscriptions: an organization's paid plan, its monthly charge, upgrades, downgrades, cancellation and dunning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Literal, cast

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.errors import Conflict, Unprocessable

from . import entries, invoices, ledger
from . import subscription_rules as rules
from .billing_tables import Invoice, PaymentAttempt, Subscription
from .payments import PaymentRequired, Payments
from .subscription_rules import Terms

PURPOSE = "plan"
FREE = "free"

PlanSetter = Callable[[Session, str, str], None]
PriceList = Callable[[str], int | None]
NameOf = Callable[[Session, str], str]


class PlanPayments:
    """The effect of a plan's invoice being paid, refused or returned; `set_plan` tells the rest of the service."""

    def __init__(self, set_plan: PlanSetter) -> None:
        self._set_plan = set_plan

    def paid(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """Book the money, mark the invoice, and put the plan into force."""
        invoice = session.get_one(Invoice, attempt.subject_id)
        invoice.status, invoice.paid_at = "paid", now
        entry = entries.plan_payment(invoice.id, attempt.amount, gateway=attempt.gateway, at=now, memo=invoice.number)
        ledger.post(session, entry)
        assert invoice.plan is not None
        row = session.get(Subscription, invoice.party)
        terms = None if row is None or row.status == "canceled" else terms_of(row)
        if terms is None:
            after = rules.started(invoice.plan, now)
        elif invoice.reference == "renewal":
            after = rules.renewed(terms)
        else:
            after = rules.upgraded(terms, invoice.plan)
        store(session, invoice.party, after)
        self._set_plan(session, invoice.party, after.plan)

    def failed(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """A first payment or an upgrade is dropped; a renewal goes into dunning and at last to the free plan."""
        invoice = session.get_one(Invoice, attempt.subject_id)
        row = session.get(Subscription, invoice.party)
        if invoice.reference != "renewal" or row is None:
            invoice.status = "void"
            return
        after = rules.renewal_failed(terms_of(row), now)
        store(session, invoice.party, after)
        if after.status == "canceled":
            invoice.status = "void"
            self._set_plan(session, invoice.party, FREE)

    def refunded(self, session: Session, attempt: PaymentAttempt, now: datetime) -> None:
        """Book the return; the plan ends with the money."""
        invoice = session.get_one(Invoice, attempt.subject_id)
        ledger.post(session, entries.plan_refund(invoice.id, attempt.amount, gateway=attempt.gateway, at=now))
        row = session.get(Subscription, invoice.party)
        if row is not None and row.status != "canceled":
            store(session, invoice.party, rules.ended(terms_of(row)))
            self._set_plan(session, invoice.party, FREE)

    def disputed(self, session: Session, attempt: PaymentAttempt, now: datetime, *, outcome: str) -> None:
        """A lost dispute is a refund by force; an open one changes nothing yet."""
        if outcome == "lost":
            self.refunded(session, attempt, now)


class Subscriptions:
    """What customers and the clock do to subscriptions."""

    def __init__(
        self,
        database: Database,
        payments: Payments,
        clock: Clock,
        *,
        price: PriceList,
        set_plan: PlanSetter,
        name: NameOf,
    ) -> None:
        self._database = database
        self._payments = payments
        self._clock = clock
        self._price = price
        self._set_plan = set_plan
        self._name = name

    def current(self, org_id: str) -> Terms | None:
        """The organization's terms, or None without a subscription that is alive."""
        with self._database.read() as session:
            row = session.get(Subscription, org_id)
            return None if row is None or row.status == "canceled" else terms_of(row)

    def choose(self, org_id: str, plan: str) -> Literal["paid", "scheduled", "unchanged"]:
        """Move to a plan: paid now when it costs more, at the period's end when less. Raises `PaymentRequired`."""
        now = self._clock.now()
        wanted = self._price_of(plan)
        with self._database.write() as session:
            row = session.get(Subscription, org_id)
            terms = None if row is None or row.status == "canceled" else terms_of(row)
            if terms is not None and terms.status == "past_due":
                raise Conflict("Pay the open invoice first: replace the card, then try again.", code="past_due")
            if terms is not None and terms.plan == plan:
                store(session, org_id, rules.resumed(terms))
                return "unchanged"
            if plan == FREE:
                if terms is not None:
                    store(session, org_id, rules.canceled(terms))
                return "scheduled" if terms is not None else "unchanged"
            if terms is not None and wanted < self._price_of(terms.plan):
                store(session, org_id, rules.downgraded(terms, plan))
                return "scheduled"
            attempt = self._bill(session, org_id, plan, terms=terms, price=wanted, now=now)
        outcome = self._payments.run(attempt)
        if outcome.status != "succeeded":
            raise PaymentRequired(_why(outcome.failure), extra={"reason": outcome.failure})
        return "paid"

    def cancel(self, org_id: str) -> Terms:
        """End the subscription when its paid period ends."""
        with self._database.write() as session:
            row = session.get(Subscription, org_id)
            if row is None or row.status == "canceled":
                raise Conflict("There is no subscription to cancel.")
            after = rules.canceled(terms_of(row))
            store(session, org_id, after)
            return after

    def advance(self, *, limit: int = 200) -> int:
        """Renew, retry or end every subscription whose time has come; how many were touched."""
        now = self._clock.now()
        touched = 0
        for org_id in self._due(now, limit):
            with self._database.write() as session:
                row = session.get_one(Subscription, org_id)
                terms = terms_of(row)
                step = rules.due(terms, now)
                attempt = None
                if step == "end":
                    store(session, org_id, rules.ended(terms))
                    self._set_plan(session, org_id, FREE)
                elif step == "charge":
                    attempt = self._renew(session, org_id, terms, now)
            if attempt is not None:
                self._payments.run(attempt)
            touched += step != "nothing"
        return touched

    def _due(self, now: datetime, limit: int) -> list[str]:
        query = (
            select(Subscription.org_id)
            .where(Subscription.status != "canceled")
            .where(or_(Subscription.period_end <= now, Subscription.retry_at <= now))
            .limit(limit)
        )
        with self._database.read() as session:
            return list(session.scalars(query))

    def _bill(self, session: Session, org_id: str, plan: str, *, terms: Terms | None, price: int, now: datetime) -> str:
        """Invoice a first month or the rest of a month at a dearer price, and begin its payment."""
        if terms is None:
            amount, reference = price, "first"
            period, text = (now, rules.add_month(now)), f"{plan.capitalize()} plan, one month"
        else:
            amount = rules.upgrade_price(terms, old=self._price_of(terms.plan), new=price, now=now)
            period, text = (now, terms.period_end), f"{plan.capitalize()} plan, rest of the month"
            reference = f"upgrade-{plan}"
        if amount <= 0:
            raise Conflict("The period is over; wait for its renewal, then change the plan.", code="period_over")
        party = invoices.Party(org_id, self._name(session, org_id))
        invoice = invoices.issue(
            session,
            "plan",
            party,
            lines=[invoices.Line(text, amount)],
            period=period,
            now=now,
            reference=reference,
            plan=plan,
        )
        return self._begin(session, invoice)

    def _renew(self, session: Session, org_id: str, terms: Terms, now: datetime) -> str:
        """The renewal's invoice, made once per period, and the next attempt to have it paid."""
        query = select(Invoice).where(
            Invoice.kind == "plan",
            Invoice.party == org_id,
            Invoice.period_start == terms.period_end,
            Invoice.reference == "renewal",
        )
        invoice = session.scalars(query).one_or_none()
        if invoice is None:
            plan = rules.renewal_plan(terms)
            invoice = invoices.issue(
                session,
                "plan",
                invoices.Party(org_id, self._name(session, org_id)),
                lines=[invoices.Line(f"{plan.capitalize()} plan, one month", self._price_of(plan))],
                period=(terms.period_end, rules.add_month(terms.period_end)),
                now=now,
                reference="renewal",
                plan=plan,
            )
        pending = select(PaymentAttempt.id).where(
            PaymentAttempt.purpose == PURPOSE,
            PaymentAttempt.subject_id == invoice.id,
            PaymentAttempt.status == "pending",
        )
        return session.scalar(pending) or self._begin(session, invoice)

    def _begin(self, session: Session, invoice: Invoice) -> str:
        attempt = self._payments.begin(
            session,
            org_id=invoice.party,
            purpose=PURPOSE,
            subject_id=invoice.id,
            amount=invoice.total,
            description=f"AgentCache invoice {invoice.number}",
        )
        return attempt.id

    def _price_of(self, plan: str) -> int:
        price = self._price(plan)
        if price is None:
            raise Unprocessable(f"The plan {plan!r} is not sold here; contact sales.", code="plan_not_for_sale")
        return price


def terms_of(row: Subscription) -> Terms:
    """A row as the value the rules speak about."""
    return Terms(
        plan=row.plan,
        status=cast("rules.Status", row.status),
        period_start=row.period_start,
        period_end=row.period_end,
        cancel_at_end=row.cancel_at_end,
        next_plan=row.next_plan,
        attempts=row.attempts,
        retry_at=row.retry_at,
    )


def store(session: Session, org_id: str, terms: Terms) -> None:
    """Write an organization's terms."""
    session.merge(Subscription(org_id=org_id, **asdict(terms)))


def _why(failure: str | None) -> str:
    reasons = {
        "no_card": "No card is stored. Add one on the billing page.",
        "insufficient_funds": "The card has insufficient funds.",
        "expired_card": "The card has expired.",
    }
    return reasons.get(failure or "", "The card was declined. Use another card.")
