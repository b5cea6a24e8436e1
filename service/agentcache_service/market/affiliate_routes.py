"""Routes of affiliates: the referral link, partners' postbacks, the opt-in earnings, payouts and partner invoices."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import BadRequest, NotFound
from agentcache_service.jobs import enqueue
from agentcache_service.matrix import Row, for_everybody, for_sessions, for_staff
from agentcache_service.money import payouts
from agentcache_service.money.billing_tables import Invoice
from agentcache_service.money.jobs import PAY_OUT
from agentcache_service.money.routes import PDF, InvoiceView, invoice_view, pdf_answer
from agentcache_service.policy import public, require, require_staff
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done, json_body, leads_to

from . import affiliates, earnings, seeds
from .creator_routes import PayoutsView, PayoutView, payout_view, payouts_view
from .figure_views import Earnings
from .integration_tables import Commission

router = APIRouter(tags=["affiliates"])

COOKIE = "agentcache_ref"
CONSENT = "agentcache_consent"
MAX_BODY = 64 << 10


class OptInBody(Body):
    """Whether to earn from referrals."""

    opted_in: bool = True


class EventBody(Body):
    """A partner's event. `amount` is what the customer paid (or was refunded) in micro-USD."""

    id: str = Field(min_length=1, max_length=200)
    event: Literal["signup", "conversion", "usage", "refund"]
    customer: str = Field(min_length=1, max_length=200)
    click: str | None = Field(default=None, max_length=80)
    amount: int = Field(default=0, ge=0, le=10**13)
    calls: int = Field(default=0, ge=0, le=10**9)
    refers_to: str | None = Field(default=None, max_length=200, description="the conversion a refund is about")


_SIGNED = json_body(
    EventBody, headers={"X-Timestamp": "seconds since 1970", "X-Signature": "hex HMAC-SHA256 of `<timestamp>.<body>`"}
)


class OutcomeView(Done):
    """What an event brought about: `pending`, `signed_up`, `unattributed`, `void` and the like."""

    outcome: str


class OptInView(Done):
    """Whether the organization earns from referrals."""

    opted_in: bool


class LinkView(BaseModel):
    """A referral link."""

    partner: str
    code: str
    url: str
    commission: str


class CommissionView(BaseModel):
    """A line of earnings; money in micro-USD."""

    id: str
    partner: str
    kind: str
    state: str
    base: int
    amount: int
    share: int
    earned_at: datetime
    hold_until: datetime
    reverses: str | None


@router.get(
    "/r/{code}",
    status_code=302,
    response_class=Response,
    responses=leads_to("the partner's own host, with UTM parameters", 302),
)
def follow(code: str, request: Request, _caller: Principal = public(rate="120/minute")) -> Response:
    """A referral link: counts the click and leads to the partner's own hosts with UTM parameters.

    A first-party signed cookie is set only with consent (the visitor's choice in the cookie `agentcache_consent`,
    or the parameter `consent=yes` of the consent page); without it nothing about the visitor is kept.
    """
    service = service_of(request)
    said = request.query_params.get("consent")
    consent = said == "yes" or (said is None and request.cookies.get(CONSENT) == "yes")
    utm = {name: value for name, value in request.query_params.items() if name.startswith("utm_")}
    visitor = affiliates.read_visitor(service, request.cookies.get(COOKIE))
    with service.db.write() as session:
        landing = affiliates.click(service, session, code, visitor=visitor, consent=consent, utm=utm)
    answer = RedirectResponse(landing.address, status_code=302, headers={"cache-control": "no-store"})
    if landing.visitor is not None:
        answer.set_cookie(
            COOKIE,
            affiliates.signed_visitor(service, landing.visitor),
            max_age=service.market.rates.cookie_days * 86_400,
            httponly=True,
            secure=service.settings.is_https,
            samesite="lax",
            path="/r",
        )
    return answer


@router.post("/api/affiliates/postback/{partner}", openapi_extra=_SIGNED)
async def postback(partner: str, request: Request, _caller: Principal = public(rate="600/minute")) -> OutcomeView:
    """A partner's event, signed in `X-Signature` over `X-Timestamp` and the body; a repeated id changes nothing."""
    service = service_of(request)
    body = await request.body()
    if len(body) > MAX_BODY:
        raise BadRequest("The event is too large.")
    known = affiliates.check_postback(
        service,
        partner,
        body=body,
        moment=request.headers.get("x-timestamp"),
        signature=request.headers.get("x-signature"),
    )
    try:
        parsed = EventBody.model_validate(json.loads(body))
    except (ValueError, ValidationError) as error:
        raise BadRequest("The event could not be read.") from error

    def apply() -> str:
        event = affiliates.Event(
            parsed.id, parsed.event, parsed.customer, parsed.click, parsed.amount, parsed.calls, parsed.refers_to
        )
        digest = hashlib.sha256(body).hexdigest()
        with service.db.write() as session:
            return affiliates.receive(service, session, known, event, body_sha256=digest)

    return OutcomeView(outcome=await run_in_threadpool(apply))


@router.get("/api/affiliates/summary")
def summary(request: Request, caller: Principal = require("affiliates:read")) -> Earnings:
    """The earnings page's figures."""
    service = service_of(request)
    with service.db.read() as session:
        return Earnings.model_validate(earnings.summary(session, caller.tenant, service.clock.now()))


@router.post("/api/affiliates/opt-in", operation_id="begin_earning")
@router.patch("/api/affiliates/opt-in", operation_id="set_earning")
def opt_in(
    request: Request, body: OptInBody | None = None, caller: Principal = require("affiliates:write")
) -> OptInView:
    """Begin or stop earning from referrals."""
    service = service_of(request)
    with service.db.write() as session:
        row = affiliates.opt_in(service, session, caller, into=(body or OptInBody()).opted_in)
        return OptInView(opted_in=row.opted_in_at is not None)


@router.get("/api/affiliates/links")
def list_links(request: Request, caller: Principal = require("affiliates:read")) -> list[LinkView]:
    """The organization's referral links."""
    service = service_of(request)
    with service.db.write() as session:
        rows = affiliates.links(service, session, caller.tenant)
        catalog = service.market.catalog.by_slug
        return [
            LinkView(
                partner=row.partner,
                code=row.code,
                url=f"{service.settings.public_url}/r/{row.code}",
                commission=catalog[row.partner].commission.words,
            )
            for row in rows
            if row.partner in catalog
        ]


@router.get("/api/affiliates/commissions")
def list_commissions(request: Request, caller: Principal = require("affiliates:read")) -> list[CommissionView]:
    """Every line of earnings, newest first."""
    query = select(Commission).where(Commission.org_id == caller.tenant).order_by(Commission.earned_at.desc())
    with service_of(request).db.read() as session:
        return [
            CommissionView(
                id=row.id,
                partner=row.partner,
                kind=row.kind,
                state=row.state,
                base=row.base,
                amount=row.amount,
                share=row.share,
                earned_at=row.earned_at,
                hold_until=row.hold_until,
                reverses=row.reverses,
            )
            for row in session.scalars(query.limit(500))
        ]


@router.get("/api/affiliates/payouts")
def list_payouts(request: Request, caller: Principal = require("affiliates:read")) -> PayoutsView:
    """What is owed now, and every payout so far."""
    service = service_of(request)
    with service.db.read() as session:
        return payouts_view(session, "affiliate", caller.tenant, minimum=service.market.rates.referrer_minimum)


@router.post("/api/affiliates/payouts", status_code=202)
def request_payout(request: Request, caller: Principal = require("affiliates:write")) -> PayoutView:
    """Have everything owed sent."""
    return ask_for_payout(service_of(request), caller.tenant)


def ask_for_payout(service: Service, org_id: str) -> PayoutView:
    """Set aside what a referrer is owed, name the payout in its lines, and have a job send it."""
    with service.db.write() as session:
        row = payouts.request_payout(
            session,
            "affiliate",
            org_id=org_id,
            minimum=service.market.rates.referrer_minimum,
            gateway=service.money.gateway.name,
            now=service.clock.now(),
        )
        affiliates.mark_paid(session, org_id, row.id)
        enqueue(session, service.clock, PAY_OUT, {"payout": row.id}, org_id=org_id, dedupe_key=f"payout:{row.id}")
        return payout_view(row)


@router.get("/api/affiliates/invoices")
def list_invoices(request: Request, _caller: Principal = require_staff()) -> list[InvoiceView]:
    """The invoices to partners for their commissions, newest first."""
    query = select(Invoice).where(Invoice.kind == "partner").order_by(Invoice.number.desc())
    with service_of(request).db.read() as session:
        return [invoice_view(row, "/api/affiliates/invoices") for row in session.scalars(query)]


@router.get("/api/affiliates/invoices/{invoice_id}")
def one_invoice(invoice_id: str, request: Request, _caller: Principal = require_staff()) -> InvoiceView:
    """One invoice to a partner."""
    return invoice_view(_partner_invoice(service_of(request), invoice_id), "/api/affiliates/invoices")


@router.get("/api/affiliates/invoices/{invoice_id}/pdf", response_class=Response, responses=PDF)
def invoice_pdf(invoice_id: str, request: Request, _caller: Principal = require_staff()) -> Response:
    """One invoice to a partner as a PDF."""
    return pdf_answer(_partner_invoice(service_of(request), invoice_id))


def _partner_invoice(service: Service, invoice_id: str) -> Invoice:
    with service.db.read() as session:
        row = session.get(Invoice, invoice_id)
    if row is None or row.kind != "partner":
        raise NotFound("There is no such invoice.")
    return row


_OWN_READ = for_sessions(least="viewer", other_tenant=200)
_OWN_WRITE = for_sessions(least="admin", other_tenant=200)

ACCESS: tuple[Row, ...] = (
    Row("GET", "/r/{code}", for_everybody(302), seed=seeds.a_link),
    Row("POST", "/api/affiliates/postback/{partner}", for_everybody(404), body={}, seed=seeds.a_link),
    Row("GET", "/api/affiliates/summary", _OWN_READ),
    Row("POST", "/api/affiliates/opt-in", _OWN_WRITE),
    Row("PATCH", "/api/affiliates/opt-in", _OWN_WRITE, body={"opted_in": False}),
    Row("GET", "/api/affiliates/links", {**_OWN_READ, "other_tenant": 409}, seed=seeds.a_link),
    Row("GET", "/api/affiliates/commissions", _OWN_READ),
    Row("GET", "/api/affiliates/payouts", _OWN_READ),
    Row("POST", "/api/affiliates/payouts", {**_OWN_WRITE, "admin": 409, "other_tenant": 409}),
    Row("GET", "/api/affiliates/invoices", for_staff(), staff=200),
    Row("GET", "/api/affiliates/invoices/{invoice_id}", for_staff(), seed=seeds.a_partner_invoice, staff=200),
    Row("GET", "/api/affiliates/invoices/{invoice_id}/pdf", for_staff(), seed=seeds.a_partner_invoice, staff=200),
)
