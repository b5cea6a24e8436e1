"""Background work of the marketplace: renewals, usage charges, windows swept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import delete

from agentcache_service.jobs import Claim, JobFunction, Repeated, daily, hourly
from agentcache_service.service import Service

from . import purchases, usage_charges
from .tables import CallWindow

RENEW = "market.renew"
SETTLE = "market.settle"
SWEEP = "market.sweep"

REPEATED: tuple[Repeated, ...] = (Repeated(RENEW, hourly), Repeated(SETTLE, hourly), Repeated(SWEEP, daily))


def jobs(service: Service) -> Mapping[str, JobFunction]:
    """What does each kind of job of this area."""
    return {
        RENEW: partial(_renew, service),
        SETTLE: partial(_settle, service),
        SWEEP: partial(_sweep, service),
    }


def _renew(service: Service, _claim: Claim) -> None:
    purchases.renew_due(service)


def _settle(service: Service, _claim: Claim) -> None:
    usage_charges.settle_due(service)


def _sweep(service: Service, _claim: Claim) -> None:
    with service.db.write() as session:
        session.execute(delete(CallWindow).where(CallWindow.ends_at < service.clock.now()))
