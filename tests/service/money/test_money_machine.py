"""A machine of purchases, refunds, payouts, clawbacks and disputes, held against a plain model."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session

from agentcache_service.money import accounts, entries, ledger, tables
from agentcache_service.orm import Base

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ORGS = st.sampled_from(["ada", "bob", "cyd"])
AMOUNTS = st.integers(1, 10**10)
SHARES = st.integers(0, 10_000)


class MoneyMachine(RuleBasedStateMachine):
    """Every step posts to the real ledger and to a dict of expected balances computed without it."""

    sales = Bundle("sales")
    due = Bundle("refunds the gateway has not confirmed")
    disputed = Bundle("sales in dispute")
    commissions = Bundle("commissions")
    payouts = Bundle("payouts in flight")

    @initialize()
    def open_the_book(self) -> None:
        self.engine = create_engine("sqlite://")
        event.listen(self.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        Base.metadata.create_all(self.engine, tables=tables.ALL)
        self.session = Session(self.engine)
        self.expected: Counter[str] = Counter()
        self.serial = 0

    def name(self) -> str:
        self.serial += 1
        return f"n{self.serial}"

    def expect(self, **moves: int) -> None:
        for account, amount in moves.items():
            self.expected[account.replace("__", ":")] += amount

    @rule(target=sales, org=ORGS, amount=AMOUNTS, bps=SHARES)
    def purchase(self, org: str, amount: int, bps: int) -> entries.Sale:
        item = entries.Sale(self.name(), org, amount, bps, "local")
        ledger.post(self.session, entries.sale(item, NOW))
        fee = amount * bps // 10_000
        self.expect(cash__local=amount, revenue__commission=-fee)
        self.expected[f"creator:{org}"] -= amount - fee
        return item

    @rule(target=due, item=consumes(sales))
    def refund(self, item: entries.Sale) -> entries.Sale:
        ledger.post(self.session, entries.refund(item, NOW))
        fee = item.amount * item.fee_bps // 10_000
        self.expect(revenue__commission=fee, refunds__due=-item.amount)
        self.expected[f"creator:{item.creator}"] += item.amount - fee
        return item

    @rule(item=consumes(due))
    def the_gateway_confirms_a_refund(self, item: entries.Sale) -> None:
        ledger.post(self.session, entries.refund_settled(item, NOW))
        self.expect(refunds__due=item.amount, cash__local=-item.amount)

    @rule(item=due)
    def a_webhook_repeats_a_refund(self, item: entries.Sale) -> None:
        ledger.post(self.session, entries.refund(item, NOW))

    @rule(item=sales)
    def a_webhook_repeats_a_sale(self, item: entries.Sale) -> None:
        ledger.post(self.session, entries.sale(item, NOW))

    @rule(target=disputed, item=consumes(sales))
    def dispute(self, item: entries.Sale) -> entries.Sale:
        ledger.post(self.session, entries.dispute_opened(item, NOW))
        self.expect(disputes__held=item.amount, cash__local=-item.amount)
        return item

    @rule(item=consumes(disputed))
    def win_a_dispute(self, item: entries.Sale) -> None:
        ledger.post(self.session, entries.dispute_won(item, NOW))
        self.expect(disputes__held=-item.amount, cash__local=item.amount)

    @rule(item=consumes(disputed), fee=st.sampled_from([0, 15_000_000]))
    def lose_a_dispute(self, item: entries.Sale, fee: int) -> None:
        ledger.post(self.session, entries.dispute_lost(item, NOW, fee))
        kept = item.amount * item.fee_bps // 10_000
        self.expect(disputes__held=-item.amount, revenue__commission=kept, expense__dispute_fees=fee, cash__local=-fee)
        self.expected[f"creator:{item.creator}"] += item.amount - kept

    @rule(target=commissions, org=ORGS, amount=AMOUNTS, share=SHARES)
    def approve_a_commission(self, org: str, amount: int, share: int) -> str:
        name = self.name()
        ledger.post(
            self.session, entries.commission(name, "replicate", org_id=org, amount=amount, share_bps=share, at=NOW)
        )
        theirs = amount * share // 10_000
        self.expect(partner__replicate=amount, revenue__affiliate=theirs - amount)
        self.expected[f"affiliate:{org}"] -= theirs
        return name

    @rule(name=consumes(commissions))
    def claw_a_commission_back(self, name: str) -> None:
        original = ledger.find(self.session, "commission", name)
        assert original is not None
        ledger.post(self.session, entries.commission_clawback(name, original, NOW))
        for line in original.postings:
            self.expected[line.account] -= line.amount

    @rule(target=payouts, org=ORGS, payee=st.sampled_from(["creator", "affiliate"]))
    def pay_out_all_that_is_owed(self, org: str, payee: entries.Payee) -> object:
        owed = -self.expected[f"{payee}:{org}"]
        if owed <= 0:
            return multiple()
        name = self.name()
        ledger.post(self.session, entries.payout_started(name, payee, org_id=org, amount=owed, at=NOW))
        self.expected[f"{payee}:{org}"] += owed
        self.expect(payouts__in_flight=-owed)
        return (name, payee, org, owed)

    @rule(payout=consumes(payouts))
    def a_payout_arrives(self, payout: tuple[str, entries.Payee, str, int]) -> None:
        name, _payee, _org, amount = payout
        ledger.post(self.session, entries.payout_paid(name, amount, gateway="local", at=NOW))
        self.expect(payouts__in_flight=amount, cash__local=-amount)

    @rule(payout=consumes(payouts))
    def a_payout_fails(self, payout: tuple[str, entries.Payee, str, int]) -> None:
        name, payee, org, amount = payout
        ledger.post(self.session, entries.payout_failed(name, payee, org_id=org, amount=amount, at=NOW))
        self.expect(payouts__in_flight=amount)
        self.expected[f"{payee}:{org}"] -= amount

    @precondition(lambda self: self.expected["partner:replicate"] > 0)
    @rule()
    def the_partner_pays_its_invoice(self) -> None:
        amount = self.expected["partner:replicate"]
        ledger.post(self.session, entries.partner_payment(self.name(), "replicate", amount=amount, at=NOW))
        self.expect(cash__bank=amount, partner__replicate=-amount)

    @invariant()
    def the_ledger_sums_to_zero_and_every_balance_is_explained(self) -> None:
        if not hasattr(self, "session"):
            return
        balances = ledger.balances(self.session)
        assert sum(balances.values()) == 0
        assert {k: v for k, v in balances.items() if v} == {k: v for k, v in self.expected.items() if v}
        owed = accounts.owed(balances, accounts.PAYOUTS_IN_FLIGHT)
        assert owed >= 0

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            self.engine.dispose()


TestMoney = MoneyMachine.TestCase
TestMoney.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
