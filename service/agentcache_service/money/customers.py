"""Organizations as the gateway's customers and payees: created when first needed, cards stored by token."""

from __future__ import annotations

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.errors import Unprocessable

from .billing_tables import BillingAccount
from .gateway import Card, CardSetup, GatewayError, PaymentGateway


class Customers:
    """Keeps the gateway's names for our organizations."""

    def __init__(self, database: Database, gateway: PaymentGateway, clock: Clock) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock

    def account(self, org_id: str, email: str) -> BillingAccount:
        """The organization's account, with a customer at the gateway."""
        with self._database.write() as session:
            row = session.get(BillingAccount, org_id)
            if row is None:
                row = BillingAccount(
                    org_id=org_id, gateway=self._gateway.name, email=email, created_at=self._clock.now()
                )
                session.add(row)
        if row.customer_ref is None:
            key = f"customer-{org_id}-{self._gateway.name}"
            made = self._gateway.create_customer(reference=org_id, email=row.email, idempotency_key=key)
            with self._database.write() as session:
                row = session.get_one(BillingAccount, org_id)
                row.customer_ref = row.customer_ref or made
        return row

    def card_setup(self, org_id: str, email: str, *, return_url: str) -> CardSetup:
        """Where the organization enters its card."""
        account = self.account(org_id, email)
        assert account.customer_ref is not None
        return self._gateway.card_setup(account.customer_ref, return_url=return_url)

    def attach_card(self, org_id: str, email: str, *, card: str, key: str) -> Card:
        """Store the card a gateway token stands for; `Unprocessable` when the gateway does not know the token."""
        account = self.account(org_id, email)
        assert account.customer_ref is not None
        try:
            stored = self._gateway.attach_card(account.customer_ref, card, idempotency_key=key)
        except GatewayError as error:
            raise Unprocessable(f"The card was not stored: {error}", code="card_refused") from error
        with self._database.write() as session:
            row = session.get_one(BillingAccount, org_id)
            row.card_brand, row.card_last4 = stored.brand, stored.last4
        return stored

    def payee(self, org_id: str, email: str) -> str:
        """The organization's payee at the gateway, paid at `email`."""
        self.account(org_id, email)
        with self._database.read() as session:
            row = session.get_one(BillingAccount, org_id)
        if row.payee_ref is not None and row.payee_email == email:
            return row.payee_ref
        made = self._gateway.create_payee(reference=org_id, email=email, idempotency_key=f"payee-{org_id}-{email}")
        with self._database.write() as session:
            row = session.get_one(BillingAccount, org_id)
            row.payee_ref, row.payee_email = made, email
        return made
