"""Routes of prewarming."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, model_validator

from agentcache_service.cacheapi import prewarm, schedules
from agentcache_service.cacheapi.place import enter
from agentcache_service.matrix import Row, for_keys
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done

router = APIRouter(prefix="/api/cache/prewarm", tags=["cache"])
NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]


class PrewarmBody(Body):
    """What to store: items with `key` or `provider` and `request`, and `value`, `response` or a `url` to fetch."""

    requests: list[dict[str, Any]] | None = Field(default=None, max_length=prewarm.MOST_ITEMS)
    source: str | None = Field(
        default=None, min_length=1, max_length=2048, description="address of a JSON list of items"
    )
    schedule: str | None = Field(default=None, max_length=100, description='"nightly", "weekly" or a cron expression')

    @model_validator(mode="after")
    def _one(self) -> PrewarmBody:
        if (self.requests is None) == (self.source is None):
            raise ValueError("give either requests or source")
        return self


class PrewarmStarted(BaseModel):
    """Accepted. `schedule` names what will begin it again, where that was asked for."""

    job: str
    schedule: str | None = None


class ScheduleView(BaseModel):
    """A schedule: its cron expression (UTC), what it fills the namespace with, and the job of the last time."""

    schedule: str
    expression: str
    source: str | None
    items: int | None = Field(description="how many items came with it; null where they come from the source")
    next_run_at: datetime
    last_job: str | None


class PrewarmStatus(BaseModel):
    """How far it is. `state` is queued, running, done or failed."""

    job: str
    state: str
    done: int
    total: int | None
    cost: dict[str, int]
    log: list[str]


@router.post("", status_code=202)
def start(
    body: PrewarmBody,
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> PrewarmStarted:
    """Fill the namespace in the background."""
    service = service_of(request)
    place = enter(service, caller, namespace, writes=True)
    begun = prewarm.start(service, place, items=body.requests, source=body.source, schedule=body.schedule)
    return PrewarmStarted(job=begun.job, schedule=begun.schedule)


@router.get("")
def list_schedules(
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> list[ScheduleView]:
    """What fills the header's namespace again and again."""
    with service_of(request).db.read() as session:
        return [
            ScheduleView(
                schedule=row.id,
                expression=row.expression,
                source=row.source,
                items=None if row.items is None else len(row.items),
                next_run_at=row.next_run_at,
                last_job=row.last_job,
            )
            for row in schedules.list_for(session, caller.tenant, namespace)
        ]


@router.delete("/{schedule}")
def stop_schedule(
    schedule: str, request: Request, caller: Principal = require("cache:write", by=("api_key",), namespaced=True)
) -> Done:
    """End a schedule; a job that runs is not touched."""
    service = service_of(request)
    with service.db.write() as session:
        schedules.stop(service, session, caller, schedule)
    return Done()


@router.get("/{job}")
def status(job: str, request: Request, caller: Principal = require("cache:read", by=("api_key",))) -> PrewarmStatus:
    """How far a job is."""
    with service_of(request).db.read() as session:
        return PrewarmStatus.model_validate(prewarm.status(session, caller, job))


def _a_job(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    place = enter(service, Principal(kind="api_key", org_id=org_id), "storage")
    begun = prewarm.start(service, place, items=[], source=None, schedule="nightly")
    return {"job": begun.job, "schedule": begun.schedule or ""}


ACCESS: tuple[Row, ...] = (
    Row(
        "POST",
        "/api/cache/prewarm",
        for_keys(202, other_tenant_key=202),
        body={"requests": [{"key": "a", "value": 1}]},
    ),
    Row("GET", "/api/cache/prewarm", for_keys(other_tenant_key=200), seed=_a_job),
    Row("GET", "/api/cache/prewarm/{job}", for_keys(other_namespace=404), seed=_a_job),
    Row("DELETE", "/api/cache/prewarm/{schedule}", for_keys(), seed=_a_job),
)
