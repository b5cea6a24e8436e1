"""Plans paid monthly: upgrade, downgrade, cancel, dunning, invoices, and payments that survive crashes and webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.clock import FixedClock
from agentcache_service.db import Database
from agentcache_service.errors import BadRequest, Conflict, Unprocessable
from agentcache_service.money import idempotency, invoice_pdf, invoices, ledger
from agentcache_service.money import subscription_rules as rules
from agentcache_service.money.billing_tables import Invoice, PaymentAttempt
from agentcache_service.money.customers import Customers
from agentcache_service.money.gateway import Charge, GatewayEvent
from agentcache_service.money.local_gateway import LocalGateway
from agentcache_service.money.payments import PaymentRequired, Payments
from agentcache_service.money.subscriptions import PlanPayments, Subscriptions

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PRICES: Mapping[str, int | None] = {
    "free": 0,
    "starter": 19_000_000,
    "pro": 49_000_000,
    "business": 149_000_000,
    "enterprise": None,
}


@dataclass
class Shop:
    """Billing over a local gateway, with the plans it set."""

    database: Database
    clock: FixedClock
    gateway: LocalGateway
    payments: Payments
    customers: Customers
    subscriptions: Subscriptions
    plans: dict[str, str] = field(default_factory=dict)

    def card(self, token: str, org: str = "org_1") -> None:
        self.customers.attach_card(org, "ada@example.com", card=token, key=f"{org}-{token}-{self.clock.now()}")

    def invoices(self) -> list[Invoice]:
        with self.database.read() as session:
            return list(reversed(invoices.of_party(session, "plan", "org_1")))

    def balances(self) -> dict[str, int]:
        with self.database.read() as session:
            return ledger.balances(session)


@pytest.fixture
def shop(database: Database, clock: FixedClock, tmp_path: Path) -> Shop:
    plans: dict[str, str] = {}

    def set_plan(_session: Session, org: str, plan: str) -> None:
        plans[org] = plan

    gateway = LocalGateway(tmp_path / "payments.sqlite", secret="s", now=clock.now)
    payments = Payments(database, gateway, clock, {"plan": PlanPayments(set_plan)})
    subscriptions = Subscriptions(
        database, payments, clock, price=PRICES.__getitem__, set_plan=set_plan, name=lambda _session, _org: "Ada & Co"
    )
    return Shop(database, clock, gateway, payments, Customers(database, gateway, clock), subscriptions, plans)


def test_choosing_a_plan_charges_a_month_and_writes_a_paid_invoice(shop: Shop) -> None:
    shop.card("card_ok")
    assert shop.subscriptions.choose("org_1", "starter") == "paid"
    assert shop.plans == {"org_1": "starter"}
    (invoice,) = shop.invoices()
    assert (invoice.number, invoice.total, invoice.status) == ("2026-000001", 19_000_000, "paid")
    assert shop.balances() == {"cash:local": 19_000_000, "revenue:plans": -19_000_000}


def test_a_refused_card_buys_nothing(shop: Shop) -> None:
    shop.card("card_insufficient_funds")
    with pytest.raises(PaymentRequired, match="insufficient funds"):
        shop.subscriptions.choose("org_1", "starter")
    assert shop.plans == {}
    assert shop.subscriptions.current("org_1") is None
    assert shop.balances() == {}


def test_without_a_card_the_customer_is_told_to_add_one(shop: Shop) -> None:
    with pytest.raises(PaymentRequired, match="No card is stored"):
        shop.subscriptions.choose("org_1", "starter")


def test_an_upgrade_is_charged_for_the_rest_of_the_month_only(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "starter")
    shop.clock.advance(days=15)
    assert shop.subscriptions.choose("org_1", "pro") == "paid"
    assert shop.plans["org_1"] == "pro"
    assert [invoice.total for invoice in shop.invoices()] == [19_000_000, 15_000_000]


def test_a_downgrade_waits_for_the_period_to_end(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "pro")
    assert shop.subscriptions.choose("org_1", "starter") == "scheduled"
    assert shop.plans["org_1"] == "pro"
    shop.clock.advance(days=31)
    shop.subscriptions.advance()
    assert shop.plans["org_1"] == "starter"
    assert [invoice.total for invoice in shop.invoices()] == [49_000_000, 19_000_000]


def test_a_cancelled_subscription_ends_with_its_period(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "pro")
    assert shop.subscriptions.cancel("org_1").cancel_at_end
    shop.clock.advance(days=29)
    assert shop.subscriptions.advance() == 0
    shop.clock.advance(days=2)
    assert shop.subscriptions.advance() == 1
    assert shop.plans["org_1"] == "free"
    assert len(shop.invoices()) == 1


def test_a_renewal_is_charged_once_however_often_the_clock_is_asked(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "starter")
    shop.clock.advance(days=30)
    assert [shop.subscriptions.advance() for _ in range(3)] == [1, 0, 0]
    assert len(shop.invoices()) == 2
    terms = shop.subscriptions.current("org_1")
    assert terms is not None
    assert terms.period_end == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_failing_renewal_is_tried_again_and_at_last_ends_on_the_free_plan(shop: Shop) -> None:
    shop.card("card_fails_later")
    shop.subscriptions.choose("org_1", "starter")
    shop.clock.advance(days=30)
    statuses = []
    for wait in (0, *(step.days for step in rules.DUNNING)):
        shop.clock.advance(days=wait)
        shop.subscriptions.advance()
        terms = shop.subscriptions.current("org_1")
        statuses.append(terms.status if terms else "ended")
    assert statuses == ["past_due"] * 4 + ["ended"]
    assert shop.plans["org_1"] == "free"
    assert [invoice.status for invoice in shop.invoices()] == ["paid", "void"]


def test_a_new_card_rescues_a_subscription_in_dunning(shop: Shop) -> None:
    shop.card("card_fails_later")
    shop.subscriptions.choose("org_1", "starter")
    shop.clock.advance(days=30)
    shop.subscriptions.advance()
    with pytest.raises(Conflict, match="open invoice"):
        shop.subscriptions.choose("org_1", "pro")
    shop.card("card_ok")
    shop.clock.advance(days=1)
    shop.subscriptions.advance()
    terms = shop.subscriptions.current("org_1")
    assert terms is not None
    assert (terms.status, terms.attempts) == ("active", 0)
    assert [invoice.status for invoice in shop.invoices()] == ["paid", "paid"]


def test_enterprise_is_not_sold_by_card(shop: Shop) -> None:
    with pytest.raises(Unprocessable, match="contact sales"):
        shop.subscriptions.choose("org_1", "enterprise")


def test_a_crash_after_the_charge_loses_nothing_and_charges_nothing_twice(shop: Shop) -> None:
    shop.card("card_ok")
    with shop.database.write() as session:
        period = (NOW, NOW + timedelta(days=30))
        invoice = invoices.issue(
            session,
            "plan",
            invoices.Party("org_1", "Ada"),
            lines=[invoices.Line("Starter", 19_000_000)],
            period=period,
            now=NOW,
            reference="first",
            plan="starter",
        )
        attempt = shop.payments.begin(
            session, org_id="org_1", purpose="plan", subject_id=invoice.id, amount=invoice.total, description="x"
        )
    customer = shop.customers.account("org_1", "ada@example.com").customer_ref
    assert customer is not None
    shop.gateway.charge(customer, 1900, idempotency_key=attempt.id, description="x", metadata={"attempt": attempt.id})
    shop.clock.advance(minutes=6)
    assert shop.payments.resume() == 1
    assert shop.plans == {"org_1": "starter"}
    assert [event[1] for event in shop.gateway.events()] == [shop.gateway.events()[0][1]]


def test_webhooks_in_any_order_and_number_have_one_effect(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "starter")
    with shop.database.read() as session:
        attempt = session.scalars(select(PaymentAttempt)).one()
    meta = {"attempt": attempt.id}
    charge_id = attempt.charge_id or ""
    refunded = GatewayEvent("e2", "charge.refunded", charge_id, NOW, meta)
    succeeded = GatewayEvent("e1", "charge.succeeded", charge_id, NOW, meta)
    assert [shop.payments.receive(event) for event in (refunded, succeeded, refunded)] == [True, True, False]
    assert shop.plans["org_1"] == "free"
    assert set(shop.balances().values()) == {0}


def test_an_event_about_somebody_elses_charge_is_kept_and_ignored(shop: Shop) -> None:
    event = GatewayEvent("e1", "charge.succeeded", "ch_unknown", NOW, {})
    assert shop.payments.receive(event) is False


def test_a_settled_attempt_is_not_changed_by_later_news(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "starter")
    with shop.database.write() as session:
        attempt = session.scalars(select(PaymentAttempt)).one()
        shop.payments.settle(session, attempt.id, Charge("ch_x", "failed", 1900, "card_declined"), NOW)
    assert shop.plans["org_1"] == "starter"


def test_an_invoice_is_a_pdf_with_its_number_and_the_same_bytes_each_time(shop: Shop) -> None:
    shop.card("card_ok")
    shop.subscriptions.choose("org_1", "starter")
    (invoice,) = shop.invoices()
    first = invoice_pdf.render_pdf(invoice, issuer="AgentCache")
    assert first.startswith(b"%PDF-")
    assert first == invoice_pdf.render_pdf(invoice, issuer="AgentCache")


@given(st.integers(1, 500_000_000), st.integers(1, 500_000_000), st.integers(0, 40 * 86_400))
def test_an_upgrade_never_costs_more_than_the_difference(old: int, more: int, seconds: int) -> None:
    terms = rules.started("starter", NOW)
    price = rules.upgrade_price(terms, old=old, new=old + more, now=NOW + timedelta(seconds=seconds))
    assert 0 <= price <= more
    assert price % 10_000 == 0


@pytest.mark.parametrize(("day", "next_day"), [((2026, 1, 31), (2026, 2, 28)), ((2026, 12, 15), (2027, 1, 15))])
def test_a_month_later_is_the_same_day_or_the_months_last(day: tuple[int, ...], next_day: tuple[int, ...]) -> None:
    assert rules.add_month(datetime(*day, tzinfo=UTC)) == datetime(*next_day, tzinfo=UTC)  # type: ignore[arg-type,misc]  # three parts


def once(shop: Shop, key: str | None, asked: Any, answers: list[int]) -> idempotency.Answer:
    def do() -> idempotency.Answer:
        answers.append(1)
        return 201, {"n": len(answers)}

    return idempotency.once(shop.database, shop.clock, org_id="org_1", route="buy", key=key, asked=asked, do=do)


def test_the_same_idempotency_key_answers_again_without_doing_again(shop: Shop) -> None:
    done: list[int] = []
    assert once(shop, "k", {"a": 1}, done) == once(shop, "k", {"a": 1}, done) == (201, {"n": 1})
    assert len(done) == 1


def test_the_same_idempotency_key_with_another_body_is_422(shop: Shop) -> None:
    once(shop, "k", {"a": 1}, [])
    with pytest.raises(Unprocessable, match="another body"):
        once(shop, "k", {"a": 2}, [])


def test_a_key_in_progress_is_a_conflict_and_a_refusal_frees_it(shop: Shop) -> None:
    def nested() -> idempotency.Answer:
        with pytest.raises(Conflict, match="in progress"):
            once(shop, "k", {"a": 1}, [])
        raise Unprocessable("no")

    with pytest.raises(Unprocessable, match="no"):
        idempotency.once(shop.database, shop.clock, org_id="org_1", route="buy", key="k", asked={"a": 1}, do=nested)
    assert once(shop, "k", {"a": 1}, []) == (201, {"n": 1})


def test_without_a_key_every_call_is_done_and_a_silly_key_is_refused(shop: Shop) -> None:
    done: list[int] = []
    once(shop, None, {}, done)
    once(shop, None, {}, done)
    assert len(done) == 2
    with pytest.raises(BadRequest):
        once(shop, "", {}, done)
