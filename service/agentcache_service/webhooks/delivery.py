"""Delivering one webhook: signed, retried on a fixed schedule, through the guarded client."""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from agentcache_service.errors import ServiceError
from agentcache_service.jobs import Claim, Retry, enqueue
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
) -> str | None:
    """Add a delivery to the caller's transaction. `place` is where the secret was sealed for."""
    body = {"type": event, "timestamp": service.clock.now().isoformat(), "data": dict(content)}
    payload = {"url": url, "secret": b64encode(sealed_secret).decode(), "place": place, "body": json.dumps(body)}
    return enqueue(session, service.clock, DELIVER, payload, org_id=org_id)


def deliver(service: Service, claim: Claim) -> None:
    """The job: one attempt. 2xx is success, 410 ends it for good, anything else comes again later."""
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
        if 200 <= answer.status < 300 or answer.status == 410:
            return
        reason, wait = f"answered {answer.status}", retry_after(answer.headers.get("retry-after"))
    if claim.attempt > len(PAUSES):
        return  # given up: ten attempts over about three days
    pause = PAUSES[claim.attempt - 1]
    jitter = 1 + secrets.randbelow(100) / 1000
    raise Retry(max(pause * jitter, wait or timedelta()), reason)


def _whole_second(moment: datetime) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()), UTC)


def retry_after(header: str | None) -> timedelta | None:
    """The seconds a receiver asks us to wait, at most a day."""
    if header is None or not header.strip().isdigit():
        return None
    return min(timedelta(seconds=int(header)), _LONGEST_WAIT)
