"""Dashboard pages: overview with live figures, usage, plan, listeners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from agentcache_service.cacheapi import listeners
from agentcache_service.cacheapi.listener_routes import a_listener
from agentcache_service.cacheapi.place import enter
from agentcache_service.errors import ServiceError
from agentcache_service.identity import orgs
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.usage import alerts, figures
from agentcache_service.usage.meter import FIGURES
from agentcache_service.web.pages import money, number, page, percent, see_other, size
from agentcache_service.web.snippets import snippets

router = APIRouter(prefix="/dashboard", include_in_schema=False)
LIVE_EVERY_S = 1.0
LIVE_FOR_S = 600.0  # a browser reconnects by itself; a dead connection does not stay for ever


def _share_of(share: float | None, words: str) -> str:
    return words if share is None else f"{percent(share)} {words}"


def live_figures(stats: dict[str, Any]) -> dict[str, str]:
    """The texts that change while a dashboard is open, by the names its template gives their places."""
    month, ever = stats["month"], stats["all_time"]
    shown = {
        "requests": number(month["requests"]),
        "hit_rate": percent(month["hit_rate"]),
        "bytes_saved": size(month["bytes_saved"]),
        "bandwidth_saved": _share_of(month["bandwidth_saved_rate"], "of what was read"),
        "dedup_rate": percent(month["dedup_rate"]),
        "cost_saved": money(month["cost_saved_micros"]),
        "projected": money(stats["projected_saved_micros"]),
        "all_saved": money(ever["cost_saved_micros"]),
        "all_saved_note": f"all time: {money(ever['cost_saved_micros'])}",
    }
    for name, room in stats["namespaces"].items():
        shown[f"{name}.requests"] = number(room["requests"])
        shown[f"{name}.hit_rate"] = percent(room["hit_rate"])
        shown[f"{name}.bytes_saved"] = size(room["bytes_saved"])
        shown[f"{name}.dedup_rate"] = percent(room["dedup_rate"])
        shown[f"{name}.cost_saved"] = money(room["cost_saved_micros"])
    return shown


@router.get("")
def overview(request: Request, caller: Principal = require("usage:read")) -> HTMLResponse:
    """Requests, hit rate, bytes and money saved, per day and namespace."""
    service = service_of(request)
    stats = figures.stats(service, caller.tenant)
    with service.db.read() as session:
        days = figures.series(session, caller.tenant, service.clock.now())
        rooms = [row.name for row in orgs.namespaces(session, caller.tenant)]
    price = service.plans.unit_costs["bandwidth_gb_usd"]
    for day in days:
        day["saved_micros"] = figures.saved_micros(day, bandwidth_gb_usd=price)
    nothing = figures.totals(dict.fromkeys(FIGURES, 0)) | {"cost_saved_micros": 0}
    by_room = {name: stats["namespaces"].get(name, nothing) for name in rooms}
    return page(
        request,
        caller,
        "dashboard/overview.html",
        live=live_figures(stats | {"namespaces": by_room}),
        rooms=rooms,
        points=json.dumps(days),
        is_new=not stats["all_time"]["requests"],
        snippets=snippets(service.settings.public_url, key=None, namespace=rooms[0] if rooms else "default"),
    )


@router.get("/live")
async def live(request: Request, caller: Principal = require("usage:read")) -> StreamingResponse:
    """Server-sent events with the figures of the overview, told within two seconds of a change; they end with the
    session."""
    service = service_of(request)

    def look() -> dict[str, Any] | None:
        """The figures, as long as the session that asked for them is alive."""
        still = service.identify(request)
        if (still.session_id, still.org_id, still.kind) != (caller.session_id, caller.org_id, "session"):
            return None
        return figures.stats(service, caller.tenant)

    async def events() -> AsyncIterator[str]:
        told = ""
        yield "retry: 2000\n\n"
        for _ in range(int(LIVE_FOR_S / LIVE_EVERY_S)):
            stats = await run_in_threadpool(look)
            if stats is None:
                return
            text = json.dumps(live_figures(stats))
            if text != told:
                told = text
                yield f"event: figures\ndata: {text}\n\n"
            else:
                yield ": still here\n\n"
            await asyncio.sleep(LIVE_EVERY_S)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


@router.get("/usage")
def usage(request: Request, caller: Principal = require("usage:read")) -> HTMLResponse:
    """What the plan includes and what is used, and the days of the month."""
    service = service_of(request)
    service.meter.flush(everything=True)
    with service.db.read() as session:
        use = figures.usage_of(service, session, caller.tenant)
        days = figures.series(session, caller.tenant, service.clock.now())
    lines = [
        {
            "name": alerts.NAMES[metric].capitalize(),
            "used": number(used) if metric == "requests" else size(used),
            "limit": ("unlimited" if limit is None else number(limit)) if metric == "requests" else size(limit),
            "percent": alerts.percent_used(used, limit),
        }
        for metric, (used, limit) in use.items()
    ]
    return page(request, caller, "dashboard/usage.html", lines=lines, days=list(reversed(days)))


@router.get("/plan")
def plan(request: Request, caller: Principal = require("billing:read")) -> HTMLResponse:
    """The plan in force and the others."""
    return page(request, caller, "dashboard/plan.html", plans=service_of(request).plans)


def _listeners_page(
    request: Request, caller: Principal, *, problem: str | None = None, secret: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    now = service.clock.now()
    with service.db.read() as session:
        rows = [(row, listeners.freshness(row, now)) for row in listeners.list_for(session, caller.tenant)]
        rooms = [row.name for row in orgs.namespaces(session, caller.tenant)]
    return page(
        request,
        caller,
        "dashboard/listeners.html",
        status=status,
        rows=rows,
        rooms=rooms,
        problem=problem,
        secret=secret,
    )


@router.get("/listeners")
def listeners_page(request: Request, caller: Principal = require("listeners:read")) -> HTMLResponse:
    """Watched addresses."""
    return _listeners_page(request, caller)


@router.post("/listeners")
def add_listener(
    request: Request,
    url: str = Form(max_length=2048),
    namespace: str = Form(max_length=64),
    minutes: int = Form(default=60, ge=1, le=43200),
    tags: str = Form(default="", max_length=2000),
    webhook: str = Form(default="", max_length=2048),
    caller: Principal = require("listeners:write"),
) -> HTMLResponse:
    """Watch a further address."""
    service = service_of(request)
    try:
        made = listeners.register(
            service,
            caller,
            enter(service, caller, namespace),
            url=url.strip(),
            interval_s=minutes * 60,
            tags=[tag.strip()[:200] for tag in tags.split(",") if tag.strip()][:50],
            pattern=None,
            webhook=webhook.strip() or None,
        )
    except ServiceError as refused:
        return _listeners_page(request, caller, problem=refused.message, status=refused.status)
    return _listeners_page(request, caller, secret=made.secret)


@router.post("/listeners/{listener_id}/remove")
def remove_listener(listener_id: str, request: Request, caller: Principal = require("listeners:write")) -> Response:
    """Stop watching."""
    service = service_of(request)
    with service.db.write() as session:
        listeners.remove(service, session, caller, listener_id=listener_id)
    return see_other("/dashboard/listeners")


ACCESS: tuple[Row, ...] = (
    Row("GET", "/dashboard", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/dashboard/live", for_sessions(least="viewer", other_tenant=200), streams=True),
    Row("GET", "/dashboard/usage", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/dashboard/plan", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/dashboard/listeners", for_sessions(least="viewer", other_tenant=200)),
    Row(
        "POST",
        "/dashboard/listeners",
        for_sessions(422, least="member", other_tenant=422),
        form={"url": "http://127.0.0.1/", "namespace": "storage"},
    ),
    Row(
        "POST",
        "/dashboard/listeners/{listener_id}/remove",
        for_sessions(303, least="member"),
        seed=a_listener,
    ),
)
