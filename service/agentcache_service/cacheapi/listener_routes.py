"""Routes of listeners."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import update

from agentcache_service.cacheapi import listeners
from agentcache_service.cacheapi.place import enter
from agentcache_service.cacheapi.tables import Listener
from agentcache_service.jobs import enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.matrix import Row, for_keys
from agentcache_service.orm import new_id
from agentcache_service.policy import check_namespace, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.webhooks import delivery
from agentcache_service.wire import Body, Done, Whole

router = APIRouter(prefix="/api/listeners", tags=["listeners"])


class ListenerBody(Body):
    """An address to watch. `tags` or `pattern` say what a change invalidates (besides entries with this source)."""

    url: str = Field(min_length=1, max_length=2048)
    check_interval: Whole = Field(default=3600, ge=1, le=30 * 86400, description="seconds, at least 60")
    namespace: str | None = Field(default=None, max_length=64, description="default: the header's")
    tags: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=50)
    pattern: str | None = Field(default=None, min_length=1, max_length=2048)
    webhook: str | None = Field(default=None, min_length=1, max_length=2048)

    @model_validator(mode="after")
    def _something(self) -> ListenerBody:
        if self.tags and self.pattern is not None:
            raise ValueError("give tags or a pattern, not both")
        return self


class ListenerAnswer(BaseModel):
    """Registered. `webhook_secret` verifies the webhook's signature and is told this one time."""

    listener: str
    freshness: str
    webhook_secret: str | None = None


class ListenerView(BaseModel):
    """A listener and what it saw last."""

    listener: str
    url: str
    namespace: str
    check_interval: int
    tags: list[str]
    pattern: str | None
    webhook: str | None
    webhook_gone_at: datetime | None = Field(description="when its receiver answered 410; it is called no more")
    freshness: str
    checked_at: datetime | None
    changed_at: datetime | None
    trouble: str | None


NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]


@router.post("/register", status_code=201)
def register(
    body: ListenerBody,
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("listeners:write", by=("api_key",), namespaced=True),
) -> ListenerAnswer:
    """Watch an address."""
    service = service_of(request)
    wanted = body.namespace or namespace
    check_namespace(caller, wanted)
    made = listeners.register(
        service,
        caller,
        enter(service, caller, wanted),
        url=body.url,
        interval_s=body.check_interval,
        tags=body.tags,
        pattern=body.pattern,
        webhook=body.webhook,
    )
    return ListenerAnswer(
        listener=made.row.id,
        freshness=listeners.freshness(made.row, service.clock.now()),
        webhook_secret=made.secret,
    )


@router.get("")
def list_all(
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("listeners:read", by=("api_key",), namespaced=True),
) -> list[ListenerView]:
    """The listeners of the header's namespace."""
    service = service_of(request)
    now = service.clock.now()
    with service.db.read() as session:
        rows = [row for row in listeners.list_for(session, caller.tenant) if row.namespace == namespace]
    return [
        ListenerView(
            listener=row.id,
            url=row.url,
            namespace=row.namespace,
            check_interval=row.interval_s,
            tags=row.tags,
            pattern=row.pattern,
            webhook=row.webhook,
            webhook_gone_at=row.webhook_gone_at,
            freshness=listeners.freshness(row, now),
            checked_at=row.checked_at,
            changed_at=row.changed_at,
            trouble=row.trouble,
        )
        for row in rows
    ]


@router.delete("/{listener_id}")
def remove(
    listener_id: str,
    request: Request,
    caller: Principal = require("listeners:write", by=("api_key",), namespaced=True),
) -> Done:
    """Stop watching."""
    service = service_of(request)
    with service.db.write() as session:
        listeners.remove(service, session, caller, listener_id=listener_id)
    return Done()


@router.get("/{listener_id}/deliveries")
def list_deliveries(
    listener_id: str, request: Request, caller: Principal = require("listeners:read", by=("api_key",), namespaced=True)
) -> list[delivery.Delivery]:
    """The newest calls of a listener's webhook, failed ones with what was wrong."""
    with service_of(request).db.read() as session:
        row = listeners.own(session, caller, listener_id)
        return delivery.deliveries(session, caller.tenant, row.id)


@router.post("/{listener_id}/deliveries/{delivery_id}/replay")
def replay_delivery(
    listener_id: str,
    delivery_id: str,
    request: Request,
    caller: Principal = require("listeners:write", by=("api_key",), namespaced=True),
) -> delivery.Delivery:
    """Send a failed call again, under its old id."""
    service = service_of(request)
    with service.db.write() as session:
        row = listeners.own(session, caller, listener_id)
        return delivery.replay(service, session, caller.tenant, row.id, delivery_id)


def a_listener(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    """A listener for tests of access."""
    now = service.clock.now()
    row = Listener(
        id=new_id("lis"),
        org_id=org_id,
        namespace="storage",
        url="https://example.com/",
        interval_s=3600,
        tags=["t"],
        next_check_at=now,
        created_at=now,
    )
    with service.db.write() as session:
        session.add(row)
    return {"listener_id": row.id}


def a_failed_delivery(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    """A listener with a failed delivery, for tests of access."""
    named = a_listener(service, org_id, user_id)
    payload = {"url": "https://example.com/", "owner": named["listener_id"], "event": "listener.changed"}
    with service.db.write() as session:
        made = enqueue(session, service.clock, delivery.DELIVER, payload, org_id=org_id)
        session.execute(update(Job).where(Job.id == made).values(state="failed"))
    return {**named, "delivery_id": made or ""}


ACCESS: tuple[Row, ...] = (
    Row(
        "POST",
        "/api/listeners/register",
        for_keys(422, other_tenant_key=422),
        body={"url": "http://127.0.0.1/", "tags": ["t"]},
    ),
    Row("GET", "/api/listeners", for_keys(other_tenant_key=200), seed=a_listener),
    Row("DELETE", "/api/listeners/{listener_id}", for_keys(), seed=a_listener),
    Row("GET", "/api/listeners/{listener_id}/deliveries", for_keys(), seed=a_failed_delivery),
    Row(
        "POST",
        "/api/listeners/{listener_id}/deliveries/{delivery_id}/replay",
        for_keys(),
        seed=a_failed_delivery,
    ),
)
