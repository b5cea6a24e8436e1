"""The money room's parts, built once per process from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.crypto import Vault
from agentcache_service.db import Database
from agentcache_service.identity.tables import Org
from agentcache_service.settings import Settings
from agentcache_service.usage.plans import Plans

from .customers import Customers
from .gateway import PaymentGateway
from .local_gateway import CARDS, LocalGateway
from .payments import Effect, Payments
from .stripe_gateway import StripeGateway
from .subscriptions import PURPOSE, PlanPayments, Subscriptions

ISSUER = "AgentCache"


@dataclass(frozen=True, slots=True)
class Money:
    """Who takes money, who knows the customers, who runs their plans."""

    gateway: PaymentGateway
    payments: Payments
    customers: Customers
    subscriptions: Subscriptions

    @property
    def test_cards(self) -> tuple[str, ...]:
        """The local gateway's test cards; none elsewhere."""
        return tuple(CARDS) if self.gateway.name == "local" else ()


def build_money(
    settings: Settings, database: Database, clock: Clock, *, vault: Vault, plans: Plans, effects: Mapping[str, Effect]
) -> Money:
    """Assemble the room; `effects` are those of purposes outside it, such as sales of the marketplace."""
    gateway = build_gateway(settings, clock, vault)
    payments = Payments(database, gateway, clock, {PURPOSE: PlanPayments(set_plan), **effects})
    subscriptions = Subscriptions(
        database, payments, clock, price=lambda plan: plan_price(plans, plan), set_plan=set_plan, name=org_name
    )
    return Money(gateway, payments, Customers(database, gateway, clock), subscriptions)


def build_gateway(settings: Settings, clock: Clock, vault: Vault) -> PaymentGateway:
    """The gateway the settings name."""
    if settings.payments == "stripe":
        assert settings.stripe_secret_key is not None
        assert settings.stripe_webhook_secret is not None
        return StripeGateway(
            settings.stripe_secret_key.get_secret_value(),
            webhook_secret=settings.stripe_webhook_secret.get_secret_value(),
            base=settings.stripe_api or None,
        )
    secret = vault.derive("local payments webhook").hex()
    return LocalGateway(settings.data_dir / "payments.db", secret=secret, now=clock.now)


def plan_price(plans: Plans, plan: str) -> int | None:
    """A plan's price per month in micro-USD; None when it is not sold by card or does not exist."""
    found = plans.by_name.get(plan)
    return None if found is None or found.price_from else found.price_micros


def set_plan(session: Session, org_id: str, plan: str) -> None:
    """Put a plan into force; a paid plan ends the trial."""
    org = session.get(Org, org_id)
    if org is not None:
        org.plan, org.trial_ends_at = plan, None


def org_name(session: Session, org_id: str) -> str:
    """The name printed on an organization's invoices."""
    org = session.get(Org, org_id)
    return org.name if org is not None else org_id
