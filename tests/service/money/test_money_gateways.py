"""One contract for every payment gateway: local, Stripe's SDK against a strict counterpart, and against localstripe."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentcache_service.money.gateway import GatewayConflict, GatewayError, PaymentGateway, SignatureRefused
from agentcache_service.money.local_gateway import LocalGateway
from agentcache_service.money.webhook_signature import sign

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECRET = "whsec_test"
_serial = count()


def key() -> str:
    return f"test-{next(_serial)}-{id(object())}"


def customer_with(gateway: PaymentGateway, local: str, theirs: str) -> str:
    customer = gateway.create_customer(reference="org_1", email="ada@example.com", idempotency_key=key())
    token = local if gateway.name == "local" else theirs
    card = gateway.attach_card(customer, token, idempotency_key=key())
    assert len(card.last4) == 4
    return customer


def charge(gateway: PaymentGateway, customer: str, amount: int = 1900, *, name: str | None = None) -> Any:
    return gateway.charge(
        customer, amount, idempotency_key=name or key(), description="Starter", metadata={"purchase": "pur_1"}
    )


def test_a_good_card_is_charged(gateway: PaymentGateway) -> None:
    made = charge(gateway, customer_with(gateway, "card_ok", "pm_card_visa"))
    assert (made.status, made.amount, made.failure) == ("succeeded", 1900, None)
    assert made.id


def test_a_charge_is_returned_in_parts(gateway: PaymentGateway) -> None:
    made = charge(gateway, customer_with(gateway, "card_ok", "pm_card_visa"))
    assert gateway.refund(made.id, 900, idempotency_key=key()).amount == 900
    assert gateway.refund(made.id, 1000, idempotency_key=key()).amount == 1000


def test_more_than_a_charge_cannot_be_returned(honours_keys: PaymentGateway) -> None:
    made = charge(honours_keys, customer_with(honours_keys, "card_ok", "pm_card_visa"))
    with pytest.raises(GatewayError):
        honours_keys.refund(made.id, 1901, idempotency_key=key())


def test_a_customer_without_a_card_is_a_failed_charge(gateway: PaymentGateway) -> None:
    customer = gateway.create_customer(reference="org_2", email="bob@example.com", idempotency_key=key())
    made = charge(gateway, customer)
    assert (made.status, made.failure) == ("failed", "no_card")


def test_an_unknown_card_cannot_be_attached(gateway: PaymentGateway) -> None:
    customer = gateway.create_customer(reference="org_2", email="bob@example.com", idempotency_key=key())
    with pytest.raises(GatewayError):
        gateway.attach_card(customer, "pm_card_nonsense", idempotency_key=key())


def test_a_refused_card_is_a_result_and_not_an_exception(honours_keys: PaymentGateway) -> None:
    made = charge(honours_keys, customer_with(honours_keys, "card_declined", "pm_card_chargeDeclined"))
    assert (made.status, made.failure) == ("failed", "card_declined")


def test_the_same_key_charges_once(honours_keys: PaymentGateway) -> None:
    customer = customer_with(honours_keys, "card_ok", "pm_card_visa")
    name = key()
    first = charge(honours_keys, customer, name=name)
    assert charge(honours_keys, customer, name=name) == first


def test_the_same_key_for_another_amount_is_a_conflict(honours_keys: PaymentGateway) -> None:
    customer = customer_with(honours_keys, "card_ok", "pm_card_visa")
    name = key()
    charge(honours_keys, customer, name=name)
    with pytest.raises(GatewayConflict):
        charge(honours_keys, customer, 2000, name=name)


def test_a_payee_is_paid_once_per_key(honours_keys: PaymentGateway) -> None:
    payee = honours_keys.create_payee(reference="org_3", email="cyd@example.com", idempotency_key=key())
    name = key()
    first = honours_keys.pay_out(payee, 5000, idempotency_key=name)
    assert first.status == "paid"
    assert honours_keys.pay_out(payee, 5000, idempotency_key=name) == first


def test_a_card_is_entered_on_the_gateways_page_or_on_our_form(honours_keys: PaymentGateway) -> None:
    customer = honours_keys.create_customer(reference="org_4", email="dee@example.com", idempotency_key=key())
    page = honours_keys.card_setup(customer, return_url="https://app.example/dashboard/billing").url
    assert page is None if honours_keys.name == "local" else str(page).startswith("https://checkout.stripe.com/")


def event_body(kind: str = "charge.refunded") -> bytes:
    about = {"id": "ch_1", "payment_intent": "pi_1", "object": "charge", "metadata": {"purchase": "pur_1"}}
    return json.dumps({"id": "evt_1", "type": kind, "created": 1_790_000_000, "data": {"object": about}}).encode()


def test_a_signed_event_is_read(gateway: PaymentGateway) -> None:
    body = event_body()
    event = gateway.parse_event(body, sign(body, SECRET, at=NOW), now=NOW)
    assert (event.id, event.kind, event.metadata["purchase"]) == ("evt_1", "charge.refunded", "pur_1")
    assert event.object_id == ("ch_1" if gateway.name == "local" else "pi_1")


def test_an_event_of_an_unknown_kind_is_ignored_and_not_an_error(gateway: PaymentGateway) -> None:
    body = event_body("customer.tax_id.created")
    assert gateway.parse_event(body, sign(body, SECRET, at=NOW), now=NOW).kind == "ignored"


@pytest.mark.parametrize("damage", ["secret", "body", "age", "missing", "garbage"])
def test_an_event_that_is_not_surely_the_gateways_is_refused(gateway: PaymentGateway, damage: str) -> None:
    body = event_body()
    header = sign(body, "whsec_other" if damage == "secret" else SECRET, at=NOW)
    sent = body.replace(b"evt_1", b"evt_2") if damage == "body" else body
    header = {"missing": "", "garbage": "t=x,v1=zz"}.get(damage, header)
    now = NOW + timedelta(minutes=6) if damage == "age" else NOW
    with pytest.raises(SignatureRefused):
        gateway.parse_event(sent, header, now=now)


def test_the_local_gateways_own_events_verify_and_name_their_purchase(tmp_path: Any) -> None:
    local = LocalGateway(tmp_path / "p.sqlite", secret=SECRET, now=lambda: NOW)
    made = charge(local, customer_with(local, "card_disputed", ""))
    local.decide_dispute(made.id, won=False)
    kinds = [local.parse_event(body, header, now=NOW).kind for _position, body, header in local.events()]
    assert kinds == ["charge.succeeded", "dispute.opened", "dispute.lost"]
    assert [position for position, *_ in local.events(after=1)] == [2, 3]


def test_a_card_that_fails_later_works_once(tmp_path: Any) -> None:
    local = LocalGateway(tmp_path / "p.sqlite", secret=SECRET, now=lambda: NOW)
    customer = customer_with(local, "card_fails_later", "")
    assert [charge(local, customer).status for _ in range(3)] == ["succeeded", "failed", "failed"]


def test_a_payout_to_a_failing_payee_fails_and_says_why(tmp_path: Any) -> None:
    local = LocalGateway(tmp_path / "p.sqlite", secret=SECRET, now=lambda: NOW)
    payee = local.create_payee(reference="org_3", email="fails@example.com", idempotency_key=key())
    sent = local.pay_out(payee, 100, idempotency_key=key())
    assert (sent.status, sent.failure) == ("failed", "account_closed")


def test_a_forgotten_customer_and_payee_are_gone_and_forgetting_again_is_no_error(honours_keys: PaymentGateway) -> None:
    customer = customer_with(honours_keys, "card_ok", "pm_card_visa")
    paid = charge(honours_keys, customer)
    payee = honours_keys.create_payee(reference="org_1", email="ada@example.com", idempotency_key=key())
    honours_keys.rename(customer, email="bob@example.com")
    for _ in range(2):
        honours_keys.forget(customer=customer, payee=payee)
    honours_keys.forget(customer=None, payee=None)
    with pytest.raises(GatewayError):
        charge(honours_keys, customer)
    with pytest.raises(GatewayError):
        honours_keys.pay_out(payee, 100, idempotency_key=key())
    with pytest.raises(GatewayError):
        honours_keys.rename(customer, email="eve@example.com")
    assert honours_keys.refund(paid.id, 1900, idempotency_key=key()).amount == 1900


def test_the_local_gateway_forgets_in_its_file_as_well(tmp_path: Path) -> None:
    local = LocalGateway(tmp_path / "payments.db", secret=SECRET, now=lambda: NOW)
    customer = local.create_customer(reference="org_1", email="ada@example.com", idempotency_key="one")
    local.attach_card(customer, "card_ok", idempotency_key="two")
    local.rename(customer, email="lovelace@example.com")
    payee = local.create_payee(reference="org_1", email="ada@example.com", idempotency_key="three")
    assert b"ada@" in (tmp_path / "payments.db").read_bytes()
    local.forget(customer=customer, payee=payee)
    kept = (tmp_path / "payments.db").read_bytes()
    assert b"ada@" not in kept
    assert b"lovelace@" not in kept
