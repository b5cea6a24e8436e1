"""The earnings page: opting in, links, figures, chart, funnel, payouts."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from agentcache_service.errors import ServiceError
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other

from . import affiliates, earnings
from .affiliate_routes import ask_for_payout
from .creator_routes import payouts_view

router = APIRouter(prefix="/dashboard/affiliates", include_in_schema=False)


def _earnings_page(
    request: Request, caller: Principal, *, problem: str | None = None, notice: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    with service.db.write() as session:
        summary = earnings.summary(session, caller.tenant, service.clock.now())
        rows = affiliates.links(service, session, caller.tenant) if summary["opted_in"] else []
        paid = payouts_view(session, "affiliate", caller.tenant, minimum=service.market.rates.referrer_minimum)
        links = [
            (service.market.catalog.by_slug[row.partner], f"{service.settings.public_url}/r/{row.code}")
            for row in rows
            if row.partner in service.market.catalog.by_slug
        ]
    return page(
        request,
        caller,
        "market/earnings.html",
        status=status,
        summary=summary,
        links=links,
        payouts=paid,
        partners=service.market.catalog.by_slug,
        share=service.market.rates.referrer_share_bps / 10_000,
        points=json.dumps(summary["chart"]),
        may_write=role_allows(caller.role, "affiliates:write"),
        problem=problem,
        notice=notice,
    )


@router.get("")
def home(request: Request, done: str = "", caller: Principal = require("affiliates:read")) -> HTMLResponse:
    """The earnings page."""
    return _earnings_page(request, caller, notice="The payout is on its way." if done == "payout" else None)


@router.post("/opt-in")
def opt_in(
    request: Request, into: Annotated[str, Form(max_length=5)] = "yes", caller: Principal = require("affiliates:write")
) -> Response:
    """Begin or stop earning."""
    service = service_of(request)
    with service.db.write() as session:
        affiliates.opt_in(service, session, caller, into=into == "yes")
    return see_other("/dashboard/affiliates")


@router.post("/payout")
def payout(request: Request, caller: Principal = require("affiliates:write")) -> Response:
    """Request a payout."""
    try:
        ask_for_payout(service_of(request), caller.tenant)
    except ServiceError as refused:
        return _earnings_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/dashboard/affiliates?done=payout")


ACCESS: tuple[Row, ...] = (
    Row("GET", "/dashboard/affiliates", for_sessions(least="viewer", other_tenant=200)),
    Row("POST", "/dashboard/affiliates/opt-in", for_sessions(303, least="admin", other_tenant=303)),
    Row("POST", "/dashboard/affiliates/payout", for_sessions(409, least="admin", other_tenant=409)),
)
