"""Forwarding to monitoring partners: lookups leave in batches, in the background, again and again until they arrive.

A call never waits for this: lookups are noted in memory (`tap`), written down by the process that answered them, and
sent by a job of whichever process takes it. A batch that is not accepted is tried again with growing pauses and given
up after a day.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from agentcache_service.errors import ServiceError
from agentcache_service.orm import new_id
from agentcache_service.service import Service

from . import connections, partner_checks
from .integration_tables import Connection, ForwardEvent
from .partner_catalog import Partner
from .tap import Lookup

MAX_ATTEMPTS = 10
FIRST_PAUSE = timedelta(seconds=30)


def collect(service: Service) -> None:
    """Count what this process noted for its connections, and write down what is to be forwarded."""
    lookups = service.market.tap.drain()
    if lookups:
        _count(service, lookups)
        _write_down(service, lookups)


def flush(service: Service) -> int:
    """Collect, then send what is due, whoever wrote it down; events sent."""
    collect(service)
    return sum(_send(service, partner) for partner in _forwarders(service))


def _forwarders(service: Service) -> list[Partner]:
    return [partner for partner in service.market.catalog.by_slug.values() if partner.forward_path]


def _count(service: Service, lookups: list[Lookup]) -> None:
    """Add lookups of a connected partner's answers to that connection: `Cached N Replicate calls`."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for lookup in lookups:
        if lookup.provider in service.market.catalog.by_slug:
            figures = sums[lookup.org_id, lookup.provider]
            figures[0] += lookup.hit
            figures[1] += not lookup.hit
            figures[2] += lookup.saved
    if not sums:
        return
    with service.db.write() as session:
        for (org_id, slug), (hits, misses, saved) in sums.items():
            connections.note_use(session, org_id, slug, hits=hits, misses=misses, saved=saved, service=service)


def _write_down(service: Service, lookups: list[Lookup]) -> None:
    now = service.clock.now()
    slugs = [partner.slug for partner in _forwarders(service)]
    query = select(Connection.org_id, Connection.partner).where(
        Connection.partner.in_(slugs), Connection.sealed.is_not(None)
    )
    listening: defaultdict[str, list[str]] = defaultdict(list)
    with service.db.read() as session:
        for org_id, slug in session.execute(query):
            listening[org_id].append(slug)
    if not any(lookup.org_id in listening for lookup in lookups):
        return
    with service.db.write() as session:
        session.add_all(
            ForwardEvent(
                id=new_id("fwd"),
                org_id=lookup.org_id,
                partner=slug,
                body=_body(lookup),
                at=lookup.at,
                attempts=0,
                retry_at=now,
            )
            for lookup in lookups
            for slug in listening.get(lookup.org_id, ())
        )


def _body(lookup: Lookup) -> dict[str, Any]:
    return {
        "timestamp": lookup.at.isoformat(),
        "provider": lookup.provider or "generic",
        "model": lookup.model,
        "cache": "hit" if lookup.hit else "miss",
        "latency_ms": round(lookup.milliseconds, 3),
        "saved_usd_micros": lookup.saved,
    }


def _send(service: Service, partner: Partner) -> int:
    """Send the due events of a partner, one batch per organization after the other."""
    now = service.clock.now()
    sent = 0
    query = (
        select(ForwardEvent)
        .where(ForwardEvent.partner == partner.slug, ForwardEvent.retry_at <= now)
        .order_by(ForwardEvent.org_id, ForwardEvent.at, ForwardEvent.id)
        .limit(partner.forward_batch * 20)
    )
    with service.db.read() as session:
        due = list(session.scalars(query))
    by_org: defaultdict[str, list[ForwardEvent]] = defaultdict(list)
    for event in due:
        by_org[event.org_id].append(event)
    for org_id, events in by_org.items():
        for start in range(0, len(events), partner.forward_batch):
            batch = events[start : start + partner.forward_batch]
            if not _send_batch(service, partner, org_id, batch):
                break
            sent += len(batch)
    return sent


def _send_batch(service: Service, partner: Partner, org_id: str, batch: list[ForwardEvent]) -> bool:
    names = [event.id for event in batch]
    try:
        key = connections.credential(service, org_id, partner.slug).bearer
        body = {"batch_id": names[0], "events": [{"id": event.id, **event.body} for event in batch]}
        got = partner_checks.ask(
            service,
            "POST",
            partner.api_base + partner.forward_path,
            bearer=key,
            body=body,
            headers={"idempotency-key": names[0]},
        )
        accepted = 200 <= got.status < 300
        trouble = "" if accepted else f"{partner.name} answered {got.status}"
    except ServiceError as error:
        accepted, trouble = False, error.message
    with service.db.write() as session:
        if accepted:
            session.execute(delete(ForwardEvent).where(ForwardEvent.id.in_(names)))
            connections.note_use(
                session,
                org_id,
                partner.slug,
                hits=_hits(batch),
                misses=len(batch) - _hits(batch),
                saved=sum(event.body["saved_usd_micros"] for event in batch),
                service=service,
            )
        else:
            session.execute(
                delete(ForwardEvent).where(ForwardEvent.id.in_(names), ForwardEvent.attempts + 1 >= MAX_ATTEMPTS)
            )
            pause = FIRST_PAUSE * 2 ** batch[0].attempts
            session.execute(
                update(ForwardEvent)
                .where(ForwardEvent.id.in_(names))
                .values(attempts=ForwardEvent.attempts + 1, retry_at=service.clock.now() + pause)
            )
        session.execute(
            update(Connection)
            .where(Connection.org_id == org_id, Connection.partner == partner.slug)
            .values(trouble=trouble[:500])
        )
    return accepted


def _hits(batch: list[ForwardEvent]) -> int:
    return sum(event.body["cache"] == "hit" for event in batch)
