"""Tables of the ledger. Rows are only ever added: triggers refuse updates and deletes on both databases."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DDL, ForeignKey, Index, Integer, String, UniqueConstraint, event
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.schema import ExecutableDDLElement

from agentcache_service.orm import Base


class LedgerTransaction(Base):
    """One balanced transaction; `(source, source_id)` names its cause and is unique."""

    __tablename__ = "ledger_transactions"
    __table_args__ = (UniqueConstraint("source", "source_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    source: Mapped[str] = mapped_column(String(40))
    source_id: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime] = mapped_column(index=True)
    memo: Mapped[str] = mapped_column(default="")
    postings: Mapped[list[LedgerPosting]] = relationship(back_populates="transaction", order_by="LedgerPosting.id")


class LedgerPosting(Base):
    """One line of a transaction; the amount is integer micro units, debit positive."""

    __tablename__ = "ledger_postings"
    __table_args__ = (Index(None, "account", "currency"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    transaction_id: Mapped[int] = mapped_column(ForeignKey("ledger_transactions.id"), index=True)
    account: Mapped[str] = mapped_column(String(120))
    currency: Mapped[str] = mapped_column(String(3))
    amount: Mapped[int]
    transaction: Mapped[LedgerTransaction] = relationship(back_populates="postings")


ALL = [LedgerTransaction.__table__, LedgerPosting.__table__]

_LEDGER = ("ledger_transactions", "ledger_postings")

_POSTGRES_GUARD = """
CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME;
END
$$ LANGUAGE plpgsql
"""


def guard_statements(dialect: str) -> tuple[str, ...]:
    """The DDL that makes the ledger's tables append-only on a database ("sqlite" or "postgresql")."""
    if dialect == "sqlite":
        return tuple(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: {verb} on {table} refused'); END"
            for table in _LEDGER
            for verb in ("UPDATE", "DELETE")
        )
    triggers = tuple(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only()"
        for table in _LEDGER
    )
    return (_POSTGRES_GUARD, *triggers)


def _guard(statement: str, dialect: str) -> ExecutableDDLElement:
    ddl = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves DDL() unannotated
    return ddl.execute_if(dialect=dialect)


for _dialect in ("sqlite", "postgresql"):
    for _statement in guard_statements(_dialect):
        event.listen(LedgerPosting.__table__, "after_create", _guard(_statement, _dialect))
