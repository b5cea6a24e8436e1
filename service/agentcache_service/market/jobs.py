"""Background work of the marketplace: renewals, usage charges, windows swept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy import delete, update

from agentcache_service.jobs import Claim, JobFunction, Repeated, daily, every_minute, hourly
from agentcache_service.jobs_tables import Job
from agentcache_service.money.finance import month_of
from agentcache_service.service import Service

from . import affiliates, connections, forwarding, health, partner_jobs, purchases, usage_charges
from .tables import CallWindow

RENEW = "market.renew"
SETTLE = "market.settle"
SWEEP = "market.sweep"
PARTNERS = "integrations.advance"
FORWARD = "integrations.forward"
APPROVE = "affiliates.approve"
INVOICE = "affiliates.invoice"
HEALTH = "market.health"

SLOW = frozenset({PARTNERS, FORWARD, HEALTH, connections.REVOKE})
"""Kinds that wait for partners' and creators' servers."""

REPEATED: tuple[Repeated, ...] = (
    Repeated(RENEW, hourly),
    Repeated(SETTLE, hourly),
    Repeated(SWEEP, daily),
    Repeated(PARTNERS, every_minute),
    Repeated(FORWARD, every_minute),
    Repeated(APPROVE, every_minute),
    Repeated(INVOICE, daily),
    Repeated(HEALTH, hourly),
)


def jobs(service: Service) -> Mapping[str, JobFunction]:
    """What does each kind of job of this area."""
    return {
        RENEW: partial(_renew, service),
        SETTLE: partial(_settle, service),
        SWEEP: partial(_sweep, service),
        PARTNERS: partial(_advance, service),
        FORWARD: partial(_forward, service),
        APPROVE: partial(_approve, service),
        INVOICE: partial(_invoice, service),
        HEALTH: partial(_check_health, service),
        connections.REVOKE: partial(_revoke, service),
    }


def _renew(service: Service, _claim: Claim) -> None:
    purchases.renew_due(service)


def _settle(service: Service, _claim: Claim) -> None:
    usage_charges.settle_due(service)


def _sweep(service: Service, _claim: Claim) -> None:
    with service.db.write() as session:
        session.execute(delete(CallWindow).where(CallWindow.ends_at < service.clock.now()))


def _advance(service: Service, _claim: Claim) -> None:
    partner_jobs.advance(service)


def _forward(service: Service, _claim: Claim) -> None:
    forwarding.flush(service)


def _approve(service: Service, _claim: Claim) -> None:
    affiliates.approve_due(service)
    affiliates.settle_finished_payouts(service)


def _invoice(service: Service, _claim: Claim) -> None:
    """Invoice last month's commissions, from its end on."""
    this_month = month_of(None, service.clock.now())
    affiliates.invoice_partners(service, month_of(None, this_month.start - timedelta(days=1)))


def _revoke(service: Service, claim: Claim) -> None:
    slug, org_id = str(claim.payload["partner"]), claim.org_id
    sealed = bytes.fromhex(str(claim.payload["sealed"]))
    tokens = json.loads(service.vault.open(sealed, place=f"{org_id}/{slug}/revoke"))
    connections.revoke_tokens(service, slug, tokens)
    with service.db.write() as session:  # done: what could open the tokens goes as well
        session.execute(update(Job).where(Job.id == claim.id).values(payload={"partner": slug}))


def _check_health(service: Service, _claim: Claim) -> None:
    health.check_all(service)
