"""Prewarming: filling a namespace ahead of use, as a job with progress, once or on a schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from croniter import croniter  # type: ignore[import-untyped]  # the package has no types
from sqlalchemy.orm import Session

from agentcache_service.cacheapi import calls
from agentcache_service.cacheapi.place import Place, admit_request, enter
from agentcache_service.errors import NotFound, ServiceError, Unprocessable
from agentcache_service.jobs import Claim, enqueue, note_progress
from agentcache_service.jobs_tables import Job
from agentcache_service.principal import Principal
from agentcache_service.safe_http import Caps

if TYPE_CHECKING:
    from agentcache_service.service import Service

PREWARM = "cacheapi.prewarm"
MOST_ITEMS = 5000
_NAMED = {"nightly": "0 3 * * *", "weekly": "0 3 * * 1"}
_LOG_LINES = 50
_CAPS = Caps(max_bytes=10 << 20, seconds=20.0)


def cron_of(schedule: str) -> str:
    """The cron expression of a schedule: nightly (03:00 UTC), weekly (Mondays) or five fields, at most hourly."""
    expression = _NAMED.get(schedule, schedule)
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise Unprocessable('schedule is "nightly", "weekly" or a cron expression of five fields.', code="schedule")
    if not expression.split()[0].isdigit():
        raise Unprocessable("A schedule runs at most once an hour: its first field is one minute.", code="schedule")
    return expression


def next_run(expression: str, now: datetime) -> datetime:
    """The next moment a cron expression names after `now` (UTC)."""
    found: datetime = croniter(expression, now).get_next(datetime)
    return found


def start(
    service: Service,
    place: Place,
    *,
    items: Sequence[Mapping[str, Any]] | None,
    source: str | None,
    schedule: str | None,
) -> str:
    """Enqueue the job and return its id. `source` is an address of a JSON list of items."""
    expression = None if schedule is None else cron_of(schedule)
    if source is not None:
        service.outgoing.check(source)
    payload = {
        "namespace": place.namespace,
        "items": list(items) if items is not None else None,
        "source": source,
        "schedule": expression,
    }
    with service.db.write() as session:
        made = enqueue(session, service.clock, PREWARM, payload, org_id=place.org_id)
    assert made is not None
    return made


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
    """What one run of a job has done."""

    total: int
    done: int = 0
    stored: int = 0
    usd_micros: int = 0
    bytes: int = 0
    log: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        self.log = [*self.log[-(_LOG_LINES - 1) :], line]

    def shown(self) -> dict[str, Any]:
        """The wire form."""
        cost = {"usd_micros": self.usd_micros, "bytes": self.bytes}
        return {"done": self.done, "total": self.total, "stored": self.stored, "cost": cost, "log": self.log}


def run(service: Service, claim: Claim) -> None:
    """The job: store every item, tell progress, and plan the next run where there is a schedule."""
    assert claim.org_id is not None
    caller = Principal(kind="api_key", org_id=claim.org_id, key_id="prewarm")
    place = enter(service, caller, claim.payload["namespace"], writes=True)
    items = claim.payload["items"]
    if items is None:
        items = _fetched_items(service, claim.payload["source"])
    state = _Run(total=len(items))
    for number, item in enumerate(items):
        try:
            _store(service, place, item, state)
        except ServiceError as problem:
            state.note(f"item {number}: {problem.message}")
        state.done += 1
        if number % 20 == 0 and not note_progress(service.db, service.clock, claim, state.shown()):
            return  # another worker has taken over
    note_progress(service.db, service.clock, claim, state.shown())
    expression = claim.payload["schedule"]
    if expression is not None:
        _plan_next(service, claim, expression)


def _plan_next(service: Service, claim: Claim, expression: str) -> None:
    at = next_run(expression, service.clock.now())
    with service.db.write() as session:
        slot = f"{PREWARM}:{claim.id}:{at:%Y%m%dT%H%M}"
        enqueue(session, service.clock, PREWARM, claim.payload, org_id=claim.org_id, run_at=at, dedupe_key=slot)


def _fetched_items(service: Service, source: str) -> list[Any]:
    answer = service.outgoing.fetch("GET", source, caps=_CAPS)
    if answer.status != 200:
        raise ServiceError(f"The source answered {answer.status}.", status=502)
    try:
        items = json.loads(answer.body)
    except ValueError:
        raise ServiceError("The source is not JSON.", status=502) from None
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise ServiceError(f"The source is a list of at most {MOST_ITEMS} items.", status=502)
    return items


def _store(service: Service, place: Place, item: Any, state: _Run) -> None:
    """One item: a value that comes with it, or the content of its address."""
    if not isinstance(item, dict):
        raise Unprocessable("an item is an object")
    address: object = item.get("key") or item.get("url")
    if isinstance(item.get("request"), dict):
        address = {"provider": item.get("provider", "generic"), **item["request"]}
    if not address:
        raise Unprocessable("an item has a key, a url, or provider and request")
    if "value" in item or "response" in item:
        value, sources = item.get("value", item.get("response")), []
    elif isinstance(item.get("url"), str):
        value, sources = _content(service, item["url"], state), [item["url"]]
    else:
        raise Unprocessable("nothing here can compute this item: give value, response or url")
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    ttl = item.get("ttl")
    if ttl is not None and (not isinstance(ttl, int | float) or isinstance(ttl, bool) or ttl <= 0):
        raise Unprocessable("ttl is a number of seconds")
    micros = item.get("usd_micros", 0)
    micros = micros if isinstance(micros, int) and not isinstance(micros, bool) and micros >= 0 else 0
    cost = calls.cost_of({"usd_micros": micros}) if micros else None
    calls.put(service, place, address, value, ttl=ttl, tags=_tags(item), sources=sources, cost=cost)
    state.stored += 1
    state.usd_micros += micros


def _tags(item: Mapping[str, Any]) -> list[str]:
    tags = item.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise Unprocessable("tags is a list of texts")
    return tags


def _content(service: Service, url: str, state: _Run) -> object:
    answer = service.outgoing.fetch("GET", url, caps=_CAPS)
    if not 200 <= answer.status < 300:
        raise ServiceError(f"{url[:200]} answered {answer.status}", status=502)
    state.bytes += len(answer.body)
    if "json" in answer.headers.get("content-type", ""):
        try:
            value: object = json.loads(answer.body)
        except ValueError:
            return answer.body
        return value
    return answer.body
