"""Idempotency keys of our own API: one answer per key, 422 for another body, 409 while the first call still runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.errors import BadRequest, Conflict, ServiceError, Unprocessable
from agentcache_service.orm import new_id

from .billing_tables import IdempotencyRecord

MAX_KEY = 200
KEPT = timedelta(days=2)
ABANDONED = timedelta(minutes=10)

Answer = tuple[int, dict[str, Any]]


def once(
    database: Database, clock: Clock, *, org_id: str, route: str, key: str | None, asked: Any, do: Callable[[], Answer]
) -> Answer:
    """Do a call once per (organization, route, key) and hand its answer to every repetition; no key, no memory.

    Refusals that leave nothing behind (a `ServiceError`) free the key, so that the caller may mend and repeat.
    """
    if key is None:
        return do()
    if not 1 <= len(key) <= MAX_KEY:
        raise BadRequest(f"Idempotency-Key must have 1 to {MAX_KEY} characters.")
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    record = _reserve(database, clock, org_id=org_id, route=route, key=key, asked=fingerprint)
    if not isinstance(record, str):
        return record
    try:
        status, answer = do()
    except ServiceError:
        with database.write() as session:
            session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.id == record))
        raise
    with database.write() as session:
        row = session.get_one(IdempotencyRecord, record)
        row.status, row.answer = status, answer
    return status, answer


def _reserve(database: Database, clock: Clock, *, org_id: str, route: str, key: str, asked: str) -> str | Answer:
    """A new record's id when the key is fresh, else the answer it was given."""
    now = clock.now()
    record = IdempotencyRecord(id=new_id("idem"), org_id=org_id, route=route, key=key, asked=asked, created_at=now)
    where = (IdempotencyRecord.org_id == org_id, IdempotencyRecord.route == route, IdempotencyRecord.key == key)
    with database.write() as session:
        stale = IdempotencyRecord.status.is_(None) & (IdempotencyRecord.created_at < now - ABANDONED)
        session.execute(delete(IdempotencyRecord).where(*where, stale | (IdempotencyRecord.created_at < now - KEPT)))
        try:
            with session.begin_nested():
                session.add(record)
        except IntegrityError:
            known = session.scalars(select(IdempotencyRecord).where(*where)).one_or_none()
            if known is None:
                raise Conflict("A call with this Idempotency-Key has just ended; repeat it.") from None
            if known.asked != asked:
                raise Unprocessable(
                    "This Idempotency-Key was used with another body.", code="idempotency_key_reused"
                ) from None
            if known.status is None or known.answer is None:
                raise Conflict("A call with this Idempotency-Key is in progress.", code="in_progress") from None
            return known.status, known.answer
    return record.id
