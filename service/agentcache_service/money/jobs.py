"""Background work of money: renewals and dunning, lost outcomes, payouts, the local gateway's events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from agentcache_service.jobs import Claim, JobFunction, Repeated, every_minute, hourly
from agentcache_service.service import Service

from . import payouts
from .billing_tables import BillingAccount
from .local_gateway import LocalGateway

RENEW = "money.renew"
RESUME = "money.resume"
PAY_OUT = "money.payout"
LOCAL_EVENTS = "money.local_events"
FORGET = "money.forget"
RENAME = "money.rename"

REPEATED: tuple[Repeated, ...] = (
    Repeated(RENEW, hourly),
    Repeated(RESUME, every_minute),
    Repeated(LOCAL_EVENTS, every_minute),
)


def jobs(service: Service) -> Mapping[str, JobFunction]:
    """What does each kind of job of this area."""
    return {
        RENEW: partial(_renew, service),
        RESUME: partial(_resume, service),
        PAY_OUT: partial(_pay_out, service),
        LOCAL_EVENTS: partial(deliver_local_events, service),
        FORGET: partial(_forget, service),
        RENAME: partial(_rename, service),
    }


def _renew(service: Service, _claim: Claim) -> None:
    service.money.subscriptions.advance()


def _resume(service: Service, _claim: Claim) -> None:
    service.money.payments.resume()


def _pay_out(service: Service, claim: Claim) -> None:
    payouts.send(service.db, service.money.gateway, service.clock, str(claim.payload["payout"]))


def _forget(service: Service, claim: Claim) -> None:
    service.money.gateway.forget(customer=claim.payload["customer"], payee=claim.payload["payee"])


def _rename(service: Service, claim: Claim) -> None:
    """Tell the gateway the address an organization's account has now; an account that is gone needs none."""
    with service.db.read() as session:
        account = session.get(BillingAccount, claim.org_id)
    if account is not None and account.customer_ref is not None:
        service.money.gateway.rename(account.customer_ref, email=account.email)


def deliver_local_events(service: Service, _claim: Claim | None = None) -> None:
    """Hand the local gateway's signed events to where a real gateway's arrive."""
    gateway = service.money.gateway
    if not isinstance(gateway, LocalGateway):
        return
    for position, body, signature in gateway.events():
        service.money.payments.receive(gateway.parse_event(body, signature, now=service.clock.now()))
        gateway.acknowledge(position)
