"""Health checks of model listings: is the endpoint there, how fast, and is its fallback used when it is not."""

from __future__ import annotations

import time

from sqlalchemy import select, update

from agentcache_service.errors import ServiceError
from agentcache_service.safe_http import Caps
from agentcache_service.service import Service

from . import credentials, notices
from .tables import Listing

CAPS = Caps(max_bytes=256 << 10, seconds=10.0, hops=0)
TOLD_BELOW = 0.9
LEAST_CHECKS = 10


def check_all(service: Service) -> tuple[int, int]:
    """Check every model on sale; how many answered, and how many were asked."""
    with service.db.read() as session:
        names = list(session.scalars(select(Listing.id).where(Listing.status == "active", Listing.kind == "model")))
    answered = sum(check(service, name) for name in names)
    return answered, len(names)


def check(service: Service, listing_id: str) -> bool:
    """Ask one model's endpoint, then its fallback; any answer below 500 counts as there. Written to the listing."""
    with service.db.read() as session:
        row = session.get_one(Listing, listing_id)
        try:
            creds = credentials.open_for(service, session, row)
        except ServiceError:
            creds = None
    milliseconds = None
    for base in (creds.endpoint, creds.fallback) if creds is not None else ():
        if base is not None and creds is not None:
            milliseconds = _ask(service, base, creds.api_key)
        if milliseconds is not None:
            break
    is_there = milliseconds is not None
    with service.db.write() as session:
        session.execute(
            update(Listing)
            .where(Listing.id == listing_id)
            .values(
                checks=Listing.checks + 1,
                checks_ok=Listing.checks_ok + int(is_there),
                check_ms=Listing.check_ms + (milliseconds or 0),
            )
        )
        session.flush()
        row = session.get_one(Listing, listing_id, populate_existing=True)
        if not is_there and row.checks >= LEAST_CHECKS and row.checks_ok < row.checks * TOLD_BELOW:
            notices.tell_org(
                service,
                session,
                row.org_id,
                template="market_unreachable",
                context={"name": row.name},
                dedupe=f"unreachable:{row.id}:{service.clock.now():%Y-%m-%d}",
            )
    return is_there


def _ask(service: Service, base: str, api_key: str) -> int | None:
    """The milliseconds an endpoint takes to answer, or None when it does not."""
    started = time.perf_counter()
    try:
        got = service.outgoing.fetch(
            "GET", f"{base}/models", headers={"authorization": f"Bearer {api_key}"}, caps=CAPS, follow=False
        )
    except ServiceError:
        return None
    return round((time.perf_counter() - started) * 1000) if got.status < 500 else None
