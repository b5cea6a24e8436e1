"""Pages of integrations: the catalogue, one's own connections, connecting, jobs, disconnecting."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other

from . import connections, partner_jobs, seeds
from .integration_routes import connection_view, recipe_text
from .partner_catalog import Category

router = APIRouter(prefix="/dashboard/integrations", include_in_schema=False)
LABELS = {
    "api_key": "API key",
    "token": "Token",
    "url": "Address",
    "database_url": "Connection string",
    "endpoint_id": "Endpoint id",
    "token_id": "Token id",
    "token_secret": "Token secret",
}
PLAIN_FIELDS = {"url", "endpoint_id", "token_id"}


@router.get("")
def catalogue(
    request: Request,
    q: str = "",
    category: str = "",
    connected: str = "",
    ended: str = "",
    caller: Principal = require("integrations:read"),
) -> HTMLResponse:
    """Partners, the featured three, bundles, and what is connected."""
    service = service_of(request)
    catalog = service.market.catalog
    with service.db.read() as session:
        rows = [connection_view(service, row) for row in connections.connected(session, caller.tenant)]
    known = catalog.by_slug
    notice = None
    if connected in known:
        notice = f"{known[connected].name} is connected."
    elif ended in known:
        notice = f"{known[ended].name} is disconnected and its credential erased."
    searching = bool(q or category)
    return page(
        request,
        caller,
        "market/integrations.html",
        q=q[:100],
        category=category,
        categories=get_args(Category),
        partners=catalog.search(q[:100], category=category or None),
        featured=[] if searching else catalog.featured,
        bundles=[] if searching else [(item, [known[slug] for slug in item.partners]) for item in catalog.bundles],
        mine=rows,
        mine_slugs={row.partner for row in rows},
        may_write=role_allows(caller.role, "integrations:write"),
        notice=notice,
    )


def _partner_page(
    request: Request, caller: Principal, slug: str, *, problem: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    partner = connections.partner(service, slug)
    with service.db.read() as session:
        row = connections.find(session, caller.tenant, slug)
        jobs = partner_jobs.of_org(session, caller.tenant, slug) if partner.actions else []
    connected = connection_view(service, row) if row is not None and row.sealed is not None else None
    return page(
        request,
        caller,
        "market/integration.html",
        status=status,
        partner=partner,
        connected=connected,
        jobs=jobs,
        labels=LABELS,
        plain_fields=PLAIN_FIELDS,
        recipe=recipe_text(service, partner),
        may_write=role_allows(caller.role, "integrations:write"),
        may_use=role_allows(caller.role, "integrations:use"),
        problem=problem,
    )


@router.get("/{slug}")
def one(slug: str, request: Request, caller: Principal = require("integrations:read")) -> HTMLResponse:
    """A partner."""
    return _partner_page(request, caller, slug)


@router.post("/{slug}/connect")
async def connect(slug: str, request: Request, caller: Principal = require("integrations:write")) -> Response:
    """Connect by key."""
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str) and name != "csrf_token"}

    def keep() -> Response:
        try:
            connections.connect_by_key(service_of(request), caller, slug, fields=fields)
        except ServiceError as refused:
            if refused.status == 404:
                raise
            return _partner_page(request, caller, slug, problem=refused.message, status=refused.status)
        return see_other(f"/dashboard/integrations?connected={slug}")

    return await run_in_threadpool(keep)


@router.post("/{slug}/disconnect")
def disconnect(slug: str, request: Request, caller: Principal = require("integrations:write")) -> Response:
    """Revoke and erase."""
    connections.disconnect(service_of(request), caller, slug)
    return see_other(f"/dashboard/integrations?ended={slug}")


@router.post("/{slug}/jobs")
def start_job(
    slug: str,
    request: Request,
    action: Annotated[str, Form(max_length=40)],
    given: Annotated[str, Form(max_length=20_000)] = "{}",
    schedule: Annotated[str, Form(max_length=60)] = "",
    caller: Principal = require("integrations:use"),
) -> Response:
    """Start or schedule a job."""
    try:
        try:
            parsed: Any = json.loads(given or "{}")
        except ValueError:
            raise Unprocessable("The input is not JSON.") from None
        if not isinstance(parsed, dict):
            raise Unprocessable("The input is a JSON object.")
        partner_jobs.trigger(service_of(request), caller, slug, action=action, given=parsed, schedule=schedule or None)
    except ServiceError as refused:
        return _partner_page(request, caller, slug, problem=refused.message, status=refused.status)
    return see_other(f"/dashboard/integrations/{slug}")


@router.post("/{slug}/jobs/{job_id}/cancel")
def cancel_job(slug: str, job_id: str, request: Request, caller: Principal = require("integrations:use")) -> Response:
    """Stop a job."""
    partner_jobs.cancel(service_of(request), caller, slug, job_id=job_id)
    return see_other(f"/dashboard/integrations/{slug}")


_READ = for_sessions(least="viewer", other_tenant=200)
_SEED = seeds.a_connection

ACCESS: tuple[Row, ...] = (
    Row("GET", "/dashboard/integrations", _READ),
    Row("GET", "/dashboard/integrations/{slug}", _READ, seed=_SEED),
    Row(
        "POST",
        "/dashboard/integrations/{slug}/connect",
        for_sessions(422, least="admin", other_tenant=422),
        form={"url": "http://10.0.0.1/", "token_id": "a", "token_secret": "b"},
        seed=_SEED,
    ),
    Row("POST", "/dashboard/integrations/{slug}/disconnect", for_sessions(303, least="admin"), seed=_SEED),
    Row(
        "POST",
        "/dashboard/integrations/{slug}/jobs",
        for_sessions(303, least="member", other_tenant=409),
        form={"action": "warm", "schedule": "nightly"},
        seed=_SEED,
    ),
    Row("POST", "/dashboard/integrations/{slug}/jobs/{job_id}/cancel", for_sessions(303, least="member"), seed=_SEED),
)
