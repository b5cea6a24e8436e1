"""Routes of prewarming."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, model_validator

from agentcache_service.cacheapi import prewarm
from agentcache_service.cacheapi.place import enter
from agentcache_service.matrix import Row, for_keys
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body

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
    """Accepted."""

    job: str


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
    job = prewarm.start(service, place, items=body.requests, source=body.source, schedule=body.schedule)
    return PrewarmStarted(job=job)


@router.get("/{job}")
def status(job: str, request: Request, caller: Principal = require("cache:read", by=("api_key",))) -> PrewarmStatus:
    """How far a job is."""
    with service_of(request).db.read() as session:
        return PrewarmStatus.model_validate(prewarm.status(session, caller, job))


def _a_job(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    place = enter(service, Principal(kind="api_key", org_id=org_id), "storage")
    return {"job": prewarm.start(service, place, items=[], source=None, schedule=None)}


ACCESS: tuple[Row, ...] = (
    Row(
        "POST",
        "/api/cache/prewarm",
        for_keys(202, other_tenant_key=202),
        body={"requests": [{"key": "a", "value": 1}]},
    ),
    Row("GET", "/api/cache/prewarm/{job}", for_keys(other_namespace=404), seed=_a_job),
)
