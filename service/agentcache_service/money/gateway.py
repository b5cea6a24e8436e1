"""The payment gateway port: what the service asks of whoever moves real money.

Amounts at this seam are whole cents of US dollars, because that is what card networks move; the ledger inside
counts micro-USD. Every call that moves money carries an idempotency key: the same key again answers with the first
result, the same key with other figures raises `GatewayConflict`. A refused card is a result (`status="failed"`),
never an exception. Calls must be made outside database transactions: they take time, and a result lost between the
gateway and us is found again under its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

ChargeStatus = Literal["succeeded", "failed"]
TransferStatus = Literal["paid", "pending", "failed"]
EventKind = Literal[
    "charge.succeeded",
    "charge.failed",
    "charge.refunded",
    "dispute.opened",
    "dispute.won",
    "dispute.lost",
    "payout.paid",
    "payout.failed",
    "ignored",
]


class GatewayError(Exception):
    """The gateway refused the call or could not be reached; nothing is known to have moved."""


class GatewayConflict(GatewayError):
    """An idempotency key was used again for something else."""


class SignatureRefused(GatewayError):
    """A webhook's signature is missing, wrong or too old."""


@dataclass(frozen=True, slots=True)
class Card:
    """A stored payment method as we may show it."""

    id: str
    brand: str
    last4: str


@dataclass(frozen=True, slots=True)
class CardSetup:
    """Where a customer enters a card: a page of the gateway, or None when our own form does it."""

    url: str | None


@dataclass(frozen=True, slots=True)
class Charge:
    """The outcome of asking for money. `failure` is a code such as `card_declined` when `status` is "failed"."""

    id: str
    status: ChargeStatus
    amount: int
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """The outcome of returning a charge; `amount` in cents."""

    id: str
    charge: str
    amount: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """The outcome of paying somebody out."""

    id: str
    status: TransferStatus
    amount: int
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """A verified webhook. `object_id` is the charge or payout it is about; `created` is the gateway's time."""

    id: str
    kind: EventKind
    object_id: str
    created: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


class PaymentGateway(Protocol):
    """Who holds cards, charges, refunds and pays out. Implementations are safe to call from several threads."""

    name: str

    def create_customer(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """The gateway's id of a customer of ours."""
        ...

    def card_setup(self, customer: str, *, return_url: str) -> CardSetup:
        """Begin storing a card without its number ever reaching us."""
        ...

    def attach_card(self, customer: str, token: str, *, idempotency_key: str) -> Card:
        """Store the card a token stands for as the customer's default; `GatewayError` when the token is unknown."""
        ...

    def charge(
        self, customer: str, amount: int, *, idempotency_key: str, description: str, metadata: Mapping[str, str]
    ) -> Charge:
        """Take an amount in cents from the customer's default card."""
        ...

    def refund(self, charge: str, amount: int, *, idempotency_key: str) -> Refund:
        """Return an amount in cents of a charge; `GatewayError` when more than is left is asked for."""
        ...

    def create_payee(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """The gateway's id of somebody we pay out to."""
        ...

    def pay_out(self, payee: str, amount: int, *, idempotency_key: str) -> Transfer:
        """Send an amount in cents to a payee."""
        ...

    def rename(self, customer: str, *, email: str) -> None:
        """Give a customer another address; `GatewayError` when the gateway does not know the customer."""
        ...

    def forget(self, *, customer: str | None, payee: str | None) -> None:
        """Erase a customer with their cards, and a payee. Those the gateway no longer knows are no error."""
        ...

    def parse_event(self, body: bytes, signature: str, *, now: datetime) -> GatewayEvent:
        """The event in a webhook, once its signature and age are checked; `SignatureRefused` otherwise."""
        ...


def event_object(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object a webhook is about, from the envelope both gateways use; `GatewayError` when there is none."""
    try:
        found = payload["data"]["object"]
    except (KeyError, TypeError) as error:
        raise GatewayError("the webhook names no object") from error
    if not isinstance(found, Mapping):
        raise GatewayError("the webhook's object is not a mapping")
    return found
