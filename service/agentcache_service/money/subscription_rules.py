"""Rules of a plan subscription as pure functions: what a change costs, when it holds, what a failed renewal does."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from .postings import MICROS_PER_CENT

Status = Literal["active", "past_due", "canceled"]

DUNNING = (timedelta(days=1), timedelta(days=3), timedelta(days=5), timedelta(days=7))
"""Waits between the attempts to charge a failed renewal; after the last the subscription ends."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Where a subscription stands. `next_plan` takes over at `period_end`; `retry_at` is set while past due."""

    plan: str
    status: Status
    period_start: datetime
    period_end: datetime
    cancel_at_end: bool = False
    next_plan: str | None = None
    attempts: int = 0
    retry_at: datetime | None = None


def add_month(moment: datetime) -> datetime:
    """The same day of the next month, or its last day where the month is shorter."""
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=day)


def started(plan: str, now: datetime) -> Terms:
    """A subscription whose first month has just been paid."""
    return Terms(plan, "active", now, add_month(now))


def upgrade_price(terms: Terms, *, old: int, new: int, now: datetime) -> int:
    """What the rest of the period costs more under the new price, in micro-USD, floored to a whole cent."""
    if new <= old:
        raise ValueError("an upgrade goes to a plan that costs more")
    whole = (terms.period_end - terms.period_start) // timedelta(seconds=1)
    left = max(0, (terms.period_end - now) // timedelta(seconds=1))
    difference = (new - old) * min(left, whole) // whole
    return difference // MICROS_PER_CENT * MICROS_PER_CENT


def upgraded(terms: Terms, plan: str) -> Terms:
    """The dearer plan at once, within the period already paid for."""
    return replace(terms, plan=plan, next_plan=None, cancel_at_end=False)


def downgraded(terms: Terms, plan: str) -> Terms:
    """The cheaper plan from the next period on; what was paid for stays until then."""
    return replace(terms, next_plan=plan, cancel_at_end=False)


def canceled(terms: Terms) -> Terms:
    """Nothing changes until the period ends, then the subscription does."""
    return replace(terms, cancel_at_end=True, next_plan=None)


def resumed(terms: Terms) -> Terms:
    """A cancellation or downgrade taken back before the period ended."""
    return replace(terms, cancel_at_end=False, next_plan=None)


def ended(terms: Terms) -> Terms:
    """The subscription is over; the organization is on the free plan."""
    return replace(terms, status="canceled", retry_at=None, next_plan=None)


def due(terms: Terms, now: datetime) -> Literal["nothing", "end", "charge"]:
    """What the clock asks for: nothing yet, ending a cancelled subscription, or charging a renewal (again)."""
    if terms.status == "canceled":
        return "nothing"
    if terms.status == "past_due":
        return "charge" if terms.retry_at is not None and terms.retry_at <= now else "nothing"
    if terms.period_end > now:
        return "nothing"
    return "end" if terms.cancel_at_end else "charge"


def renewal_plan(terms: Terms) -> str:
    """The plan the next period is charged for."""
    return terms.next_plan or terms.plan


def renewed(terms: Terms) -> Terms:
    """The next period, paid; it begins where the last one ended, however late the payment came."""
    start = terms.period_end
    return Terms(renewal_plan(terms), "active", start, add_month(start))


def renewal_failed(terms: Terms, now: datetime) -> Terms:
    """Past due with the next attempt planned, or ended after the last."""
    if terms.attempts >= len(DUNNING):
        return ended(terms)
    wait = DUNNING[terms.attempts]
    return replace(terms, status="past_due", attempts=terms.attempts + 1, retry_at=now + wait)
