"""Prewarming: filling a namespace ahead of use, as a job with progress, once or on a schedule."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from agentcache_service.cacheapi import calls, schedules
from agentcache_service.cacheapi.place import Place, admit_request, enter
from agentcache_service.errors import Forbidden, NotFound, QuotaExceeded, RateLimited, ServiceError, Unprocessable
from agentcache_service.jobs import Claim, Continue, Retry, enqueue, note_progress, progress_of
from agentcache_service.jobs_tables import Job
from agentcache_service.principal import Principal
from agentcache_service.safe_http import Caps

if TYPE_CHECKING:
    from agentcache_service.service import Service

PREWARM = "cacheapi.prewarm"
MOST_ITEMS = 5000
SLICE = 10.0
"""Seconds a job works before others have a turn."""
_LOG_LINES = 50
_log = structlog.get_logger("agentcache_service.prewarm")
_CAPS = Caps(max_bytes=10 << 20, seconds=20.0)


@dataclass(frozen=True, slots=True)
class Started:
    """What was begun: the job's id, and the schedule's where there is one."""

    job: str
    schedule: str | None


def start(
    service: Service,
    place: Place,
    *,
    items: Sequence[Mapping[str, Any]] | None,
    source: str | None,
    schedule: str | None,
) -> Started:
    """Enqueue the job, and keep its schedule; their ids. `source` is an address of a JSON list of items."""
    expression = None if schedule is None else schedules.cron_of(schedule)
    if source is not None:
        service.outgoing.check(source)
    payload: dict[str, Any] = {
        "namespace": place.namespace,
        "items": list(items) if items is not None else None,
        "source": source,
    }
    with service.db.write() as session:
        made = enqueue(session, service.clock, PREWARM, payload, org_id=place.org_id)
        assert made is not None
        if expression is None:
            return Started(made, None)
        kept = schedules.add(service, session, place, expression, items=items, source=source, job=made)
        return Started(made, kept.id)


def status(session: Session, principal: Principal, job_id: str) -> dict[str, Any]:
    """How far a job is; raises `NotFound` when it is not the organization's, or of a namespace the key may not use."""
    job = session.get(Job, job_id)
    if job is None or job.kind != PREWARM or job.org_id != principal.tenant:
        raise NotFound("There is no such job.")
    if principal.namespaces is not None and job.payload["namespace"] not in principal.namespaces:
        raise NotFound("There is no such job.")
    progress: dict[str, Any] = {"done": 0, "total": None, "cost": {"usd_micros": 0, "bytes": 0}, "log": []}
    return {"job": job.id, "state": job.state, **progress, **job.progress}


@dataclass(slots=True)
class _Run:
    """What one run of a job has done so far, over all its slices."""

    total: int | None = None
    done: int = 0
    stored: int = 0
    usd_micros: int = 0
    bytes: int = 0
    log: list[str] = field(default_factory=list)

    @classmethod
    def resumed(cls, progress: Mapping[str, Any]) -> _Run:
        """What an earlier slice, or an attempt that was cut off, has published."""
        cost = progress.get("cost", {})
        return cls(
            progress.get("total"),
            progress.get("done", 0),
            progress.get("stored", 0),
            cost.get("usd_micros", 0),
            cost.get("bytes", 0),
            list(progress.get("log", [])),
        )

    def note(self, line: str) -> None:
        self.log = [*self.log[-(_LOG_LINES - 1) :], line[:300]]

    def shown(self) -> dict[str, Any]:
        """The wire form."""
        cost = {"usd_micros": self.usd_micros, "bytes": self.bytes}
        return {"done": self.done, "total": self.total, "stored": self.stored, "cost": cost, "log": self.log}


def run(service: Service, claim: Claim) -> None:
    """The job: store item after item, for a slice of time, and tell progress after each.

    What was done is not done, nor charged, again when the job goes on or is tried anew. An item that cannot be stored
    is told in the log and left; a namespace that is gone or read-only ends the job.
    """
    assert claim.org_id is not None
    state = _Run.resumed(progress_of(service.db, claim))
    caller = Principal(kind="api_key", org_id=claim.org_id, key_id="prewarm")
    try:
        place = enter(service, caller, claim.payload["namespace"], writes=True)
    except RateLimited as busy:
        raise Retry(timedelta(seconds=int(busy.headers["Retry-After"])), busy.message) from None
    except (NotFound, Forbidden) as ended:
        state.note(ended.message)
        note_progress(service.db, service.clock, claim, state.shown())
        return
    items = _items(service, claim)
    state.total = len(items)
    until = time.monotonic() + SLICE
    for number in range(state.done, len(items)):
        full = _attempt(service, place, number, items[number], state)
        state.done += 1
        if not note_progress(service.db, service.clock, claim, state.shown()):
            return  # another worker has taken over
        if full:
            return
        if time.monotonic() >= until and state.done < len(items):
            raise Continue
    note_progress(service.db, service.clock, claim, state.shown())


def _attempt(service: Service, place: Place, number: int, item: Any, state: _Run) -> bool:
    """Store one item, or tell why not; True when the plan has no room for any further one."""
    try:
        _store(service, place, item, state)
    except QuotaExceeded as full:
        state.note(f"item {number}: {full.message}")
        return True
    except ServiceError as problem:
        state.note(f"item {number}: {problem.message}")
    except Exception as error:  # noqa: BLE001 - one item must not end the others
        _log.warning("prewarming an item failed", org=place.org_id, error=f"{type(error).__name__}: {error}"[:500])
        state.note(f"item {number}: failed ({type(error).__name__})")
    return False


def _items(service: Service, claim: Claim) -> Sequence[Any]:
    """The job's items; those of a source are fetched once and kept with the job."""
    if claim.payload["items"] is not None:
        given: Sequence[Any] = claim.payload["items"]
        return given
    fetched = _fetched_items(service, claim.payload["source"])
    with service.db.write() as session:
        session.execute(update(Job).where(Job.id == claim.id).values(payload={**claim.payload, "items": fetched}))
    return fetched


def _fetched_items(service: Service, source: str) -> list[Any]:
    answer = service.outgoing.fetch("GET", source, caps=_CAPS)
    if answer.status != 200:
        raise ServiceError(f"The source answered {answer.status}.", status=502)
    try:
        items = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise ServiceError("The source is not JSON.", status=502) from None
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise ServiceError(f"The source is a list of at most {MOST_ITEMS} items.", status=502)
    return items


def _store(service: Service, place: Place, item: Any, state: _Run) -> None:
    """One item: a value that comes with it, or the content of its address."""
    if not isinstance(item, dict):
        raise Unprocessable("an item is an object")
    ttl, tags, micros = _ttl(item), _tags(item), _micros(item)
    address = _address(item)
    if "value" in item or "response" in item:
        value, sources = item.get("value", item.get("response")), []
    elif isinstance(item.get("url"), str):
        value, sources = _content(service, item["url"], state), [item["url"]]
    else:
        raise Unprocessable("nothing here can compute this item: give value, response or url")
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    cost = calls.cost_of({"usd_micros": micros}) if micros else None
    calls.put(service, place, address, value, ttl=ttl, tags=tags, sources=sources, cost=cost)
    state.stored += 1
    state.usd_micros += micros


def _address(item: Mapping[str, Any]) -> object:
    request, provider = item.get("request"), item.get("provider", "generic")
    if isinstance(request, dict) and isinstance(provider, str):
        return {"provider": provider, **request}
    named = item.get("key") or item.get("url")
    if not isinstance(named, str) or len(named) > 2048 or request is not None:
        raise Unprocessable("an item has a key or a url (texts), or provider and request")
    return named


def _ttl(item: Mapping[str, Any]) -> float | None:
    ttl = item.get("ttl")
    is_number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
    if ttl is not None and not (is_number and 0 < ttl <= calls.LONGEST_TTL):
        raise Unprocessable(f"ttl is a number of seconds, at most {calls.LONGEST_TTL}")
    return ttl


def _micros(item: Mapping[str, Any]) -> int:
    micros = item.get("usd_micros", 0)
    if not isinstance(micros, int) or isinstance(micros, bool) or not 0 <= micros <= 10**12:
        raise Unprocessable("usd_micros is a whole number of micro-USD")
    return micros


def _tags(item: Mapping[str, Any]) -> list[str]:
    tags = item.get("tags", [])
    if (
        not isinstance(tags, list)
        or len(tags) > 50
        or not all(isinstance(tag, str) and 0 < len(tag) <= 200 for tag in tags)
    ):
        raise Unprocessable("tags is a list of at most 50 texts of at most 200 characters")
    return tags


def _content(service: Service, url: str, state: _Run) -> object:
    answer = service.outgoing.fetch("GET", url, caps=_CAPS)
    if not 200 <= answer.status < 300:
        raise ServiceError(f"{url[:200]} answered {answer.status}", status=502)
    state.bytes += len(answer.body)
    if "json" in answer.headers.get("content-type", ""):
        try:
            value: object = json.loads(answer.body)
        except (ValueError, RecursionError):
            return answer.body
        return value
    return answer.body
