"""Laws of the ledger: balanced, append-only, once per cause, splits that add up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from agentcache_service.money import accounts, entries, ledger, tables
from agentcache_service.money.postings import (
    LedgerConflict,
    LedgerError,
    Posting,
    Transaction,
    balanced,
    cents,
    dollars,
    split,
)
from agentcache_service.orm import Base
from agentcache_service.service import Service

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine, tables=tables.ALL)
    with Session(engine) as opened:
        yield opened
    engine.dispose()


def entry(*lines: tuple[str, int], source_id: str = "1") -> Transaction:
    return Transaction("test", source_id, "test", tuple(Posting(account, amount) for account, amount in lines), NOW)


@given(st.integers(0, 10**15), st.integers(0, 10_000))
def test_a_split_always_adds_up_and_floors_the_fee(amount: int, bps: int) -> None:
    fee, rest = split(amount, bps)
    assert fee + rest == amount
    assert fee == amount * bps // 10_000
    assert 0 <= fee <= amount


@pytest.mark.parametrize("bps", [-1, 10_001])
def test_a_share_outside_nothing_and_everything_is_refused(bps: int) -> None:
    with pytest.raises(LedgerError, match="basis points"):
        split(1, bps)


def test_a_transaction_that_does_not_sum_to_zero_is_refused(session: Session) -> None:
    with pytest.raises(LedgerError, match="sum to 1"):
        ledger.post(session, entry(("cash:local", 100), ("creator:a", -99)))
    assert ledger.balances(session) == {}


def test_currencies_are_balanced_one_by_one() -> None:
    lines = (Posting("cash:local", 5, "usd"), Posting("creator:a", -5, "eur"))
    with pytest.raises(LedgerError, match="sum to"):
        balanced(Transaction("test", "1", "test", lines, NOW))


@pytest.mark.parametrize("amount", [1.0, True, "1"])
def test_only_integers_are_amounts(amount: object) -> None:
    lines = (Posting("cash:local", amount), Posting("creator:a", -1))  # type: ignore[arg-type]  # the wrong type is the point
    with pytest.raises(LedgerError, match="integer micro-USD"):
        balanced(Transaction("test", "1", "test", lines, NOW))


def test_the_same_cause_is_posted_once(session: Session) -> None:
    first = ledger.post(session, entry(("cash:local", 7), ("creator:a", -7)))
    again = ledger.post(session, entry(("creator:a", -7), ("cash:local", 7)))
    assert again.id == first.id
    assert ledger.balance(session, "cash:local") == 7


def test_the_same_cause_with_other_lines_is_a_conflict(session: Session) -> None:
    ledger.post(session, entry(("cash:local", 7), ("creator:a", -7)))
    with pytest.raises(LedgerConflict, match="other lines"):
        ledger.post(session, entry(("cash:local", 8), ("creator:a", -8)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_postings SET amount = 0",
        "DELETE FROM ledger_postings",
        "UPDATE ledger_transactions SET memo = 'x'",
    ],
)
def test_the_database_itself_refuses_to_change_what_was_written(session: Session, statement: str) -> None:
    ledger.post(session, entry(("cash:local", 7), ("creator:a", -7)))
    session.commit()
    with pytest.raises(DatabaseError, match="append-only"):
        session.execute(text(statement))
    session.rollback()
    assert ledger.balance(session, "creator:a") == -7


def test_a_refund_gives_back_every_part_of_the_sale(session: Session) -> None:
    item = entries.Sale("p1", "org", 1_999_990, 1_234, "local")
    for step in (entries.sale(item, NOW), entries.refund(item, NOW), entries.refund_settled(item, NOW)):
        ledger.post(session, step)
    assert set(ledger.balances(session).values()) == {0}


def test_a_refund_after_a_payout_leaves_a_debt_of_the_creator(session: Session) -> None:
    item = entries.Sale("p1", "org", 10_000_000, 1_200, "local")
    ledger.post(session, entries.sale(item, NOW))
    ledger.post(session, entries.payout_started("o1", "creator", org_id="org", amount=8_800_000, at=NOW))
    ledger.post(session, entries.payout_paid("o1", 8_800_000, gateway="local", at=NOW))
    ledger.post(session, entries.refund(item, NOW))
    assert accounts.owed(ledger.balances(session), accounts.creator("org")) == -8_800_000


def test_turnover_is_read_per_account_and_kind_inside_a_period(session: Session) -> None:
    item = entries.Sale("p1", "org", 10_000_000, 1_200, "local")
    ledger.post(session, entries.sale(item, NOW))
    later = datetime(2026, 12, 2, tzinfo=UTC)
    ledger.post(session, entries.refund(item, later))
    november = ledger.turnover(session, "revenue:", start=NOW, end=datetime(2026, 12, 1, tzinfo=UTC))
    assert november == {("revenue:commission", "sale"): -1_200_000}
    assert ledger.balances(session, "creator:", until=later) == {"creator:org": -8_800_000}


def test_money_is_shown_in_cents_without_floats() -> None:
    assert dollars(1_234_500_000) == "$1,234.50"
    assert dollars(-5_000) == "-$0.01"
    assert dollars(-4_999) == "$0.00"
    assert dollars(1_234, 6) == "$0.001234"
    assert cents(19_000_000) == 1900
    with pytest.raises(LedgerError, match="whole number of cents"):
        cents(1)


def test_the_migrated_database_refuses_to_change_the_ledger_too(any_service: Service) -> None:
    with any_service.db.write() as opened:
        ledger.post(opened, entry(("cash:local", 7), ("creator:a", -7)))
    for statement in ("UPDATE ledger_postings SET amount = 0", "DELETE FROM ledger_transactions"):
        with pytest.raises(DatabaseError, match="append-only"), any_service.db.write() as opened:
            opened.execute(text(statement))
    with any_service.db.read() as opened:
        assert ledger.balance(opened, "creator:a") == -7
