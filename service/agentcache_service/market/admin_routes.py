"""What platform admins see: figures with export, billing records, storage costs, and the pages around them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy import select

from agentcache_service.errors import ServiceError
from agentcache_service.matrix import Row, for_staff
from agentcache_service.money import finance
from agentcache_service.money.billing_tables import Invoice, PaymentAttempt
from agentcache_service.money.finance_views import RecordsView
from agentcache_service.policy import require_staff
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other

from . import moderation, platform_analytics, seeds
from .figure_views import PlatformFigures, StorageCost

router = APIRouter(tags=["admin"])


@router.get(
    "/api/admin/stats",
    response_model=PlatformFigures,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def stats(
    request: Request,
    month: str | None = None,
    format: Literal["json", "csv"] = "json",
    _caller: Principal = require_staff(),
) -> Response:
    """The platform's figures of a month (`2026-11`), as JSON or CSV."""
    service = service_of(request)
    figures = platform_analytics.overview(service, finance.month_of(month, service.clock.now()))
    if format == "json":
        return JSONResponse(PlatformFigures.model_validate(figures).model_dump(mode="json"))
    name = f'attachment; filename="platform-{figures["month"]}.csv"'
    return Response(platform_analytics.as_csv(figures), media_type="text/csv", headers={"content-disposition": name})


@router.get("/api/admin/finance/records")
def records(request: Request, month: str | None = None, _caller: Principal = require_staff()) -> RecordsView:
    """The internal billing record of every customer for a month, and the revenue pool they form."""
    service = service_of(request)
    rows = list(finance.billing_records(service, finance.month_of(month, service.clock.now())))
    return RecordsView.model_validate({"records": rows, "revenue_pool": finance.revenue_pool(rows)})


@router.get("/api/admin/finance/storage")
def storage(request: Request, _caller: Principal = require_staff()) -> list[StorageCost]:
    """What keeping every package costs per month."""
    service = service_of(request)
    with service.db.read() as session:
        rows = platform_analytics.storage_costs(session, service.market.rates)
    return [StorageCost.model_validate(row) for row in rows]


def _admin_page(
    request: Request, caller: Principal, *, problem: str | None = None, notice: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    month = finance.month_of(None, service.clock.now())
    with service.db.read() as session:
        cases = moderation.queue(session)
        invoices = list(
            session.scalars(select(Invoice).where(Invoice.kind == "partner").order_by(Invoice.number.desc()).limit(20))
        )
        payments = list(
            session.scalars(
                select(PaymentAttempt)
                .where(PaymentAttempt.status != "pending")
                .order_by(PaymentAttempt.created_at.desc())
                .limit(20)
            )
        )
        storage = platform_analytics.storage_costs(session, service.market.rates)[:10]
    return page(
        request,
        caller,
        "market/admin.html",
        status=status,
        figures=platform_analytics.overview(service, month),
        report=finance.monthly_report(service, month),
        cases=cases,
        invoices=invoices,
        payments=payments,
        storage=storage,
        problem=problem,
        notice=notice,
    )


@router.get("/admin", include_in_schema=False)
def admin(request: Request, done: str = "", caller: Principal = require_staff()) -> HTMLResponse:
    """Figures, moderation, payments, invoices to partners."""
    notices = {"decided": "The decision is recorded.", "refunded": "The payment is returned."}
    return _admin_page(request, caller, notice=notices.get(done))


@router.post("/admin/cases/{case_id}", include_in_schema=False)
def decide(
    case_id: str,
    request: Request,
    decision: Annotated[Literal["approve", "reject"], Form()],
    note: Annotated[str, Form(max_length=2000)] = "",
    caller: Principal = require_staff(),
) -> Response:
    """Decide a case."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            moderation.decide(service, session, caller, case_id=case_id, approve=decision == "approve", note=note)
    except ServiceError as refused:
        return _admin_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/admin?done=decided")


@router.post("/admin/payments/{payment}/refund", include_in_schema=False)
def refund(payment: str, request: Request, caller: Principal = require_staff()) -> Response:
    """Return a payment."""
    try:
        service_of(request).money.payments.refund(payment)
    except ServiceError as refused:
        return _admin_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/admin?done=refunded")


ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/admin/stats", for_staff(), staff=200),
    Row("GET", "/api/admin/finance/records", for_staff(), staff=200),
    Row("GET", "/api/admin/finance/storage", for_staff(), staff=200),
    Row("GET", "/admin", for_staff(), staff=200),
    Row(
        "POST", "/admin/cases/{case_id}", for_staff(), form={"decision": "approve"}, seed=seeds.an_open_case, staff=303
    ),
    Row("POST", "/admin/payments/{payment}/refund", for_staff(), seed=seeds.a_payment, staff=303),
)
