"""Delivering one webhook: signed, retried on a fixed schedule, through the guarded client."""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from agentcache_service.errors import Conflict, NotFound, ServiceError
from agentcache_service.jobs import Claim, GiveUp, Retry, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.safe_http import Caps

if TYPE_CHECKING:
    from agentcache_service.service import Service

DELIVER = "webhook.deliver"
# the pause after each failed attempt; after the last one the delivery is given up
PAUSES = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
)
_CAPS = Caps(max_bytes=64 << 10, seconds=20.0, hops=0)
_LONGEST_WAIT = timedelta(days=1)
_LOOKED_AT = 1000


def new_secret() -> str:
    """A signing secret `whsec_…` of 32 random bytes."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def queue_webhook(
    service: Service,
    session: Session,
    *,
    url: str,
    sealed_secret: bytes,
    place: str,
    event: str,
    content: Mapping[str, Any],
    org_id: str,
    owner: str,
) -> str | None:
    """Add a delivery to the caller's transaction. `place` is where the secret was sealed for, `owner` the id of what
    the webhook belongs to."""
    body = {"type": event, "timestamp": service.clock.now().isoformat(), "data": dict(content)}
    payload = {"url": url, "secret": b64encode(sealed_secret).decode(), "place": place, "owner": owner}
    payload |= {"event": event, "body": json.dumps(body)}
    return enqueue(session, service.clock, DELIVER, payload, org_id=org_id)


def deliver(service: Service, gone: Callable[[str, str], None], claim: Claim) -> None:
    """The job: one attempt. 2xx is success; 410 ends this one for good and, by `gone(owner, url)`, the webhook;
    anything else comes again later."""
    secret = service.vault.open(b64decode(claim.payload["secret"]), place=claim.payload["place"]).decode()
    body, now = claim.payload["body"], service.clock.now()
    headers = {
        "content-type": "application/json",
        "webhook-id": claim.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(claim.id, _whole_second(now), body),
    }
    reason, wait = "", None
    try:
        answer = service.outgoing.fetch(
            "POST", claim.payload["url"], headers=headers, body=body.encode(), caps=_CAPS, follow=False
        )
    except ServiceError as trouble:
        reason = trouble.message
    else:
        if 200 <= answer.status < 300:
            return
        if answer.status == 410:
            gone(claim.payload.get("owner", ""), claim.payload["url"])
            raise GiveUp("answered 410: the receiver wants no more")
        reason, wait = f"answered {answer.status}", retry_after(answer.headers.get("retry-after"))
    if claim.attempt > len(PAUSES):
        raise GiveUp(reason)  # ten attempts over about three days
    pause = PAUSES[claim.attempt - 1]
    jitter = 1 + secrets.randbelow(100) / 1000
    raise Retry(max(pause * jitter, wait or timedelta()), reason)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it stands: `state` is queued (its next attempt is to come), running, done or failed."""

    delivery: str
    event: str
    url: str
    state: str
    attempts: int
    trouble: str | None
    created_at: datetime
    next_attempt_at: datetime | None


def deliveries(session: Session, org_id: str, owner: str, *, limit: int = 100) -> list[Delivery]:
    """The newest deliveries of one webhook. Those that succeeded are kept for a day, failed ones for a month."""
    query = select(Job).where(Job.org_id == org_id, Job.kind == DELIVER).order_by(Job.created_at.desc(), Job.id)
    mine = [job for job in session.scalars(query.limit(_LOOKED_AT)) if job.payload.get("owner") == owner]
    return [_shown(job) for job in mine[:limit]]


def _shown(job: Job) -> Delivery:
    waits = job.state == "queued"
    return Delivery(
        job.id,
        job.payload.get("event", ""),
        job.payload["url"],
        job.state,
        job.attempts,
        job.last_error,
        job.created_at,
        job.run_at if waits else None,
    )


def replay(service: Service, session: Session, org_id: str, owner: str, delivery_id: str) -> Delivery:
    """Send a failed delivery again, with the same id and ten more attempts; raises `NotFound` and `Conflict`."""
    job = session.get(Job, delivery_id)
    if job is None or (job.org_id, job.kind, job.payload.get("owner")) != (org_id, DELIVER, owner):
        raise NotFound("There is no such delivery.")
    if job.state != "failed":
        raise Conflict(f"This delivery is {job.state}; only a failed one is sent again.", code="not_failed")
    job.state, job.attempts, job.run_at, job.finished_at = "queued", 0, service.clock.now(), None
    return _shown(job)


def _whole_second(moment: datetime) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()), UTC)


def retry_after(header: str | None) -> timedelta | None:
    """The seconds a receiver asks us to wait, at most a day."""
    if header is None or not header.strip().isdigit():
        return None
    return min(timedelta(seconds=int(header)), _LONGEST_WAIT)
