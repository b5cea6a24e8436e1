"""The proof of the books: every law of the ledger checked on live data, every posting's cause found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service.db import Database

from . import accounts, ledger
from .billing_tables import Invoice, PaymentAttempt, Payout
from .postings import LedgerError, Transaction, balanced, dollars
from .tables import LedgerPosting, LedgerTransaction

Known = Callable[[tuple[str, str]], bool]
Check = Callable[[Session, Known], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what is wrong; an empty `problems` is the proof."""

    transactions: int
    sums: dict[str, int]
    balances: dict[str, int]
    problems: tuple[str, ...]

    @property
    def lines(self) -> Iterator[str]:
        """The report for people."""
        yield f"{self.transactions} transactions; sums per currency: {self.sums or {'usd': 0}}"
        for account, amount in sorted(self.balances.items()):
            yield f"  {account:<50} {dollars(amount, 6):>20}"
        yield from (f"PROBLEM {problem}" for problem in self.problems)
        if not self.problems:
            yield "The books balance and every balance is explained."


def reconcile(database: Database, checks: Sequence[Check] = ()) -> Report:
    """Check everything in one consistent view of the database; `checks` are those of other areas' rows."""
    with database.read() as session:
        problems: list[str] = []
        count = 0
        seen: Counter[tuple[str, str]] = Counter()
        for transaction in ledger.transactions(session):
            count += 1
            seen[transaction.source, transaction.source_id] += 1
            problems.extend(_laws(transaction))
        problems.extend(f"{source}/{name} is posted {n} times" for (source, name), n in seen.items() if n > 1)
        problems.extend(_orphans(session))
        for check in (_invoices, _payouts, *checks):
            problems.extend(check(session, seen.__contains__))
        balances = ledger.balances(session)
        for account in (accounts.REFUNDS_DUE,):
            if balances.get(account):
                problems.append(f"{account} holds {dollars(balances[account], 6)}: a refund was not settled")
        problems.extend(_in_flight(session, balances))
        sums = {
            currency: int(total)
            for currency, total in session.execute(
                select(LedgerPosting.currency, func.sum(LedgerPosting.amount)).group_by(LedgerPosting.currency)
            )
        }
    problems.extend(f"all postings in {currency} sum to {total}" for currency, total in sums.items() if total)
    return Report(count, sums, balances, tuple(problems))


def _laws(transaction: Transaction) -> list[str]:
    try:
        balanced(transaction)
    except LedgerError as broken:
        return [str(broken)]
    return []


def _orphans(session: Session) -> Iterator[str]:
    query = (
        select(LedgerPosting.id)
        .outerjoin(LedgerTransaction, LedgerTransaction.id == LedgerPosting.transaction_id)
        .where(LedgerTransaction.id.is_(None))
    )
    yield from (f"posting {name} belongs to no transaction" for name in session.scalars(query))


def expect(known: Known, cause: tuple[str, str], wanted: bool, what: str) -> Iterator[str]:
    """A problem when a cause is in the ledger and should not be, or the other way round."""
    if wanted and not known(cause):
        yield f"{what}, but {cause[0]}/{cause[1]} is not in the ledger"
    if not wanted and known(cause):
        yield f"{cause[0]}/{cause[1]} is in the ledger, but {what}"


def _invoices(session: Session, known: Known) -> Iterator[str]:
    for invoice in session.scalars(select(Invoice)):
        source = "plan_payment" if invoice.kind == "plan" else "partner_payment"
        paid = invoice.status == "paid"
        yield from expect(known, (source, invoice.id), paid, f"invoice {invoice.number} is {invoice.status}")
        if sum(int(line["amount"]) for line in invoice.lines) != invoice.total:
            yield f"invoice {invoice.number}: its lines do not add up to its total"
    refunded = select(PaymentAttempt.subject_id).where(
        PaymentAttempt.purpose == "plan", PaymentAttempt.status == "refunded"
    )
    for name in session.scalars(refunded):
        yield from expect(known, ("plan_refund", name), True, f"the payment of invoice {name} was refunded")


def _payouts(session: Session, known: Known) -> Iterator[str]:
    for row in session.scalars(select(Payout)):
        yield from expect(known, ("payout_started", row.id), True, f"payout {row.id} exists")
        finished = row.status != "pending"
        yield from expect(known, ("payout_finished", row.id), finished, f"payout {row.id} is {row.status}")


def _in_flight(session: Session, balances: dict[str, int]) -> Iterator[str]:
    pending = session.scalar(select(func.coalesce(func.sum(Payout.amount), 0)).where(Payout.status == "pending"))
    held = -balances.get(accounts.PAYOUTS_IN_FLIGHT, 0)
    if held != int(pending or 0):
        yield f"{accounts.PAYOUTS_IN_FLIGHT} holds {held}, pending payouts are {pending}"
