"""Invoices: numbered without gaps, written once with their lines, paid or voided but never edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agentcache_service.errors import Conflict
from agentcache_service.orm import new_id

from .billing_tables import Invoice

NUMBER_TRIES = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice; `amount` is the whole line in micro-USD."""

    text: str
    amount: int
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Party:
    """Who an invoice is for: an organization's id or a partner's slug, and the name printed."""

    id: str
    name: str


def issue(
    session: Session,
    kind: str,
    party: Party,
    *,
    lines: Sequence[Line],
    period: tuple[datetime, datetime],
    now: datetime,
    reference: str = "",
    plan: str | None = None,
) -> Invoice:
    """Write an invoice under the next number of its year. The sum of its lines is its total."""
    for _ in range(NUMBER_TRIES):
        try:
            with session.begin_nested():
                row = _row(session, kind, party, lines=lines, period=period, now=now, reference=reference, plan=plan)
                session.add(row)
                session.flush()
        except IntegrityError:
            if _is_there(session, kind, party, period=period, reference=reference):
                raise
            continue  # another invoice took the number meanwhile
        return row
    raise Conflict("Too many invoices are written at this moment; try again.")


def _is_there(session: Session, kind: str, party: Party, *, period: tuple[datetime, datetime], reference: str) -> bool:
    query = select(Invoice.id).where(
        Invoice.kind == kind,
        Invoice.party == party.id,
        Invoice.period_start == period[0],
        Invoice.reference == reference,
    )
    return session.scalar(query) is not None


def _row(
    session: Session,
    kind: str,
    party: Party,
    *,
    lines: Sequence[Line],
    period: tuple[datetime, datetime],
    now: datetime,
    reference: str,
    plan: str | None,
) -> Invoice:
    return Invoice(
        id=new_id("inv"),
        number=next_number(session, now),
        kind=kind,
        party=party.id,
        party_name=party.name,
        reference=reference,
        plan=plan,
        lines=[{"text": line.text, "quantity": line.quantity, "amount": line.amount} for line in lines],
        total=sum(line.amount for line in lines),
        status="open",
        issued_at=now,
        period_start=period[0],
        period_end=period[1],
    )


def next_number(session: Session, now: datetime) -> str:
    """The next free number of a year, such as `2026-000042`; the table's unique numbers settle a race."""
    year = f"{now:%Y}-"
    latest = session.scalar(select(func.max(Invoice.number)).where(Invoice.number.startswith(year)))
    serial = int(latest.removeprefix(year)) + 1 if latest else 1
    return f"{year}{serial:06d}"


def of_party(session: Session, kind: str, party_id: str) -> list[Invoice]:
    """A party's invoices, newest first."""
    query = select(Invoice).where(Invoice.kind == kind, Invoice.party == party_id).order_by(Invoice.number.desc())
    return list(session.scalars(query))


def one_of_party(session: Session, kind: str, party_id: str, *, invoice_id: str) -> Invoice | None:
    """One invoice, if it is this party's."""
    query = select(Invoice).where(Invoice.id == invoice_id, Invoice.kind == kind, Invoice.party == party_id)
    return session.scalars(query).one_or_none()
