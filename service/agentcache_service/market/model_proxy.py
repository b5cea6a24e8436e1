"""Calls of bought models: checked, limited, answered from the buyer's cache or forwarded, and metered."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from agentcache_service.errors import Forbidden, NotFound, RateLimited, ServiceError, Unauthenticated
from agentcache_service.orm import new_id
from agentcache_service.safe_http import AddressRefused, Caps, FetchFailed
from agentcache_service.service import Service

from . import access_keys, credentials, listing_rules, sales
from .credentials import Credentials
from .response_cache import KeptAnswer
from .tables import AccessKey, CallWindow, Listing, ModelCall, Purchase

CAPS = Caps(max_bytes=20 << 20, seconds=120.0, hops=0)
DEFAULT_TTL_S = 24 * 3600
_PASSED = ("content-type", "accept")
_ROOM_FOR_ERRORS = 2_000


class UpstreamFailed(ServiceError):
    """The creator's endpoint did not answer, or answered with an error of its own."""

    status, code = 502, "upstream_failed"


@dataclass(frozen=True, slots=True)
class Call:
    """A buyer's call: method, path below the endpoint, query, headers (lower-case) and body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What the buyer gets: status, body, type, and how it was made."""

    status: int
    body: bytes
    content_type: str
    cached: bool
    cost: int
    saved: int


@dataclass(frozen=True, slots=True)
class _Grant:
    key: AccessKey
    purchase: Purchase
    listing: Listing
    credentials: Credentials


def run(service: Service, listing_id: str, secret: str, *, call: Call) -> Reply:
    """Answer one call of a bought model."""
    grant = _admit(service, listing_id, secret, call)
    request = _cache_key(grant, call)
    asked = _cache_wishes(call)
    if request is not None and grant.purchase.cache_calls and asked.read:
        kept = service.market.responses.get(grant.purchase.org_id, request)
        if kept is not None:
            reply = Reply(200, kept.body, kept.content_type, cached=True, cost=0, saved=kept.cost)
            _record(service, grant, call, reply=reply, tokens=(0, 0), milliseconds=0)
            return reply
    started = time.perf_counter()
    status, content_type, body = _forward(service, grant.credentials, call)
    milliseconds = round((time.perf_counter() - started) * 1000)
    tokens = _tokens(body) if status == 200 else (0, 0)
    cost = _cost(grant.purchase, tokens) if 200 <= status < 300 else 0
    reply = Reply(status, _without(body, grant.credentials.api_key), content_type, cached=False, cost=cost, saved=0)
    if request is not None and status == 200 and grant.purchase.cache_calls and asked.write:
        kept = KeptAnswer(reply.body, content_type, cost, *tokens)
        service.market.responses.put(grant.purchase.org_id, request, kept, ttl_s=asked.ttl_s)
    _record(service, grant, call, reply=reply, tokens=tokens, milliseconds=milliseconds)
    return reply


def _admit(service: Service, listing_id: str, secret: str, call: Call) -> _Grant:
    """Everything that must hold before a call goes out; counts it against the creator's limits."""
    now = service.clock.now()
    with service.db.read() as session:
        key = access_keys.find(session, secret, now)
        if key is None:
            raise Unauthenticated("Send a valid key of this model in the header X-API-Key.")
        if key.listing_id != listing_id:
            raise NotFound("There is no such model for this key.")
        purchase = session.get_one(Purchase, key.purchase_id)
        row = session.get_one(Listing, listing_id)
        if not sales.has_access(purchase, now):
            raise Forbidden("This purchase gives no access now.", code="no_access")
        if row.status == "suspended":
            raise Forbidden("This model is suspended.", code="suspended")
        creds = credentials.open_for(service, session, row)
    path = call.path.strip("/")
    if any(part in {".", ".."} for part in path.split("/")) or "\\" in path or "//" in path:
        raise Forbidden("This path is not allowed.", code="path_not_allowed")
    for permissions in (list(creds.permissions), list(key.permissions)):
        if not listing_rules.allows(permissions, call.method, path):
            raise Forbidden(f"{call.method} {path} is not among what was granted.", code="path_not_allowed")
    with service.db.write() as session:
        _count(session, purchase.id, creds, now)
        session.execute(update(AccessKey).where(AccessKey.id == key.id).values(last_used_at=now))
    return _Grant(key, purchase, row, creds)


def _count(session: Session, purchase_id: str, creds: Credentials, now: datetime) -> None:
    """Take one call from the minute and from the hour, or raise `RateLimited` and take nothing."""
    minute, hour = now.replace(second=0, microsecond=0), now.replace(minute=0, second=0, microsecond=0)
    spans = (
        (f"m{minute:%Y%m%d%H%M}", minute + timedelta(minutes=1), creds.per_minute),
        (f"h{hour:%Y%m%d%H}", hour + timedelta(hours=1), creds.per_hour),
    )
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgres_insert
    for window, ends, limit in spans:
        row = {"purchase_id": purchase_id, "window": window, "count": 0, "ends_at": ends}
        session.execute(insert(CallWindow).values(row).on_conflict_do_nothing())
        taken = session.execute(
            update(CallWindow)
            .where(CallWindow.purchase_id == purchase_id, CallWindow.window == window, CallWindow.count < limit)
            .values(count=CallWindow.count + 1)
            .returning(CallWindow.count)
        )
        if taken.first() is None:
            raise RateLimited(int((ends - now).total_seconds()) + 1)


def _forward(service: Service, creds: Credentials, call: Call) -> tuple[int, str, bytes]:
    """Ask the creator's endpoint, then its fallback, through the guarded client."""
    headers = {name: call.headers[name] for name in _PASSED if name in call.headers}
    headers["authorization"] = f"Bearer {creds.api_key}"
    trouble: ServiceError = UpstreamFailed("The model did not answer.")
    for base in filter(None, (creds.endpoint, creds.fallback)):
        address = f"{base}/{call.path.strip('/')}" + (f"?{call.query}" if call.query else "")
        try:
            got = service.outgoing.fetch(call.method, address, headers=headers, body=call.body, caps=CAPS, follow=False)
        except (FetchFailed, AddressRefused):
            continue
        if got.status in {401, 403}:
            return 502, "application/json", _error("The creator's credentials were refused by the model.")
        if got.status >= 500:
            trouble = UpstreamFailed(f"The model answered {got.status}.")
            continue
        if 300 <= got.status < 400:
            return 502, "application/json", _error("The model answered with a redirect, which is not followed.")
        return got.status, got.headers.get("content-type", "application/octet-stream"), got.body
    raise trouble


@dataclass(frozen=True, slots=True)
class _Wishes:
    read: bool
    write: bool
    ttl_s: int


def _cache_wishes(call: Call) -> _Wishes:
    """What the buyer's `Cache-Control` asks: no-store (neither), no-cache (fresh answer, kept), max-age (how long)."""
    directives = [part.strip().lower() for part in call.headers.get("cache-control", "").split(",")]
    ttl_s = DEFAULT_TTL_S
    for part in directives:
        name, _, value = part.partition("=")
        if name == "max-age" and value.isdecimal():
            ttl_s = min(int(value), 30 * DEFAULT_TTL_S)
    no_store = "no-store" in directives
    return _Wishes(
        read=not no_store and "no-cache" not in directives and ttl_s > 0, write=not no_store and ttl_s > 0, ttl_s=ttl_s
    )


def _cache_key(grant: _Grant, call: Call) -> dict[str, Any] | None:
    """What makes two calls equal, or None for calls that are never cached (not GET or JSON POST, or streamed)."""
    if call.method not in {"GET", "POST"}:
        return None
    body: Any = None
    if call.body:
        try:
            body = json.loads(call.body)
        except ValueError:
            return None
        if isinstance(body, dict) and body.get("stream"):
            return None
    return {
        "listing": grant.listing.id,
        "version": grant.listing.version,
        "method": call.method,
        "path": call.path.strip("/"),
        "query": call.query,
        "accept": call.headers.get("accept", ""),
        "body": body,
    }


def _tokens(body: bytes) -> tuple[int, int]:
    """Input and output tokens as the common usage reports name them; zeros where there is none."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return 0, 0
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    return _first(usage, "prompt_tokens", "input_tokens"), _first(usage, "completion_tokens", "output_tokens")


def _first(usage: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if type(value) is int and 0 <= value <= 100_000_000:
            return value
    return 0


def _cost(purchase: Purchase, tokens: tuple[int, int]) -> int:
    """What a computed call costs its buyer in micro-USD; only usage pricing costs per call."""
    if purchase.pricing != "usage_based":
        return 0
    return purchase.price_per_call + sum(tokens) * purchase.price_per_1k_tokens // 1000


def _record(
    service: Service, grant: _Grant, call: Call, *, reply: Reply, tokens: tuple[int, int], milliseconds: int
) -> None:
    now = service.clock.now()
    with service.db.write() as session:
        session.add(
            ModelCall(
                id=new_id("mcl"),
                purchase_id=grant.purchase.id,
                listing_id=grant.listing.id,
                key_id=grant.key.id,
                at=now,
                method=call.method,
                path=call.path.strip("/")[:255],
                status=reply.status,
                request_bytes=len(call.body),
                request_sha256=hashlib.sha256(call.body).hexdigest(),
                response_bytes=len(reply.body),
                input_tokens=tokens[0],
                output_tokens=tokens[1],
                milliseconds=milliseconds,
                cached=reply.cached,
                cost=reply.cost,
                saved=reply.saved,
            )
        )
        if not reply.cached:
            session.execute(
                update(Listing)
                .where(Listing.id == grant.listing.id)
                .values(calls=Listing.calls + 1, call_ms=Listing.call_ms + milliseconds)
            )


def _without(body: bytes, api_key: str) -> bytes:
    """The body without the creator's key, should an endpoint repeat it."""
    return body.replace(api_key.encode(), b"[withheld]") if api_key else body


def _error(message: str) -> bytes:
    return json.dumps({"success": False, "error": "upstream_failed", "message": message[:_ROOM_FOR_ERRORS]}).encode()
