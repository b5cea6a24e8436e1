"""Routes of billing: choosing a plan, the card, invoices, the gateway's webhook, refunds and the monthly report."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from agentcache_service import audit
from agentcache_service.errors import BadRequest, NotFound
from agentcache_service.identity.tables import User
from agentcache_service.matrix import Row, for_everybody, for_sessions, for_staff
from agentcache_service.orm import new_id
from agentcache_service.policy import public, require, require_staff
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done, bytes_of

from . import finance, idempotency, invoice_pdf, invoices
from .billing_tables import BillingAccount, Invoice
from .finance_views import MonthlyReport
from .gateway import GatewayError, SignatureRefused
from .parts import ISSUER
from .subscription_rules import Terms

router = APIRouter(prefix="/api", tags=["billing"])

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", description="the same key is done once")]
MAX_WEBHOOK = 256 << 10
PDF = bytes_of("application/pdf", description="The invoice.")
_SIGNED = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    "parameters": [{"name": "Stripe-Signature", "in": "header", "required": False, "schema": {"type": "string"}}],
}


class CheckoutBody(Body):
    """The plan to move to."""

    plan: str = Field(max_length=40)


class CardBody(Body):
    """A gateway's token of a card (with the local gateway: a test card such as card_ok)."""

    card: str = Field(max_length=200)


class PayoutMethodBody(Body):
    """Where to be paid."""

    email: str = Field(max_length=254, pattern=r"^[^@\s]{1,64}@[^@\s]+\.[^@\s]+$")


class RefundBody(Body):
    """The payment to return."""

    payment: str = Field(max_length=80)
    reason: str = Field(default="", max_length=500)


class SubscriptionView(BaseModel):
    """Where a subscription stands."""

    plan: str
    status: str
    period_start: datetime
    period_end: datetime
    cancel_at_end: bool
    next_plan: str | None
    retry_at: datetime | None


class CheckoutAnswer(Done):
    """How the move went: `paid`, `scheduled` for the period's end, or `unchanged`."""

    how: str
    subscription: SubscriptionView | None


class BillingView(BaseModel):
    """The organization's billing: its subscription, card and payout method."""

    gateway: str
    subscription: SubscriptionView | None
    card: str | None = Field(description="brand and last four digits")
    payout_email: str | None


class CardSetupView(BaseModel):
    """Where to enter a card: a page of the gateway, or null for our own form."""

    url: str | None
    test_cards: list[str]


class InvoiceView(BaseModel):
    """An invoice; money in micro-USD."""

    id: str
    number: str
    status: str
    total: int
    lines: list[dict[str, Any]]
    issued_at: datetime
    paid_at: datetime | None
    period_start: datetime
    period_end: datetime
    pdf: str


def email_of(service: Service, caller: Principal) -> str:
    """The signed-in person's address."""
    with service.db.read() as session:
        return session.get_one(User, caller.user).email


def subscription_view(terms: Terms | None) -> SubscriptionView | None:
    """The wire form of a subscription."""
    if terms is None:
        return None
    return SubscriptionView(
        plan=terms.plan,
        status=terms.status,
        period_start=terms.period_start,
        period_end=terms.period_end,
        cancel_at_end=terms.cancel_at_end,
        next_plan=terms.next_plan,
        retry_at=terms.retry_at,
    )


def invoice_view(row: Invoice, prefix: str = "/api/billing/invoices") -> InvoiceView:
    """The wire form of an invoice."""
    return InvoiceView(
        id=row.id,
        number=row.number,
        status=row.status,
        total=row.total,
        lines=row.lines,
        issued_at=row.issued_at,
        paid_at=row.paid_at,
        period_start=row.period_start,
        period_end=row.period_end,
        pdf=f"{prefix}/{row.id}/pdf",
    )


def billing_view(service: Service, org_id: str) -> BillingView:
    """What billing knows about an organization."""
    with service.db.read() as session:
        account = session.get(BillingAccount, org_id)
    card = f"{account.card_brand} ···· {account.card_last4}" if account and account.card_last4 else None
    return BillingView(
        gateway=service.money.gateway.name,
        subscription=subscription_view(service.money.subscriptions.current(org_id)),
        card=card,
        payout_email=account.payee_email if account else None,
    )


@router.get("/billing")
def billing(request: Request, caller: Principal = require("billing:read")) -> BillingView:
    """The organization's billing."""
    return billing_view(service_of(request), caller.tenant)


@router.post("/billing/checkout")
def checkout(
    body: CheckoutBody,
    request: Request,
    idempotency_key: IdempotencyKey = None,
    caller: Principal = require("billing:write"),
) -> CheckoutAnswer:
    """Move to a plan: `paid` now when it costs more, `scheduled` for the period's end when less (402: no money)."""
    service = service_of(request)

    def do() -> idempotency.Answer:
        how = service.money.subscriptions.choose(caller.tenant, body.plan)
        with service.db.write() as session:
            audit.record(session, service.clock, principal=caller, action="billing.plan", target=body.plan)
        terms = subscription_view(service.money.subscriptions.current(caller.tenant))
        view = terms.model_dump(mode="json") if terms else None
        return 200, {"success": True, "how": how, "subscription": view}

    _status, answer = idempotency.once(
        service.db,
        service.clock,
        org_id=caller.tenant,
        route="checkout",
        key=idempotency_key,
        asked=body.model_dump(),
        do=do,
    )
    return CheckoutAnswer.model_validate(answer)


@router.post("/billing/cancel")
def cancel(request: Request, caller: Principal = require("billing:write")) -> SubscriptionView:
    """End the subscription with its paid period."""
    service = service_of(request)
    view = subscription_view(service.money.subscriptions.cancel(caller.tenant))
    assert view is not None
    return view


@router.get("/billing/card")
def card_setup(request: Request, caller: Principal = require("billing:write")) -> CardSetupView:
    """Where to enter a card."""
    service = service_of(request)
    back = f"{service.settings.public_url}/dashboard/billing"
    setup = service.money.customers.card_setup(caller.tenant, email_of(service, caller), return_url=back)
    return CardSetupView(url=setup.url, test_cards=list(service.money.test_cards))


@router.post("/billing/card")
def store_card(body: CardBody, request: Request, caller: Principal = require("billing:write")) -> BillingView:
    """Store the card a token of the gateway stands for as the organization's default."""
    service = service_of(request)
    service.money.customers.attach_card(caller.tenant, email_of(service, caller), card=body.card, key=new_id("card"))
    return billing_view(service, caller.tenant)


@router.put("/billing/payout-method")
def payout_method(
    body: PayoutMethodBody, request: Request, caller: Principal = require("billing:write")
) -> BillingView:
    """Say where creators' and referrers' earnings are sent."""
    service = service_of(request)
    service.money.customers.payee(caller.tenant, body.email)
    with service.db.write() as session:
        audit.record(session, service.clock, principal=caller, action="billing.payout_method")
    return billing_view(service, caller.tenant)


@router.get("/billing/invoices")
def list_invoices(request: Request, caller: Principal = require("billing:read")) -> list[InvoiceView]:
    """The organization's invoices, newest first."""
    with service_of(request).db.read() as session:
        return [invoice_view(row) for row in invoices.of_party(session, "plan", caller.tenant)]


@router.get("/billing/invoices/{invoice_id}")
def one_invoice(invoice_id: str, request: Request, caller: Principal = require("billing:read")) -> InvoiceView:
    """One invoice."""
    return invoice_view(own_invoice(service_of(request), "plan", caller.tenant, invoice_id=invoice_id))


@router.get("/billing/invoices/{invoice_id}/pdf", response_class=Response, responses=PDF)
def invoice_as_pdf(invoice_id: str, request: Request, caller: Principal = require("billing:read")) -> Response:
    """One invoice as a PDF."""
    row = own_invoice(service_of(request), "plan", caller.tenant, invoice_id=invoice_id)
    return pdf_answer(row)


def own_invoice(service: Service, kind: str, party: str, *, invoice_id: str) -> Invoice:
    """A party's invoice, or `NotFound`."""
    with service.db.read() as session:
        row = invoices.one_of_party(session, kind, party, invoice_id=invoice_id)
    if row is None:
        raise NotFound("There is no such invoice.")
    return row


def pdf_answer(row: Invoice) -> Response:
    """An invoice as a download."""
    name = f'inline; filename="invoice-{row.number}.pdf"'
    body = invoice_pdf.render_pdf(row, issuer=ISSUER)
    return Response(body, media_type="application/pdf", headers={"content-disposition": name})


@router.post("/billing/webhook", openapi_extra=_SIGNED)
async def webhook(request: Request, _caller: Principal = public(rate="600/minute")) -> Done:
    """Events of the payment gateway, signed in the header Stripe-Signature; a repeated one changes nothing."""
    service = service_of(request)
    body = await request.body()
    if len(body) > MAX_WEBHOOK:
        raise BadRequest("The event is too large.")
    try:
        event = service.money.gateway.parse_event(
            body, request.headers.get("stripe-signature", ""), now=service.clock.now()
        )
    except SignatureRefused as refused:
        raise BadRequest(str(refused), code="signature_refused") from refused
    except (GatewayError, ValueError, KeyError, TypeError) as error:
        raise BadRequest("The event could not be read.") from error
    await run_in_threadpool(service.money.payments.receive, event)
    return Done()


@router.post("/admin/refunds")
def refund(body: RefundBody, request: Request, caller: Principal = require_staff()) -> Done:
    """Return a payment: its effect (access, plan) ends and the ledger reverses it."""
    service = service_of(request)
    service.money.payments.refund(body.payment)
    with service.db.write() as session:
        detail = {"reason": body.reason}
        audit.record(session, service.clock, principal=caller, action="refund", target=body.payment, detail=detail)
    return Done()


@router.get("/admin/finance/monthly")
def monthly(request: Request, month: str | None = None, _caller: Principal = require_staff()) -> MonthlyReport:
    """The finance report of a month (`2026-11`, by default this one), computed from the ledger and `plans.toml`."""
    service = service_of(request)
    return MonthlyReport.model_validate(finance.monthly_report(service, finance.month_of(month, service.clock.now())))


def an_invoice(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    """An invoice for the access matrix to name."""
    now = service.clock.now()
    with service.db.write() as session:
        row = invoices.issue(
            session,
            "plan",
            invoices.Party(org_id, "Seed"),
            lines=[invoices.Line("Seed", 10_000)],
            period=(now, now),
            now=now,
            reference=invoices.next_number(session, now),
        )
        return {"invoice_id": row.id}


def _a_payment(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    made = an_invoice(service, org_id, user_id)
    with service.db.write() as session:
        session.get_one(Invoice, made["invoice_id"]).plan = "starter"
        attempt = service.money.payments.begin(
            session, org_id=org_id, purpose="plan", subject_id=made["invoice_id"], amount=10_000, description="seed"
        )
        payment = attempt.id
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=f"seed-{payment}")
    service.money.payments.run(payment)
    return {"payment": payment}


def _a_subscription(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=f"seed-{org_id}")
    service.money.subscriptions.choose(org_id, "starter")
    return {}


_OWN_READ = for_sessions(least="viewer", other_tenant=200)
_OWN_WRITE = for_sessions(least="admin", other_tenant=200)

ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/billing", _OWN_READ),
    Row("POST", "/api/billing/checkout", {**_OWN_WRITE, "admin": 402, "other_tenant": 402}, body={"plan": "pro"}),
    Row("POST", "/api/billing/cancel", {**_OWN_WRITE, "other_tenant": 409}, seed=_a_subscription),
    Row("GET", "/api/billing/card", _OWN_WRITE),
    Row("POST", "/api/billing/card", _OWN_WRITE, body={"card": "card_ok"}),
    Row("PUT", "/api/billing/payout-method", _OWN_WRITE, body={"email": "pay@example.com"}),
    Row("GET", "/api/billing/invoices", _OWN_READ),
    Row("GET", "/api/billing/invoices/{invoice_id}", for_sessions(least="viewer"), seed=an_invoice),
    Row("GET", "/api/billing/invoices/{invoice_id}/pdf", for_sessions(least="viewer"), seed=an_invoice),
    Row("POST", "/api/billing/webhook", for_everybody(400), body={}),
    Row("POST", "/api/admin/refunds", for_staff(), body={"payment": "{payment}"}, seed=_a_payment, staff=200),
    Row("GET", "/api/admin/finance/monthly", for_staff(), staff=200),
)
