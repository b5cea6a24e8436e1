"""The areas of the service: their routers, background jobs and repeated jobs, listed in one place.

A router module has `router` (an APIRouter whose every route wears a guard) and `ACCESS` (its rows of the access
matrix). An area that works in the background has `jobs(service)`: a mapping of job kinds to functions. A new area
adds its lines here, under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from fastapi import APIRouter

from agentcache_service import operations_routes, retention
from agentcache_service.cacheapi import (
    asset_routes,
    listener_routes,
    listeners,
    object_routes,
    prewarm,
    prewarm_routes,
    removal,
    schedules,
)
from agentcache_service.cacheapi import routes as cache_routes
from agentcache_service.identity import (
    account_routes,
    accounts,
    key_routes,
    org_routes,
    privacy,
    registration,
    session_routes,
)
from agentcache_service.jobs import JobFunction, Repeated, every_minute, hourly
from agentcache_service.mail import SEND_MAIL, SendMail
from agentcache_service.market import (
    admin_routes,
    affiliate_pages,
    affiliate_routes,
    creator_listing_pages,
    creator_pages,
    creator_routes,
    integration_pages,
    integration_routes,
    listing_routes,
    market_pages,
    purchase_routes,
)
from agentcache_service.market import jobs as market_jobs
from agentcache_service.matrix import Row
from agentcache_service.money import billing_pages
from agentcache_service.money import jobs as money_jobs
from agentcache_service.money import routes as billing_routes
from agentcache_service.service import Service
from agentcache_service.usage import alerts, report
from agentcache_service.usage import routes as usage_routes
from agentcache_service.usage.sweeping import SWEEP, sweep
from agentcache_service.web import account_pages, dashboard_pages, outbox_pages, public_pages
from agentcache_service.webhooks import delivery


class RouterModule(Protocol):
    """A module with a router and the access rows of its routes."""

    router: APIRouter
    ACCESS: tuple[Row, ...]


ROUTER_MODULES: tuple[RouterModule, ...] = (
    # cacheapi: the calls made most come first, for routes are tried in order
    cache_routes,
    # operations
    operations_routes,
    # identity
    account_routes,
    session_routes,
    key_routes,
    org_routes,
    # usage
    usage_routes,
    # cacheapi
    listener_routes,
    object_routes,
    prewarm_routes,
    asset_routes,
    # market
    listing_routes,
    purchase_routes,
    creator_routes,
    integration_routes,
    affiliate_routes,
    admin_routes,
    market_pages,
    creator_listing_pages,
    creator_pages,
    integration_pages,
    affiliate_pages,
    # money
    billing_routes,
    billing_pages,
    # web
    public_pages,
    dashboard_pages,
    account_pages,
    outbox_pages,
)

REPEATED: tuple[Repeated, ...] = (
    # usage
    Repeated(alerts.CHECK_LIMITS, every_minute),
    Repeated(alerts.CHECK_ANOMALIES, hourly),
    Repeated(report.WEEKLY, report.week_slot),
    Repeated(SWEEP, every_minute),
    # cacheapi
    Repeated(listeners.TICK, every_minute),
    Repeated(schedules.TICK, every_minute),
    # what has served its purpose
    Repeated(retention.PURGE, hourly),
    # market
    *market_jobs.REPEATED,
    # money
    *money_jobs.REPEATED,
)


SLOW_JOBS = frozenset(
    {prewarm.PREWARM, listeners.CHECK, delivery.DELIVER, privacy.WIPE, removal.EMPTY, *market_jobs.SLOW}
)
"""Jobs that wait for other people's servers, or take as long as somebody has stored things: a worker of their own does
them, so that mails, sweeps and books never wait for them."""


def job_functions(service: Service) -> Mapping[str, JobFunction]:
    """What does each kind of background job."""
    functions: dict[str, JobFunction] = {
        SEND_MAIL: SendMail(service.mail, service.vault, sender=service.settings.mail_from),
        accounts.RESET_REQUESTED: partial(accounts.do_reset_request, service),
        registration.RESEND_REQUESTED: partial(registration.do_resend_request, service),
        privacy.WIPE: partial(privacy.wipe, service),
        privacy.FORGET_PERSON: partial(privacy.forget_person, service),
        alerts.CHECK_LIMITS: partial(alerts.check_limits, service),
        alerts.CHECK_ANOMALIES: partial(alerts.check_anomalies, service),
        report.WEEKLY: partial(report.send_weekly, service),
        SWEEP: partial(sweep, service),
        listeners.TICK: partial(listeners.tick, service),
        listeners.CHECK: partial(listeners.check, service),
        schedules.TICK: partial(schedules.tick, service, prewarm.PREWARM),
        prewarm.PREWARM: partial(prewarm.run, service),
        removal.EMPTY: partial(removal.empty, service),
        retention.PURGE: partial(retention.purge, service, [job.kind for job in REPEATED if job.slot is every_minute]),
        delivery.DELIVER: partial(delivery.deliver, service, partial(listeners.webhook_gone, service)),
    }
    functions.update(market_jobs.jobs(service))
    functions.update(money_jobs.jobs(service))
    return functions
