"""The Stripe gateway: the official SDK behind the port.

Proven against a local program that speaks part of Stripe's API and against a strict recorded counterpart of ours;
Checkout, Connect and idempotency have not met the real Stripe (see docs/partners.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import stripe

from .gateway import (
    Card,
    CardSetup,
    Charge,
    EventKind,
    GatewayConflict,
    GatewayError,
    GatewayEvent,
    Refund,
    Transfer,
    event_object,
)
from .webhook_signature import check

T = TypeVar("T")

_EVENTS: Mapping[str, EventKind] = {
    "payment_intent.succeeded": "charge.succeeded",
    "payment_intent.payment_failed": "charge.failed",
    "charge.refunded": "charge.refunded",
    "charge.dispute.created": "dispute.opened",
    "payout.paid": "payout.paid",
    "payout.failed": "payout.failed",
}


class StripeGateway:
    """Stripe through `stripe.StripeClient`. `base` points the SDK at another server that speaks the same API."""

    name = "stripe"

    def __init__(self, api_key: str, *, webhook_secret: str, base: str | None = None) -> None:
        addresses: Any = {"api": base} if base else {}
        self._client = stripe.StripeClient(api_key, base_addresses=addresses, max_network_retries=2)
        self._secret = webhook_secret

    def create_customer(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """A customer whose metadata carries our reference."""
        return _call(
            lambda: self._client.v1.customers.create(
                {"email": email, "metadata": {"reference": reference}}, {"idempotency_key": idempotency_key}
            )
        ).id

    def card_setup(self, customer: str, *, return_url: str) -> CardSetup:
        """A Checkout page that stores a card; the card number never reaches us."""
        session = _call(
            lambda: self._client.v1.checkout.sessions.create(
                {
                    "mode": "setup",
                    "customer": customer,
                    "success_url": return_url,
                    "cancel_url": return_url,
                    "currency": "usd",
                }
            )
        )
        return CardSetup(session.url)

    def attach_card(self, customer: str, token: str, *, idempotency_key: str) -> Card:
        """Attach a payment method and make it the default for what we charge."""
        method = _call(
            lambda: self._client.v1.payment_methods.attach(
                token, {"customer": customer}, {"idempotency_key": idempotency_key}
            )
        )
        _call(
            lambda: self._client.v1.customers.update(
                customer, {"invoice_settings": {"default_payment_method": method.id}}
            )
        )
        card = method.card
        return Card(method.id, card.brand if card else "card", card.last4 if card else "····")

    def charge(
        self, customer: str, amount: int, *, idempotency_key: str, description: str, metadata: Mapping[str, str]
    ) -> Charge:
        """A confirmed off-session payment intent; its id is the charge's id here."""
        method = self._default_method(customer)
        if method is None:
            return Charge("", "failed", amount, "no_card")
        try:
            intent = self._client.v1.payment_intents.create(
                {
                    "customer": customer,
                    "amount": amount,
                    "currency": "usd",
                    "payment_method": method,
                    "confirm": True,
                    "off_session": True,
                    "metadata": {**metadata, "description": description},
                },
                {"idempotency_key": idempotency_key},
            )
        except stripe.CardError as error:
            intent_id = _intent_of(error)
            return Charge(intent_id, "failed", amount, error.code or "card_declined")
        except stripe.StripeError as error:
            raise _translated(error) from error
        if intent.status == "succeeded":
            return Charge(intent.id, "succeeded", amount)
        return Charge(intent.id, "failed", amount, str(intent.status))

    def refund(self, charge: str, amount: int, *, idempotency_key: str) -> Refund:
        """A refund of a payment intent."""
        made = _call(
            lambda: self._client.v1.refunds.create(
                {"payment_intent": charge, "amount": amount}, {"idempotency_key": idempotency_key}
            )
        )
        return Refund(made.id, charge, made.amount)

    def create_payee(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """An Express account that may receive transfers."""
        return _call(
            lambda: self._client.v1.accounts.create(
                {
                    "type": "express",
                    "email": email,
                    "metadata": {"reference": reference},
                    "capabilities": {"transfers": {"requested": True}},
                },
                {"idempotency_key": idempotency_key},
            )
        ).id

    def pay_out(self, payee: str, amount: int, *, idempotency_key: str) -> Transfer:
        """A transfer to the payee's account; Stripe pays it out from there on its own schedule."""
        made = _call(
            lambda: self._client.v1.transfers.create(
                {"amount": amount, "currency": "usd", "destination": payee}, {"idempotency_key": idempotency_key}
            )
        )
        return Transfer(made.id, "paid", made.amount)

    def rename(self, customer: str, *, email: str) -> None:
        """Update the customer's address."""
        _call(lambda: self._client.v1.customers.update(customer, {"email": email}))

    def forget(self, *, customer: str | None, payee: str | None) -> None:
        """Delete the customer and the Express account. Stripe keeps what its own books need."""
        if customer is not None:
            _call_unless_gone(lambda: self._client.v1.customers.delete(customer))
        if payee is not None:
            _call_unless_gone(lambda: self._client.v1.accounts.delete(payee))

    def parse_event(self, body: bytes, signature: str, *, now: datetime) -> GatewayEvent:
        """Check and read a webhook. Disputes name their payment intent, which is what we call the charge."""
        check(body, signature, self._secret, now=now)
        payload = json.loads(body)
        about = event_object(payload)
        kind = _EVENTS.get(payload["type"], "ignored")
        if payload["type"] == "charge.dispute.closed":
            kind = "dispute.won" if about.get("status") in {"won", "warning_closed"} else "dispute.lost"
        object_id = about["id"]
        if kind.startswith(("charge.", "dispute.")) and about.get("object") != "payment_intent":
            object_id = about.get("payment_intent") or about["id"]
        created = datetime.fromtimestamp(payload["created"], UTC)
        return GatewayEvent(payload["id"], kind, object_id, created, dict(about.get("metadata") or {}))

    def _default_method(self, customer: str) -> str | None:
        found = _call(lambda: self._client.v1.customers.retrieve(customer))
        chosen = found.invoice_settings.default_payment_method if found.invoice_settings else None
        return chosen if isinstance(chosen, str) or chosen is None else chosen.id


def _call(call: Callable[[], T]) -> T:
    try:
        return call()
    except stripe.StripeError as error:
        raise _translated(error) from error


def _call_unless_gone(call: Callable[[], Any]) -> None:
    try:
        call()
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise _translated(error) from error
    except stripe.StripeError as error:
        raise _translated(error) from error


def _translated(error: stripe.StripeError) -> GatewayError:
    if isinstance(error, stripe.IdempotencyError):
        return GatewayConflict("this idempotency key was used for another call")
    return GatewayError(error.user_message or error.code or type(error).__name__)


def _intent_of(error: stripe.CardError) -> str:
    """The id of the payment intent a refused card leaves behind, where the answer names it."""
    body = error.json_body if isinstance(error.json_body, Mapping) else {}
    intent = body.get("error", {}).get("payment_intent") or {}
    return str(intent.get("id", ""))
