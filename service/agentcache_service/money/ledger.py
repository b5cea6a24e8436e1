"""The ledger is the append-only book of all money; only this room writes postings.

Balances are never stored: they are sums over postings, so there is nothing that could disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .postings import USD, LedgerConflict, LedgerError, Posting, Transaction, balanced
from .tables import LedgerPosting, LedgerTransaction


def post(session: Session, transaction: Transaction) -> LedgerTransaction:
    """Write a transaction once and return its row; posting the same one again returns the row that is there.

    Raises `LedgerError` when it breaks a law and `LedgerConflict` when its source and source id are taken by other
    lines. The caller's session commits it together with the change that caused it.
    """
    entry = balanced(transaction)
    present = _find(session, entry.source, entry.source_id)
    if present is not None:
        return _same(present, entry)
    row = LedgerTransaction(
        source=entry.source, source_id=entry.source_id, kind=entry.kind, at=entry.at.astimezone(UTC), memo=entry.memo
    )
    row.postings = [
        LedgerPosting(account=line.account, currency=line.currency, amount=line.amount) for line in entry.postings
    ]
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raced = _find(session, entry.source, entry.source_id)
        if raced is None:
            raise
        return _same(raced, entry)
    return row


def find(session: Session, source: str, source_id: str) -> Transaction | None:
    """The transaction that a cause has in the ledger, or None."""
    row = _find(session, source, source_id)
    return None if row is None else as_transaction(row)


def balances(
    session: Session, prefix: str = "", *, currency: str = USD, until: datetime | None = None
) -> dict[str, int]:
    """Balance of every account whose name starts with `prefix`, in micro units; `until` is exclusive."""
    query = (
        select(LedgerPosting.account, func.sum(LedgerPosting.amount))
        .where(LedgerPosting.currency == currency, LedgerPosting.account.startswith(prefix, autoescape=True))
        .group_by(LedgerPosting.account)
    )
    if until is not None:
        query = query.join(LedgerTransaction).where(LedgerTransaction.at < until)
    return {account: int(total) for account, total in session.execute(query)}


def balance(session: Session, account: str, *, currency: str = USD) -> int:
    """Balance of one account in micro units, debit positive."""
    query = select(func.coalesce(func.sum(LedgerPosting.amount), 0)).where(
        LedgerPosting.account == account, LedgerPosting.currency == currency
    )
    return int(session.execute(query).scalar_one())


def turnover(
    session: Session, prefix: str, *, start: datetime, end: datetime, currency: str = USD
) -> dict[tuple[str, str], int]:
    """Sums per (account, kind) of what was posted to accounts with a prefix in `[start, end)`."""
    query = (
        select(LedgerPosting.account, LedgerTransaction.kind, func.sum(LedgerPosting.amount))
        .join(LedgerTransaction)
        .where(
            LedgerPosting.account.startswith(prefix, autoescape=True),
            LedgerPosting.currency == currency,
            LedgerTransaction.at >= start,
            LedgerTransaction.at < end,
        )
        .group_by(LedgerPosting.account, LedgerTransaction.kind)
    )
    return {(account, kind): int(total) for account, kind, total in session.execute(query)}


def statement(session: Session, account: str, *, limit: int = 100) -> list[tuple[Transaction, int]]:
    """The latest transactions that touch an account, newest first, each with what it did to the account."""
    query = (
        select(LedgerTransaction, func.sum(LedgerPosting.amount))
        .join(LedgerPosting)
        .where(LedgerPosting.account == account)
        .group_by(LedgerTransaction.id)
        .order_by(LedgerTransaction.at.desc(), LedgerTransaction.id.desc())
        .limit(limit)
    )
    return [(as_transaction(row), int(amount)) for row, amount in session.execute(query)]


def transactions(session: Session) -> Iterator[Transaction]:
    """Every transaction in the order it was written, read in slices."""
    query = select(LedgerTransaction).order_by(LedgerTransaction.id).execution_options(yield_per=500)
    for row in session.scalars(query):
        yield as_transaction(row)


def as_transaction(row: LedgerTransaction) -> Transaction:
    """A row of the ledger as a value."""
    lines = tuple(Posting(line.account, line.amount, line.currency) for line in row.postings)
    at = row.at if row.at.tzinfo else row.at.replace(tzinfo=UTC)
    return Transaction(row.source, row.source_id, row.kind, lines, at, row.memo)


def _find(session: Session, source: str, source_id: str) -> LedgerTransaction | None:
    query = select(LedgerTransaction).where(
        LedgerTransaction.source == source, LedgerTransaction.source_id == source_id
    )
    return session.scalars(query).one_or_none()


def _same(row: LedgerTransaction, entry: Transaction) -> LedgerTransaction:
    """The row when it says what the entry says; `LedgerConflict` when it says something else."""
    present = as_transaction(row)
    if sorted(present.postings, key=_line_order) != sorted(entry.postings, key=_line_order):
        raise LedgerConflict(f"{entry.source}/{entry.source_id} is in the ledger already, with other lines")
    return row


def _line_order(line: Posting) -> tuple[str, str, int]:
    return line.account, line.currency, line.amount


__all__ = [
    "LedgerConflict",
    "LedgerError",
    "as_transaction",
    "balance",
    "balances",
    "find",
    "post",
    "statement",
    "transactions",
    "turnover",
]
