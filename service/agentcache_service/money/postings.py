"""Postings are the two-sided lines of money; this room holds their laws and knows no database.

Amounts are integer micro-USD (1 USD = 1,000,000). A positive amount is a debit, a negative one a credit, so an asset
such as cash shows a positive balance and what we owe shows a negative one. Every transaction sums to zero per currency.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

MICROS_PER_USD = 1_000_000
MICROS_PER_CENT = 10_000
BASIS_POINTS = 10_000
USD = "usd"

_ACCOUNT = re.compile(r"[a-z_]+(:[A-Za-z0-9._-]+)*\Z")
_CURRENCY = re.compile(r"[a-z]{3}\Z")


class LedgerError(ValueError):
    """A transaction that breaks a law of the ledger; nothing was written."""


class LedgerConflict(LedgerError):
    """A second, different transaction under a source and source id that are already in the ledger."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of a transaction: an account and a signed amount in micro units of a currency."""

    account: str
    amount: int
    currency: str = USD


@dataclass(frozen=True, slots=True)
class Transaction:
    """A balanced group of postings with one cause: `(source, source_id)` names it and is unique in the ledger."""

    source: str
    source_id: str
    kind: str
    postings: tuple[Posting, ...]
    at: datetime
    memo: str = ""


def balanced(transaction: Transaction) -> Transaction:
    """The transaction with its zero lines dropped, or `LedgerError` naming the first law it breaks."""
    where = f"{transaction.source}/{transaction.source_id}"
    if not transaction.source or not transaction.source_id:
        raise LedgerError("a transaction needs a source and a source id")
    sums: defaultdict[str, int] = defaultdict(int)
    for posting in transaction.postings:
        if type(posting.amount) is not int:
            raise LedgerError(
                f"{where}: {posting.account} has a {type(posting.amount).__name__}, not integer micro-USD"
            )
        if not _ACCOUNT.match(posting.account):
            raise LedgerError(f"{where}: {posting.account!r} is not an account name")
        if not _CURRENCY.match(posting.currency):
            raise LedgerError(f"{where}: {posting.currency!r} is not a currency code")
        sums[posting.currency] += posting.amount
    for currency, total in sums.items():
        if total:
            raise LedgerError(f"{where}: postings in {currency} sum to {total}, not to zero")
    kept = tuple(posting for posting in transaction.postings if posting.amount)
    if len(kept) < 2:
        raise LedgerError(f"{where}: a transaction needs two lines that are not zero")
    return Transaction(
        transaction.source, transaction.source_id, transaction.kind, kept, transaction.at, transaction.memo
    )


def reversed_lines(postings: Iterable[Posting]) -> tuple[Posting, ...]:
    """The same lines with their signs turned: what undoes them."""
    return tuple(Posting(posting.account, -posting.amount, posting.currency) for posting in postings)


def split(amount: int, bps: int) -> tuple[int, int]:
    """`(fee, rest)` of an amount: fee = floor(amount * bps / 10,000), rest = amount - fee, so they always add up."""
    if amount < 0:
        raise LedgerError(f"only amounts of zero or more are split, not {amount}")
    if not 0 <= bps <= BASIS_POINTS:
        raise LedgerError(f"{bps} basis points are outside 0 to {BASIS_POINTS}")
    fee = amount * bps // BASIS_POINTS
    return fee, amount - fee


def cents(amount: int) -> int:
    """Whole cents of an amount in micro-USD; `LedgerError` when it is not a whole number of cents."""
    whole, remainder = divmod(amount, MICROS_PER_CENT)
    if remainder:
        raise LedgerError(f"{amount} micro-USD is not a whole number of cents")
    return whole


def dollars(amount: int, places: int = 2) -> str:
    """An amount as text for people: `1234500000` -> `$1,234.50`; half a unit is rounded away from zero."""
    unit = 10 ** (6 - places)
    magnitude = (abs(amount) + unit // 2) // unit
    whole, fraction = divmod(magnitude, 10**places)
    sign = "-" if amount < 0 and magnitude else ""
    return f"{sign}${whole:,}.{fraction:0{places}d}" if places else f"{sign}${whole:,}"
