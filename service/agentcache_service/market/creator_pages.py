"""Pages of creators: profile, figures that follow live, payouts, moderation, support."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import ServiceError
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.money.billing_tables import BillingAccount
from agentcache_service.policy import require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import money, number, page, see_other

from . import creator_analytics, creators, moderation, seeds, support
from .creator_routes import ask_for_payout, payouts_view
from .tables import Creator, Listing, Purchase

router = APIRouter(prefix="/creator", include_in_schema=False)
Text = Annotated[str, Form(max_length=20_000)]
LIVE_EVERY_S = 1.0
LIVE_FOR_S = 600.0


def live_figures(overview: dict[str, Any]) -> dict[str, str]:
    """The texts that change while the page is open."""
    return {
        "revenue": money(overview["revenue"]),
        "payable": money(overview["payable"]),
        "sales": number(overview["sales"]),
        "calls": number(overview["calls"]["total"]),
        "downloads": number(overview["downloads"]),
    }


def _home(
    request: Request, caller: Principal, *, problem: str | None = None, notice: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        creator = session.get(Creator, caller.tenant)
        account = session.get(BillingAccount, caller.tenant)
        overview = creator_analytics.overview(session, caller.tenant, service.clock.now())
        paid = payouts_view(session, "creator", caller.tenant, minimum=service.market.rates.creator_minimum)
        cases = [
            (case, session.get_one(Listing, case.listing_id)) for case in moderation.of_creator(session, caller.tenant)
        ]
        talks = support.open_threads(session, caller.tenant)
    return page(
        request,
        caller,
        "market/creator.html",
        status=status,
        creator=creator,
        payee=account.payee_email if account else None,
        overview=overview,
        live=live_figures(overview),
        points=json.dumps(overview["days"]),
        payouts=paid,
        cases=cases,
        talks=talks,
        may_sell=role_allows(caller.role, "market:sell"),
        problem=problem,
        notice=notice,
    )


@router.get("")
def home(request: Request, done: str = "", caller: Principal = require("market:read")) -> HTMLResponse:
    """The creator's page."""
    notices = {"payout": "The payout is on its way.", "appeal": "A moderator will look again.", "profile": "Saved."}
    return _home(request, caller, notice=notices.get(done))


@router.get("/live")
async def live(request: Request, caller: Principal = require("market:read")) -> StreamingResponse:
    """Server-sent events with the figures, told within two seconds of a change."""
    service = service_of(request)

    def figures() -> str:
        with service.db.read() as session:
            return json.dumps(live_figures(creator_analytics.overview(session, caller.tenant, service.clock.now())))

    async def events() -> AsyncIterator[str]:
        told = ""
        yield "retry: 2000\n\n"
        for _ in range(int(LIVE_FOR_S / LIVE_EVERY_S)):
            text = await run_in_threadpool(figures)
            yield f"event: figures\ndata: {text}\n\n" if text != told else ": still here\n\n"
            told = text
            await asyncio.sleep(LIVE_EVERY_S)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


@router.post("/profile")
def save_profile(
    request: Request, display_name: Text, about: Text = "", caller: Principal = require("market:sell")
) -> Response:
    """Become a creator, or change the profile."""
    if not 2 <= len(display_name.strip()) <= 80:
        return _home(request, caller, problem="The name has 2 to 80 characters.", status=422)
    service = service_of(request)
    with service.db.write() as session:
        creators.become(service, session, caller, display_name=display_name.strip(), about=about[:2000])
    return see_other("/creator?done=profile")


@router.post("/payout")
def payout(request: Request, caller: Principal = require("market:sell")) -> Response:
    """Have what is owed sent."""
    service = service_of(request)
    try:
        ask_for_payout(service, "creator", caller.tenant, minimum=service.market.rates.creator_minimum)
    except ServiceError as refused:
        return _home(request, caller, problem=refused.message, status=refused.status)
    return see_other("/creator?done=payout")


@router.post("/cases/{case_id}/appeal")
def appeal(case_id: str, request: Request, words: Text, caller: Principal = require("market:sell")) -> Response:
    """Answer a rejection."""
    service = service_of(request)
    with service.db.write() as session:
        moderation.appeal(service, session, caller, case_id=case_id, words=words[:4000])
    return see_other("/creator?done=appeal")


@router.get("/support/{purchase_id}")
def talk(purchase_id: str, request: Request, caller: Principal = require("market:read")) -> HTMLResponse:
    """A support thread, for the creator."""
    with service_of(request).db.read() as session:
        rows = support.thread(session, caller.tenant, purchase_id)
        purchase = session.get_one(Purchase, purchase_id)
        listing = session.get_one(Listing, purchase.listing_id)
    return page(request, caller, "market/thread.html", purchase=purchase, listing=listing, thread=rows)


_SELL = for_sessions(303, least="admin")

ACCESS: tuple[Row, ...] = (
    Row("GET", "/creator", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/creator/live", for_sessions(least="viewer", other_tenant=200), streams=True),
    Row("POST", "/creator/profile", for_sessions(303, least="admin", other_tenant=303), form={"display_name": "Ada"}),
    Row("POST", "/creator/payout", for_sessions(409, least="admin", other_tenant=409)),
    Row(
        "POST",
        "/creator/cases/{case_id}/appeal",
        _SELL,
        form={"words": "It works as described."},
        seed=seeds.a_rejected_case,
    ),
    Row("GET", "/creator/support/{purchase_id}", for_sessions(least="viewer"), seed=seeds.a_purchase),
)
