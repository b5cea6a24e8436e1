"""The marketplaces' part of the proof of the books: sales and commissions against the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.money import accounts, ledger
from agentcache_service.money.postings import split
from agentcache_service.money.reconcile import Check, Known, expect

from .integration_tables import Commission
from .tables import Purchase, SaleRecord


def _sales(session: Session, known: Known) -> Iterator[str]:
    for sale, purchase in session.execute(select(SaleRecord, Purchase).join(Purchase)):
        paid = sale.status in {"paid", "refunded", "disputed"}
        yield from expect(known, ("sale", sale.id), paid, f"sale {sale.id} is {sale.status}")
        undone = known(("refund", sale.id)) or _lost(session, sale.id)
        if (sale.status == "refunded") != undone:
            yield f"sale {sale.id} is {sale.status}, and the ledger says otherwise"
        entry = ledger.find(session, "sale", sale.id)
        if entry is None:
            continue
        fee, rest = split(sale.amount, sale.fee_bps)
        found = Counter({line.account: line.amount for line in entry.postings})
        if (found[accounts.REVENUE_COMMISSION], found[accounts.creator(purchase.creator_org_id)]) != (-fee, -rest):
            yield f"sale {sale.id} is split in the ledger in another way than its commission says"


def _lost(session: Session, sale_id: str) -> bool:
    closed = ledger.find(session, "dispute_closed", sale_id)
    return closed is not None and closed.memo == "lost"


def _commissions(session: Session, known: Known) -> Iterator[str]:
    for row in session.scalars(select(Commission)):
        counted = row.state in {"approved", "paid"}
        source = "commission" if row.amount > 0 else "commission_clawback"
        yield from expect(known, (source, row.id), counted and row.amount != 0, f"commission {row.id} is {row.state}")


CHECKS: tuple[Check, ...] = (_sales, _commissions)
