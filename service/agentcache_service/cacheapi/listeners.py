"""Listeners: addresses watched for change. A change invalidates what was made from them and calls a signed webhook."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.cacheapi import calls
from agentcache_service.cacheapi.place import Place
from agentcache_service.cacheapi.tables import Listener
from agentcache_service.errors import NotFound, ServiceError, Unprocessable
from agentcache_service.identity import orgs
from agentcache_service.identity.tables import Org
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.safe_http import Caps, Fetched
from agentcache_service.usage.plans import has_feature, require_feature
from agentcache_service.webhooks.delivery import new_secret, queue_webhook

if TYPE_CHECKING:
    from agentcache_service.service import Service

TICK = "listeners.tick"
CHECK = "listeners.check"
LEAST_INTERVAL = 60
PER_ORG = 200
_CAPS = Caps(max_bytes=10 << 20, seconds=15.0)
_FIRST_CAPS = Caps(max_bytes=10 << 20, seconds=5.0)
_BATCH = 200
_PAUSE = timedelta(hours=1)

Freshness = Literal["fresh", "stale", "expired"]


def freshness(row: Listener, now: datetime) -> Freshness:
    """How far what was made from the address may be trusted: fresh when the last look succeeded within the interval
    (and a half, for the queue), stale within three, expired beyond or before the first success."""
    if row.ok_at is None:
        return "expired" if row.trouble else "stale"
    interval = timedelta(seconds=row.interval_s)
    if now - row.ok_at <= interval * 1.5:
        return "fresh"
    return "stale" if now - row.ok_at <= interval * 3 else "expired"


@dataclass(frozen=True, slots=True)
class Registered:
    """A new listener; the webhook's signing secret is told this one time."""

    row: Listener
    secret: str | None


def register(
    service: Service,
    principal: Principal,
    place: Place,
    *,
    url: str,
    interval_s: int,
    tags: Sequence[str],
    pattern: str | None,
    webhook: str | None,
) -> Registered:
    """Watch an address. Both addresses must be public; the first look is taken at once, where it is quick."""
    require_feature(place.plan, "anti_cache", public_url=service.settings.public_url)
    if interval_s < LEAST_INTERVAL:
        raise Unprocessable(f"check_interval is at least {LEAST_INTERVAL} seconds.", code="interval")
    service.outgoing.check(url)
    if webhook is not None:
        service.outgoing.check(webhook)
    now = service.clock.now()
    secret = new_secret() if webhook is not None else None
    row = Listener(
        id=new_id("lis"),
        org_id=place.org_id,
        namespace=place.namespace,
        url=url,
        interval_s=interval_s,
        tags=list(tags),
        pattern=pattern,
        webhook=webhook,
        next_check_at=now + timedelta(seconds=interval_s),
        created_at=now,
    )
    if secret is not None:
        row.secret_sealed = service.vault.seal(secret.encode(), place=_place(row))
    try:
        _note(row, _look(service, row, _FIRST_CAPS), now)
    except ServiceError as trouble:
        row.trouble, row.checked_at = trouble.message, now
    with service.db.write() as session:
        orgs.lock(session, place.org_id)
        if len(list_for(session, place.org_id)) >= PER_ORG:
            raise Unprocessable(f"An organization has at most {PER_ORG} listeners.", code="listeners_many")
        session.add(row)
        audit.record(session, service.clock, principal=principal, action="listener.create", target=row.id)
    return Registered(row, secret)


def _place(row: Listener) -> str:
    return f"{row.org_id}/{row.id}/webhook"


def list_for(session: Session, org_id: str) -> Sequence[Listener]:
    """The organization's listeners, newest first."""
    return session.scalars(select(Listener).where(Listener.org_id == org_id).order_by(Listener.created_at.desc())).all()


def remove(service: Service, session: Session, principal: Principal, *, listener_id: str) -> None:
    """Stop watching; raises `NotFound`."""
    row = own(session, principal, listener_id)
    session.delete(row)
    audit.record(session, service.clock, principal=principal, action="listener.remove", target=listener_id)


def webhook_gone(service: Service, listener_id: str, url: str) -> None:
    """Call a listener's webhook no more: its receiver has said 410."""
    with service.db.write() as session:
        session.execute(
            update(Listener)
            .where(Listener.id == listener_id, Listener.webhook == url)
            .values(webhook_gone_at=service.clock.now())
        )


def own(session: Session, principal: Principal, listener_id: str) -> Listener:
    """One listener; raises `NotFound` when it is not the organization's, or not in a namespace the key may use."""
    row = session.scalars(
        select(Listener).where(Listener.id == listener_id, Listener.org_id == principal.tenant)
    ).one_or_none()
    if row is None or (principal.namespaces is not None and row.namespace not in principal.namespaces):
        raise NotFound("There is no such listener.")
    return row


def tick(service: Service, _claim: Claim) -> None:
    """The repeated job: one check job for every listener that is due. Where the plan in force has no listeners they
    pause: nothing is looked at, and nobody is called."""
    now = service.clock.now()
    with service.db.write() as session:
        due = session.execute(
            select(Listener, Org)
            .join(Org, Org.id == Listener.org_id)
            .where(Listener.next_check_at <= now)
            .order_by(Listener.next_check_at)
            .limit(_BATCH)
        ).all()
        for row, org in due:
            plan = orgs.plan_of(service, org)
            if not has_feature(plan, "anti_cache"):
                row.trouble = f"Paused: the {plan.title} plan does not include listeners."
                row.next_check_at = now + max(timedelta(seconds=row.interval_s), _PAUSE)
                continue
            slot = f"{CHECK}:{row.id}:{row.next_check_at:%Y%m%dT%H%M%S}"
            enqueue(session, service.clock, CHECK, {"listener": row.id}, org_id=row.org_id, dedupe_key=slot)
            row.next_check_at = now + timedelta(seconds=row.interval_s)


def check(service: Service, claim: Claim) -> None:
    """The job: look at one address; on a change invalidate, then note it and queue the webhook together."""
    now = service.clock.now()
    with service.db.read() as session:
        row = session.get(Listener, claim.payload["listener"])
        org = session.get(Org, row.org_id) if row is not None else None
    if row is None or org is None or not has_feature(orgs.plan_of(service, org), "anti_cache"):
        return
    trouble, answer = None, None
    try:
        answer = _look(service, row, _CAPS)
    except ServiceError as problem:
        trouble = problem.message
    changes = changed_parts(row, answer) if answer is not None else []
    count = 0
    if changes:
        plan = orgs.plan_of(service, org)
        count = _invalidate(service, Place(row.org_id, row.namespace, plan, {}, now), row)
    with service.db.write() as session:
        held = session.get(Listener, row.id)
        if held is None:
            return
        if answer is None:
            held.trouble, held.checked_at = trouble, now
            return
        _note(held, answer, now)
        if changes:
            held.changed_at = now
            if held.webhook is not None and held.webhook_gone_at is None and held.secret_sealed is not None:
                content = {
                    "listener": held.id,
                    "url": held.url,
                    "namespace": held.namespace,
                    "changed": changes,
                    "invalidated": count,
                }
                queue_webhook(
                    service,
                    session,
                    url=held.webhook,
                    sealed_secret=held.secret_sealed,
                    place=_place(held),
                    event="listener.changed",
                    content=content,
                    org_id=held.org_id,
                    owner=held.id,
                )


def _look(service: Service, row: Listener, caps: Caps) -> Fetched:
    headers = {}
    if row.etag:
        headers["if-none-match"] = row.etag
    if row.last_modified:
        headers["if-modified-since"] = row.last_modified
    answer = service.outgoing.fetch("GET", row.url, headers=headers, caps=caps)
    if answer.status != 304 and not 200 <= answer.status < 300:
        raise ServiceError(f"The address answered {answer.status}.", code="fetch_failed", status=502)
    return answer


def changed_parts(row: Listener, answer: Fetched) -> list[str]:
    """Which of ETag, Last-Modified and content differ from the last look; none at the first look and at a 304."""
    if answer.status == 304 or row.content_hash is None:
        return []
    parts = {
        "etag": (row.etag, answer.headers.get("etag")),
        "last_modified": (row.last_modified, _last_modified(answer)),
        "content": (row.content_hash, hashlib.sha256(answer.body).hexdigest()),
    }
    return [name for name, (before, after) in parts.items() if before is not None and after != before]


def _last_modified(answer: Fetched) -> str | None:
    return answer.headers.get("last-modified", "")[:255] or None


def _note(row: Listener, answer: Fetched, now: datetime) -> None:
    row.checked_at = row.ok_at = now
    row.trouble = None
    if answer.status != 304:
        row.etag = answer.headers.get("etag")
        row.last_modified = _last_modified(answer)
        row.content_hash = hashlib.sha256(answer.body).hexdigest()


def _invalidate(service: Service, place: Place, row: Listener) -> int:
    count = calls.invalidate_matching(service, place, url=row.url)
    for tag in row.tags:
        count += calls.invalidate_matching(service, place, tag=tag)
    if row.pattern is not None:
        count += calls.invalidate_matching(service, place, pattern=row.pattern)
    return count
