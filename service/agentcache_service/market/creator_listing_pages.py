"""Pages of a creator's listings: the editor, versions with their files, credentials, publishing and taking off sale."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.web.pages import page, see_other

from . import credentials, listings, moderation, packages, seeds
from .archive import MAX_PACKAGE
from .listing_routes import ListingBody
from .page_forms import dollars_of, micros_of
from .tables import Listing, ListingCredential

router = APIRouter(prefix="/creator/listings", include_in_schema=False)
Text = Annotated[str, Form(max_length=20_000)]


def _editor(
    request: Request,
    caller: Principal,
    row: Listing | None,
    *,
    given: dict[str, str] | None = None,
    problem: str | None = None,
    notice: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        rows = listings.versions(session, row.id) if row else []
        has_credentials = bool(row and session.get(ListingCredential, row.id))
        case = moderation.open_case_of(session, row.id) if row else None
    return page(
        request,
        caller,
        "market/editor.html",
        status=status,
        row=row,
        given=given or _fields_of(row),
        versions=rows,
        has_credentials=has_credentials,
        case=case,
        rates=service.market.rates,
        problem=problem,
        notice=notice,
    )


def _fields_of(row: Listing | None) -> dict[str, str]:
    if row is None:
        return {"kind": "model", "pricing": "one_time", "category": "text"}
    return {
        "kind": row.kind,
        "name": row.name,
        "summary": row.summary,
        "description": row.description,
        "category": row.category,
        "use_case": row.use_case,
        "tags": ", ".join(row.tags),
        "pricing": row.pricing,
        "price": dollars_of(row.price),
        "price_per_call": dollars_of(row.price_per_call),
        "price_per_1k_tokens": dollars_of(row.price_per_1k_tokens),
        "model": str(row.config.get("model", "")),
    }


async def _form(request: Request) -> dict[str, str]:
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


def _body(given: dict[str, str], kind: str) -> ListingBody:
    usage = given.get("pricing") == "usage_based"
    try:
        return ListingBody.model_validate(
            {
                "kind": kind,
                "name": given.get("name", "").strip(),
                "summary": given.get("summary", "").strip(),
                "description": given.get("description", "").strip(),
                "category": given.get("category", ""),
                "use_case": given.get("use_case", "").strip(),
                "tags": [tag.strip() for tag in given.get("tags", "").split(",") if tag.strip()],
                "config": {"model": given["model"].strip()} if given.get("model", "").strip() else {},
                "pricing": given.get("pricing", ""),
                "price": 0 if usage else micros_of(given.get("price", "")),
                "price_per_call": micros_of(given.get("price_per_call", "")) if usage else 0,
                "price_per_1k_tokens": micros_of(given.get("price_per_1k_tokens", "")) if usage else 0,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]).replace("_", " ").capitalize() + ": " if first["loc"] else ""
        raise Unprocessable(field + first["msg"]) from None


@router.get("/new")
def new(request: Request, caller: Principal = require("market:sell")) -> HTMLResponse:
    """The form of a new listing."""
    return _editor(request, caller, None)


@router.post("/new")
async def create(request: Request, caller: Principal = require("market:sell")) -> Response:
    """Make a listing."""
    given = await _form(request)

    def make() -> Response:
        service = service_of(request)
        try:
            body = _body(given, given.get("kind", "model"))
            with service.db.write() as session:
                row = listings.create(service, session, caller, body.draft())
                session.flush()
                name = row.id
        except ServiceError as refused:
            return _editor(request, caller, None, given=given, problem=refused.message, status=refused.status)
        return see_other(f"/creator/listings/{name}?done=made")

    return await run_in_threadpool(make)


@router.get("/{listing_id}")
def edit(listing_id: str, request: Request, done: str = "", caller: Principal = require("market:sell")) -> HTMLResponse:
    """The form of a listing."""
    notices = {
        "made": "Made. Next: " + "add what buyers get, then publish.",
        "saved": "Saved.",
        "version": "Version added.",
        "credentials": "Credentials sealed. They are never shown again.",
        "published": "On sale.",
        "delisted": "Taken off sale.",
        "held": "A moderator will look at it first.",
    }
    return _editor(request, caller, _own(request, caller, listing_id), notice=notices.get(done))


@router.post("/{listing_id}")
async def save(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> Response:
    """Change a listing."""
    given = await _form(request)

    def change() -> Response:
        service = service_of(request)
        row = _own(request, caller, listing_id)
        try:
            body = _body(given, row.kind)
            with service.db.write() as session:
                listings.edit(service, session, caller, listing_id=listing_id, draft=body.draft())
        except ServiceError as refused:
            given["kind"] = row.kind
            return _editor(request, caller, row, given=given, problem=refused.message, status=refused.status)
        return see_other(f"/creator/listings/{listing_id}?done=saved")

    return await run_in_threadpool(change)


@router.post("/{listing_id}/credentials")
def store_credentials(
    listing_id: str,
    request: Request,
    model_id: Text,
    endpoint: Text,
    api_key: Text,
    per_minute: Annotated[int, Form(ge=1)],
    per_hour: Annotated[int, Form(ge=1)],
    permissions: Text = "*",
    fallback: Text = "",
    caller: Principal = require("market:sell"),
) -> Response:
    """Seal a model's credentials."""
    service = service_of(request)
    row = _own(request, caller, listing_id)
    try:
        parsed = credentials.parse(
            {
                "modelId": model_id.strip(),
                "externalApiEndpoint": endpoint.strip(),
                "apiKey": api_key.strip(),
                "rateLimits": {"requestsPerMinute": per_minute, "requestsPerHour": per_hour},
                "permissions": [part.strip() for part in permissions.split(",") if part.strip()],
                "fallbackEndpoint": fallback.strip() or None,
            }
        )
        with service.db.write() as session:
            credentials.store(service, session, caller, listing_id=listing_id, credentials=parsed)
    except ServiceError as refused:
        return _editor(request, caller, row, problem=refused.message, status=refused.status)
    return see_other(f"/creator/listings/{listing_id}?done=credentials")


@router.post("/{listing_id}/versions")
def add_version(
    listing_id: str,
    request: Request,
    version: Text,
    notes: Text = "",
    package: Annotated[UploadFile | None, File()] = None,
    caller: Principal = require("market:sell"),
) -> Response:
    """Add a version; an agent's with its package."""
    service = service_of(request)
    row = _own(request, caller, listing_id)
    try:
        body = package.file.read(MAX_PACKAGE + 1) if package is not None and row.kind == "agent" else b""
        taken = packages.take_in(service, body) if body else None
        with service.db.write() as session:
            listings.add_version(
                service, session, caller, listing_id=listing_id, version=version.strip(), notes=notes, package=taken
            )
    except ServiceError as refused:
        return _editor(request, caller, row, problem=refused.message, status=refused.status)
    return see_other(f"/creator/listings/{listing_id}?done=version")


@router.post("/{listing_id}/publish")
def publish(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> Response:
    """Put a listing on sale."""
    service = service_of(request)
    row = _own(request, caller, listing_id)
    try:
        with service.db.write() as session:
            status = listings.publish(service, session, caller, listing_id=listing_id).status
    except ServiceError as refused:
        return _editor(request, caller, row, problem=refused.message, status=refused.status)
    return see_other(f"/creator/listings/{listing_id}?done={'published' if status == 'active' else 'held'}")


@router.post("/{listing_id}/delist")
def delist(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> Response:
    """Take a listing off sale."""
    service = service_of(request)
    with service.db.write() as session:
        listings.delist(service, session, caller, listing_id=listing_id)
    return see_other(f"/creator/listings/{listing_id}?done=delisted")


def _own(request: Request, caller: Principal, listing_id: str) -> Listing:
    with service_of(request).db.read() as session:
        return listings.own(session, caller.tenant, listing_id)


def _an_edit(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    return seeds.a_listing(service, org_id, user_id)


_SELL = for_sessions(303, least="admin")
_FORM = {
    "kind": "model",
    "name": "New model",
    "summary": "A summary.",
    "description": "Words about it.",
    "category": "text",
    "pricing": "one_time",
    "price": "5",
}
_CREDENTIALS = {
    "model_id": "m",
    "endpoint": "https://8.8.8.8/v1",
    "api_key": "sk-1",
    "per_minute": "5",
    "per_hour": "50",
}

ACCESS: tuple[Row, ...] = (
    Row("GET", "/creator/listings/new", for_sessions(least="admin", other_tenant=200)),
    Row("POST", "/creator/listings/new", for_sessions(303, least="admin", other_tenant=409), form=_FORM, seed=_an_edit),
    Row("GET", "/creator/listings/{listing_id}", for_sessions(least="admin"), seed=_an_edit),
    Row("POST", "/creator/listings/{listing_id}", _SELL, form=_FORM, seed=_an_edit),
    Row("POST", "/creator/listings/{listing_id}/credentials", _SELL, form=_CREDENTIALS, seed=_an_edit),
    Row("POST", "/creator/listings/{listing_id}/versions", _SELL, form={"version": "2.0.0"}, seed=_an_edit),
    Row("POST", "/creator/listings/{listing_id}/publish", _SELL, seed=_an_edit),
    Row("POST", "/creator/listings/{listing_id}/delist", _SELL, seed=seeds.an_active_listing),
)
