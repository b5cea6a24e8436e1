"""Pages of billing: the plan paid for, the card, where one is paid, invoices."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from agentcache_service.errors import ServiceError
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.orm import new_id
from agentcache_service.policy import require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other

from . import invoices
from .local_gateway import CARDS
from .parts import ISSUER
from .routes import an_invoice, billing_view, email_of, own_invoice

router = APIRouter(prefix="/dashboard/billing", include_in_schema=False)
Text = Annotated[str, Form(max_length=254)]

CARD_WORDS = {
    "card_ok": "Visa 4242, works",
    "card_mastercard": "Mastercard 4444, works",
    "card_declined": "Visa 0002, is declined",
    "card_insufficient_funds": "Visa 9995, has no funds",
    "card_expired": "Visa 0069, has expired",
    "card_fails_later": "Visa 0341, works once",
    "card_disputed": "Visa 0259, is disputed",
}


def _billing_page(
    request: Request, caller: Principal, *, problem: str | None = None, notice: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        rows = invoices.of_party(session, "plan", caller.tenant)
    return page(
        request,
        caller,
        "money/billing.html",
        status=status,
        billing=billing_view(service, caller.tenant),
        plans=service.plans.by_name,
        invoices=rows,
        cards=[(name, CARD_WORDS[name]) for name in CARDS] if service.money.gateway.name == "local" else [],
        may_write=role_allows(caller.role, "billing:write"),
        problem=problem,
        notice=notice,
    )


@router.get("")
def billing(request: Request, done: str = "", caller: Principal = require("billing:read")) -> HTMLResponse:
    """Plan, card, invoices."""
    notices = {"card": "The card is stored.", "plan": "The plan is changed.", "payee": "Payouts go there now."}
    return _billing_page(request, caller, notice=notices.get(done))


@router.post("/plan")
def choose(request: Request, plan: Text, caller: Principal = require("billing:write")) -> Response:
    """Move to a plan."""
    service = service_of(request)
    try:
        service.money.subscriptions.choose(caller.tenant, plan)
    except ServiceError as refused:
        return _billing_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/dashboard/billing?done=plan")


@router.get("/card")
def card_setup(request: Request, caller: Principal = require("billing:write")) -> Response:
    """On to the gateway's page for a card, where it has one."""
    service = service_of(request)
    back = f"{service.settings.public_url}/dashboard/billing"
    setup = service.money.customers.card_setup(caller.tenant, email_of(service, caller), return_url=back)
    return see_other(setup.url or "/dashboard/billing")


@router.post("/card")
def card(request: Request, card: Text, caller: Principal = require("billing:write")) -> Response:
    """Store a card by the gateway's token: here, one of the test cards."""
    service = service_of(request)
    email = email_of(service, caller)
    try:
        service.money.customers.attach_card(caller.tenant, email, card=card, key=new_id("card"))
    except ServiceError as refused:
        return _billing_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/dashboard/billing?done=card")


@router.post("/payee")
def payee(request: Request, email: Text, caller: Principal = require("billing:write")) -> Response:
    """Say where earnings are sent."""
    if "@" not in email[1:-1]:
        return _billing_page(request, caller, problem="This is not an e-mail address.", status=422)
    service_of(request).money.customers.payee(caller.tenant, email.strip())
    return see_other("/dashboard/billing?done=payee")


@router.get("/invoices/{invoice_id}")
def invoice(invoice_id: str, request: Request, caller: Principal = require("billing:read")) -> HTMLResponse:
    """An invoice as a page that prints well."""
    row = own_invoice(service_of(request), "plan", caller.tenant, invoice_id=invoice_id)
    return page(request, caller, "money/invoice.html", invoice=row, issuer=ISSUER)


_WRITE = for_sessions(303, least="admin", other_tenant=303)

ACCESS: tuple[Row, ...] = (
    Row("GET", "/dashboard/billing", for_sessions(least="viewer", other_tenant=200)),
    Row(
        "POST", "/dashboard/billing/plan", for_sessions(402, least="admin", other_tenant=402), form={"plan": "starter"}
    ),
    Row("GET", "/dashboard/billing/card", _WRITE),
    Row("POST", "/dashboard/billing/card", _WRITE, form={"card": "card_ok"}),
    Row("POST", "/dashboard/billing/payee", _WRITE, form={"email": "pay@example.com"}),
    Row("GET", "/dashboard/billing/invoices/{invoice_id}", for_sessions(least="viewer"), seed=an_invoice),
)
