"""Routes of creators and moderators: profile, analytics, payouts, cases; the queue and decisions; platform figures."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.jobs import enqueue
from agentcache_service.matrix import Row, for_sessions, for_staff
from agentcache_service.money import payouts
from agentcache_service.money.billing_tables import Payout
from agentcache_service.money.entries import Payee
from agentcache_service.money.jobs import PAY_OUT
from agentcache_service.policy import require, require_staff
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body

from . import creator_analytics, creators, moderation, seeds
from .figure_views import CreatorFigures
from .tables import Listing
from .views import CaseView, case_view

router = APIRouter(prefix="/api", tags=["market"])


class CreatorBody(Body):
    """How a creator presents itself."""

    display_name: str = Field(min_length=2, max_length=80)
    about: str = Field(default="", max_length=2000)


class CreatorView(BaseModel):
    """A creator."""

    org: str
    display_name: str
    about: str
    created_at: datetime


class PayoutView(BaseModel):
    """A payout; the amount in micro-USD."""

    id: str
    amount: int
    status: str
    failure: str | None
    requested_at: datetime
    finished_at: datetime | None


class PayoutsView(BaseModel):
    """What is owed now, the smallest payout, and every payout so far."""

    payable: int
    minimum: int
    payouts: list[PayoutView]


class AppealBody(Body):
    """Why a rejection is wrong."""

    words: str = Field(min_length=10, max_length=4000)


class DecisionBody(Body):
    """A moderator's decision; a rejection says why."""

    decision: Literal["approve", "reject"]
    note: str = Field(default="", max_length=2000)


def payout_view(row: Payout) -> PayoutView:
    """A payout's wire form."""
    return PayoutView(
        id=row.id,
        amount=row.amount,
        status=row.status,
        failure=row.failure,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
    )


def payouts_view(session: Session, payee: Payee, org_id: str, *, minimum: int) -> PayoutsView:
    """An organization's payouts of one kind."""
    query = select(Payout).where(Payout.org_id == org_id, Payout.payee == payee).order_by(Payout.requested_at.desc())
    return PayoutsView(
        payable=payouts.payable(session, payee, org_id),
        minimum=minimum,
        payouts=[payout_view(row) for row in session.scalars(query)],
    )


def ask_for_payout(service: Service, payee: Payee, org_id: str, *, minimum: int) -> PayoutView:
    """Set aside what is owed and have a job send it."""
    with service.db.write() as session:
        row = payouts.request_payout(
            session, payee, org_id=org_id, minimum=minimum, gateway=service.money.gateway.name, now=service.clock.now()
        )
        enqueue(session, service.clock, PAY_OUT, {"payout": row.id}, org_id=org_id, dedupe_key=f"payout:{row.id}")
        return payout_view(row)


@router.put("/market/creator")
def become_creator(body: CreatorBody, request: Request, caller: Principal = require("market:sell")) -> CreatorView:
    """Become a creator, or change how one is presented."""
    service = service_of(request)
    with service.db.write() as session:
        row = creators.become(service, session, caller, display_name=body.display_name, about=body.about)
        return CreatorView(org=row.org_id, display_name=row.display_name, about=row.about, created_at=row.created_at)


@router.get("/market/creator/analytics")
def analytics(request: Request, caller: Principal = require("market:read")) -> CreatorFigures:
    """Sales, calls, downloads and revenue of the organization's listings, as they are now; money in micro-USD."""
    service = service_of(request)
    with service.db.read() as session:
        return CreatorFigures.model_validate(creator_analytics.overview(session, caller.tenant, service.clock.now()))


@router.get("/market/creator/payouts")
def list_payouts(request: Request, caller: Principal = require("market:sell")) -> PayoutsView:
    """What the organization is owed for sales, and its payouts."""
    service = service_of(request)
    with service.db.read() as session:
        return payouts_view(session, "creator", caller.tenant, minimum=service.market.rates.creator_minimum)


@router.post("/market/creator/payouts", status_code=202)
def request_payout(request: Request, caller: Principal = require("market:sell")) -> PayoutView:
    """Have everything owed sent."""
    service = service_of(request)
    return ask_for_payout(service, "creator", caller.tenant, minimum=service.market.rates.creator_minimum)


@router.get("/market/creator/cases")
def own_cases(request: Request, caller: Principal = require("market:sell")) -> list[CaseView]:
    """Moderation of the organization's listings."""
    with service_of(request).db.read() as session:
        cases = moderation.of_creator(session, caller.tenant)
        return [case_view(case, session.get_one(Listing, case.listing_id).name) for case in cases]


@router.post("/market/cases/{case_id}/appeal")
def appeal(case_id: str, body: AppealBody, request: Request, caller: Principal = require("market:sell")) -> CaseView:
    """Answer a rejection; somebody else decides."""
    service = service_of(request)
    with service.db.write() as session:
        case = moderation.appeal(service, session, caller, case_id=case_id, words=body.words)
        return case_view(case, session.get_one(Listing, case.listing_id).name)


@router.get("/admin/moderation")
def queue(request: Request, _caller: Principal = require_staff()) -> list[CaseView]:
    """Open cases: appeals first, then the oldest."""
    with service_of(request).db.read() as session:
        return [case_view(case, row.name) for case, row in moderation.queue(session)]


@router.post("/admin/moderation/{case_id}/decision")
def decide(case_id: str, body: DecisionBody, request: Request, caller: Principal = require_staff()) -> CaseView:
    """Decide a case."""
    service = service_of(request)
    with service.db.write() as session:
        case = moderation.decide(
            service, session, caller, case_id=case_id, approve=body.decision == "approve", note=body.note
        )
        return case_view(case, session.get_one(Listing, case.listing_id).name)


_OWN = for_sessions(least="admin", other_tenant=200)

ACCESS: tuple[Row, ...] = (
    Row("PUT", "/api/market/creator", _OWN, body={"display_name": "Ada's models"}),
    Row("GET", "/api/market/creator/analytics", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/api/market/creator/payouts", _OWN),
    Row("POST", "/api/market/creator/payouts", {**_OWN, "admin": 409, "other_tenant": 409}),
    Row("GET", "/api/market/creator/cases", _OWN),
    Row(
        "POST",
        "/api/market/cases/{case_id}/appeal",
        for_sessions(least="admin"),
        body={"words": "It does what it says."},
        seed=seeds.a_rejected_case,
    ),
    Row("GET", "/api/admin/moderation", for_staff(), staff=200),
    Row(
        "POST",
        "/api/admin/moderation/{case_id}/decision",
        for_staff(),
        body={"decision": "approve"},
        seed=seeds.an_open_case,
        staff=200,
    ),
)
