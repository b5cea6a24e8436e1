"""What the cache calls do: get, set, invalidate, on the engine, charged to the quota."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from agentcache_core import CacheControl, Cost
from agentcache_core.errors import KeyingError, UnstorableValue
from agentcache_core.model import Hit
from agentcache_service.cacheapi import meaning
from agentcache_service.cacheapi.engine import EntryRecord, Selector, selector_of, selects
from agentcache_service.cacheapi.place import Place, admit_bytes
from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.usage import stock

if TYPE_CHECKING:
    from agentcache_service.service import Service

DEFAULT_TTL = 7 * 24 * 3600
LONGEST_TTL = 10 * 365 * 86400
_STALE = "stale_while_revalidate_s"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a set answers."""

    key: str
    size: int
    deduplicated: bool
    expires_at: datetime | None


def shown_key(service: Service, place: Place, request: object) -> str:
    """How a request's key is told to the customer: a plain key as it is, a request's digest in hex."""
    if isinstance(request, str):
        return request
    return service.engine.view(place.org_id, place.namespace).key(request).digest.hex()


def get(
    service: Service,
    place: Place,
    request: object,
    *,
    max_age: float | None = None,
    semantic: bool | None = None,
    sent: Callable[[Hit, bytes], int] | None = None,
) -> tuple[Hit | None, bytes]:
    """Look one request up; the hit and its value as JSON (or, where it is bytes, as they are).

    `sent` says how many bytes of a value go out, where that is not all of it: so many are charged.
    """
    least = meaning.asked_for(service, place, semantic)
    control = CacheControl(max_age=max_age, semantic=False if least is None else None)
    view = service.engine.view(place.org_id, place.namespace)
    started = time.perf_counter()
    try:
        hit = view.lookup(request, control=control)
    except KeyingError as problem:
        raise Unprocessable(f"This request has no key: {problem}", code="unkeyable") from None
    if hit is not None and hit.similarity is not None and least is not None and hit.similarity < least:
        hit = None  # near enough for the installation, not for this namespace
    if hit is None and place.settings.get(_STALE):
        hit = service.engine.stale(view, request, control)
    service.market.tap.note(
        place.org_id,
        request,
        hit=hit is not None,
        milliseconds=(time.perf_counter() - started) * 1000,
        saved=0 if hit is None else hit.saved.usd_micros,
        at=place.now,
    )
    if hit is None:
        service.meter.count(place.org_id, place.namespace, place.now, misses=1)
        service.metrics.called("get", "miss")
        return None, b""
    body = hit.value if isinstance(hit.value, bytes) else _as_json(hit.value)
    size = len(body) if sent is None else sent(hit, body)
    admit_bytes(service, place, size)
    service.meter.count(
        place.org_id,
        place.namespace,
        place.now,
        hits=1,
        semantic_hits=int(hit.how == "semantic"),
        bytes_out=size,
        bytes_saved=size,
        saved_micros=hit.saved.usd_micros,
    )
    service.metrics.called("get", hit.how)
    return hit, body


def _as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=_json_form, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a remote client stores what Python has and orjson does not write: integers beyond 64 bits
        pass
    try:
        return json.dumps(value, default=_json_form).encode()
    except (TypeError, ValueError, RecursionError):
        message = "This value has no form in JSON; read it with the Python client that stored it."
        raise Unprocessable(message, code="no_json") from None


def _json_form(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, set | frozenset):
        return list(value)
    return str(value)


def hit_body(hit: Hit, body: bytes, *, served_after_failure: bool = False) -> dict[str, Any]:
    """The wire form of a hit. `expired` is said only of what is served because computing anew failed."""
    saved = hit.saved
    freshness = "expired" if served_after_failure else hit.freshness.value
    is_bytes = isinstance(hit.value, bytes)
    return {
        "hit": True,
        "value": base64.b64encode(body).decode() if is_bytes else orjson.Fragment(body),
        **({"encoding": "base64"} if is_bytes else {}),
        "how": hit.how,
        "similarity": hit.similarity,
        "age_s": round(hit.age, 3),
        "ttl_s": None if hit.ttl is None else round(hit.ttl, 3),
        "freshness": freshness,
        "saved": {
            "usd_micros": saved.usd_micros,
            "input_tokens": saved.input_tokens,
            "output_tokens": saved.output_tokens,
            "seconds": saved.seconds,
            "bytes": len(body),
        },
    }


def decode_value(value: object, encoding: str | None) -> object:
    """The value a caller means: JSON as it is, or bytes written in base64."""
    if encoding is None:
        return value
    if encoding != "base64" or not isinstance(value, str):
        raise Unprocessable('encoding is "base64", and the value then a text.', code="encoding")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unprocessable("The value is not base64.", code="encoding") from None


def put(
    service: Service,
    place: Place,
    request: object,
    value: object,
    *,
    ttl: float | None = None,
    tags: Sequence[str] = (),
    sources: Sequence[str] = (),
    cost: Cost | None = None,
    content_type: str | None = None,
) -> StoredAnswer:
    """Store one value: its bytes are reserved first, then kept or given back."""
    seconds = min(float(place.settings.get("ttl_s", DEFAULT_TTL)) if ttl is None else ttl, LONGEST_TTL)
    longer = float(place.settings.get(_STALE, 0))
    expires_at = place.now + timedelta(seconds=seconds)
    payload = value if isinstance(value, bytes) else _payload(value)
    view = service.engine.view(place.org_id, place.namespace)
    try:
        name = view._space.entry_name(view.key(request)).hex()
    except KeyingError as problem:
        raise Unprocessable(f"This request has no key: {problem}", code="unkeyable") from None
    item = stock.Item(
        place.org_id,
        place.namespace,
        name,
        "hot_bytes",
        len(payload),
        hashlib.sha256(payload).hexdigest(),
        expires_at + timedelta(seconds=longer),
    )
    hold = stock.reserve(service, item)
    try:
        stored = view.set(
            request,
            value,
            ttl=seconds,
            stale_while_revalidate=longer,
            tags=tags,
            sources=sources,
            cost=cost,
            content_type=content_type,
            durable=True,
            control=CacheControl(semantic=False if meaning.least_similarity(service, place) is None else None),
        )
    except UnstorableValue as problem:
        stock.give_up(service, hold)
        raise Unprocessable(f"This value cannot be stored: {problem}", code="unstorable") from None
    except Exception:
        stock.give_up(service, hold)
        raise
    if not stored:
        stock.give_up(service, hold)
        raise ServiceError("The value was not stored; try again.", code="not_stored", status=503)
    duplicate = stock.commit(service, hold, item)
    service.meter.count(
        place.org_id,
        place.namespace,
        place.now,
        sets=1,
        bytes_in=len(payload),
        duplicate_sets=int(duplicate),
        duplicate_bytes=len(payload) if duplicate else 0,
    )
    service.metrics.called("set", "duplicate" if duplicate else "new")
    return StoredAnswer(shown_key(service, place, request), len(payload), duplicate, expires_at)


def _payload(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as problem:
        message = f"This value cannot be stored: {problem}. Give it as text or base64 where it must be kept."
        raise Unprocessable(message, code="unstorable") from None


def invalidate_keys(service: Service, place: Place, requests: Sequence[object], *, older_than: float | None) -> int:
    """Remove single entries; how many there were."""
    view = service.engine.view(place.org_id, place.namespace)
    removed, names = 0, []
    for request in requests:
        if older_than is not None:
            hit = view.lookup(request, control=CacheControl(semantic=False))
            if hit is None or hit.age <= older_than:
                continue
        names.append((place.namespace, service.engine.stored_name(place.org_id, place.namespace, request)))
        removed += bool(view.delete(request))
    _forget(service, place, names)
    return removed


def invalidate_matching(
    service: Service,
    place: Place,
    *,
    tag: str | None = None,
    pattern: str | None = None,
    url: str | None = None,
    older_than: float | None = None,
) -> int:
    """Invalidate by tag, pattern or source address, or (with none of them) the whole namespace; how many entries."""
    selector = selector_of(tag=tag, pattern=pattern, source=url)
    if older_than is not None:
        return _remove_older(service, place, selector, older_than)
    matched = [
        name for name, record in service.engine.entries(place.org_id, place.namespace) if selects(selector, record)
    ]
    view = service.engine.view(place.org_id, place.namespace)
    if tag is not None:
        view.invalidate(tag=tag)
    elif url is not None:
        view.invalidate(source=url)
    elif pattern is not None:
        view.invalidate(pattern=pattern)
    else:
        view.invalidate(namespace=place.namespace)
    _forget(service, place, [(place.namespace, name.hex()) for name in matched])
    return len(matched)


def _remove_older(service: Service, place: Place, selector: Selector, older_than: float) -> int:
    """Remove the matching entries stored more than `older_than` seconds ago, one by one."""
    edge = service.engine.now() - older_than
    removed: list[bytes] = []
    for name, record in service.engine.entries(place.org_id, place.namespace):
        if record.created_at < edge and selects(selector, record) and _remove_entry(service, place, name, record):
            removed.append(name)
    _forget(service, place, [(place.namespace, name.hex()) for name in removed])
    return len(removed)


def _remove_entry(service: Service, place: Place, name: bytes, record: EntryRecord) -> bool:
    view = service.engine.view(place.org_id, place.namespace)
    if record.plain is not None and record.kind == "text":
        return bool(view.delete(record.plain))
    return bool(service.engine.objects.delete(name))


def _forget(service: Service, place: Place, names: Sequence[tuple[str, str]]) -> None:
    if names:
        with service.db.write() as session:
            stock.remove(session, place.org_id, names)


def cost_of(given: Mapping[str, Any] | None) -> Cost | None:
    """The engine's form of a cost given on the wire."""
    if given is None:
        return None
    return Cost(**{name: value for name, value in given.items() if value is not None})
