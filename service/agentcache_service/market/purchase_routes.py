"""Routes of buyers: buying, access, keys, downloads, the proxied calls, reports, the support thread."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import Unauthenticated
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.money import idempotency
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import UPSTREAM, Body, Done, bytes_of

from . import access_keys, model_proxy, moderation, packages, purchases, sales, seeds, support, usage_charges
from .tables import Listing, Purchase
from .views import KeyView, NewKeyView, PurchaseView, key_view, purchase_view

router = APIRouter(prefix="/api/market", tags=["market"])


class PurchaseBody(Body):
    """Nothing is needed; `expected_price` in micro-USD guards against a price that changed meanwhile."""

    expected_price: int | None = Field(default=None, ge=0)


class KeyBody(Body):
    """A key to be made; permissions narrow what the creator allows."""

    name: str = Field(default="Key", max_length=120)
    permissions: list[str] = Field(default_factory=list, max_length=50)
    expires_at: AwareDatetime | None = None


class CacheBody(Body):
    """Whether answers of this purchase's calls are kept and repeated."""

    cache_calls: bool


class ReportBody(Body):
    """What is wrong with a listing or with one of its reviews."""

    listing: str = Field(max_length=80)
    review: str | None = Field(default=None, max_length=80)
    words: str = Field(min_length=5, max_length=2000)


class MessageBody(Body):
    """A message of the support thread."""

    words: str = Field(min_length=1, max_length=4000)


class MessageView(BaseModel):
    """A message; `sender` is buyer or creator."""

    id: str
    sender: str
    words: str
    at: datetime


class AccessView(BaseModel):
    """What a purchase gives: where to call a model and with which keys, or where to download an agent."""

    purchase: PurchaseView
    base_url: str | None
    keys: list[KeyView]
    versions: list[dict[str, Any]]
    unpaid_usage: int = Field(description="micro-USD")


def view_of(service: Service, row: Purchase) -> PurchaseView:
    """A purchase's wire form, with whether it gives access now."""
    return purchase_view(row, access=sales.has_access(row, service.clock.now()))


def base_url(service: Service, listing_id: str) -> str:
    """Where calls of a bought model go."""
    return f"{service.settings.public_url}/api/market/run/{listing_id}"


@router.post("/listings/{listing_id}/purchase", status_code=201, response_model=PurchaseView)
def buy(
    listing_id: str,
    request: Request,
    body: PurchaseBody | None = None,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
    caller: Principal = require("market:buy"),
) -> Response:
    """Buy: access is open when this answers 201; 402 means that no money could be had."""
    service = service_of(request)
    asked = {"listing": listing_id, **(body or PurchaseBody()).model_dump()}

    def do() -> idempotency.Answer:
        made = purchases.buy(service, caller, listing_id, expected_price=asked["expected_price"])
        return 201, view_of(service, made).model_dump(mode="json")

    status, answer = idempotency.once(
        service.db, service.clock, org_id=caller.tenant, route="purchase", key=idempotency_key, asked=asked, do=do
    )
    return JSONResponse(answer, status_code=status)


@router.get("/purchases")
def list_purchases(request: Request, caller: Principal = require("market:read")) -> list[PurchaseView]:
    """The organization's purchases, newest first."""
    service = service_of(request)
    with service.db.read() as session:
        return [view_of(service, purchase) for purchase, _row in purchases.of_buyer(session, caller.tenant)]


@router.get("/purchases/{purchase_id}/access")
def access(purchase_id: str, request: Request, caller: Principal = require("market:read")) -> AccessView:
    """What the purchase gives now."""
    return access_view(service_of(request), caller.tenant, purchase_id)


def access_view(service: Service, org_id: str, purchase_id: str) -> AccessView:
    """The wire form of what a purchase gives; signed links to what may be downloaded."""
    with service.db.read() as session:
        row = purchases.own(session, org_id, purchase_id)
        keys = [key_view(key) for key in access_keys.of_purchase(session, row.id)]
        versions = packages.downloadable(session, row, service.clock.now())
    return AccessView(
        purchase=view_of(service, row),
        base_url=base_url(service, row.listing_id) if row.kind == "model" else None,
        keys=keys,
        versions=[
            {
                "version": version.version,
                "notes": version.notes,
                "bytes": version.package_bytes,
                "sha256": version.package_sha256,
                "download": packages.link(service, row, version.version),
            }
            for version in versions
        ],
        unpaid_usage=usage_charges.unpaid_usage(service, row.id),
    )


@router.post("/purchases/{purchase_id}/keys", status_code=201)
def create_key(
    purchase_id: str, request: Request, body: KeyBody | None = None, caller: Principal = require("market:use")
) -> NewKeyView:
    """A key of one's own for a bought model; its secret is in this answer and nowhere else."""
    service = service_of(request)
    wanted = body or KeyBody()
    with service.db.write() as session:
        made = access_keys.create(
            service,
            session,
            caller,
            purchase_id=purchase_id,
            name=wanted.name,
            permissions=wanted.permissions,
            expires_at=wanted.expires_at,
        )
        view = key_view(made.row)
        listing_id = made.row.listing_id
    return NewKeyView(key=made.secret, details=view, base_url=base_url(service, listing_id))


@router.delete("/purchases/{purchase_id}/keys/{key_id}")
def revoke_key(purchase_id: str, key_id: str, request: Request, caller: Principal = require("market:use")) -> Done:
    """End a key: its next call is refused."""
    service = service_of(request)
    with service.db.write() as session:
        access_keys.revoke(service, session, caller, purchase_id=purchase_id, key_id=key_id)
    return Done()


@router.patch("/purchases/{purchase_id}")
def set_cache(
    purchase_id: str, body: CacheBody, request: Request, caller: Principal = require("market:use")
) -> PurchaseView:
    """Turn the cache in front of a bought model on or off."""
    service = service_of(request)
    with service.db.write() as session:
        row = purchases.own(session, caller.tenant, purchase_id)
        row.cache_calls = body.cache_calls
        return view_of(service, row)


@router.post("/purchases/{purchase_id}/cancel")
def cancel(purchase_id: str, request: Request, caller: Principal = require("market:buy")) -> PurchaseView:
    """Stop a subscription from renewing."""
    service = service_of(request)
    with service.db.write() as session:
        return view_of(service, purchases.cancel(service, session, caller, purchase_id))


@router.get(
    "/purchases/{purchase_id}/download",
    response_class=Response,
    responses=bytes_of("application/zip", description="The package."),
)
def download(
    purchase_id: str,
    request: Request,
    version: str | None = None,
    expires: int = 0,
    signature: str = "",
    caller: Principal = public(rate="60/minute"),
) -> Response:
    """A bought package: for the buyer's session, or for whoever holds a signed link. Every download is counted."""
    service = service_of(request)
    if signature:
        packages.check_link(service, purchase_id, version=version or "", expires=expires, signature=signature)
    elif caller.kind == "session":
        with service.db.read() as session:
            purchases.own(session, caller.tenant, purchase_id)
    else:
        raise Unauthenticated("Sign in, or use a download link from the purchase.")
    parcel = packages.deliver(service, purchase_id, version)
    headers = {
        "content-disposition": f'attachment; filename="{parcel.name}"',
        "x-content-sha256": parcel.sha256,
        "x-signature": service.vault.sign(parcel.sha256, purpose=packages.PURPOSE),
    }
    return Response(parcel.body, media_type="application/zip", headers=headers)


@router.get("/purchases/{purchase_id}/messages")
def read_messages(purchase_id: str, request: Request, caller: Principal = require("market:read")) -> list[MessageView]:
    """The support thread of a purchase, for its buyer and its creator."""
    with service_of(request).db.read() as session:
        rows = support.thread(session, caller.tenant, purchase_id)
        return [MessageView(id=row.id, sender=row.sender, words=row.words, at=row.at) for row in rows]


@router.post("/purchases/{purchase_id}/messages", status_code=201)
def write_message(
    purchase_id: str, body: MessageBody, request: Request, caller: Principal = require("market:use")
) -> MessageView:
    """Write into the support thread."""
    service = service_of(request)
    with service.db.write() as session:
        row = support.write(service, session, caller, purchase_id=purchase_id, words=body.words)
        return MessageView(id=row.id, sender=row.sender, words=row.words, at=row.at)


@router.post("/reports", status_code=201)
def report(body: ReportBody, request: Request, caller: Principal = require("market:use")) -> Done:
    """Report a listing or a review to the moderators."""
    service = service_of(request)
    with service.db.write() as session:
        moderation.report(service, session, caller, listing_id=body.listing, review_id=body.review, words=body.words)
    return Done()


_MODELS_OWN = {"description": "Any other status is the model's own answer."}
RUN_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


async def run_model(listing_id: str, path: str, request: Request, _caller: Principal = public()) -> Response:
    """A call of a bought model, with the buyer's key of that model in `X-API-Key` or as bearer token.

    Limits, permissions and expiry of the creator hold; the answer says in `X-AgentCache` whether it is a hit (not
    billed) and in `X-AgentCache-Cost` what it cost in micro-USD. `Cache-Control: no-store`, `no-cache` and
    `max-age` are obeyed.
    """
    service = service_of(request)
    secret = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
    call = model_proxy.Call(
        request.method,
        path,
        request.url.query,
        {name.lower(): value for name, value in request.headers.items()},
        await request.body(),
    )
    reply = await run_in_threadpool(model_proxy.run, service, listing_id, secret, call=call)
    headers = {
        "x-agentcache": "hit" if reply.cached else "miss",
        "x-agentcache-cost": str(reply.cost),
        "x-agentcache-saved": str(reply.saved),
    }
    return Response(reply.body, status_code=reply.status, media_type=reply.content_type, headers=headers)


for _method in RUN_METHODS:
    router.add_api_route(
        "/run/{listing_id}/{path:path}",
        run_model,
        methods=[_method],
        operation_id=f"run_model_{_method.lower()}",
        response_class=Response,
        responses={**bytes_of("*/*", description="What the model answered."), **UPSTREAM, "default": _MODELS_OWN},
    )


def listing_of(service: Service, purchase: Purchase) -> Listing:
    """The listing a purchase is of."""
    with service.db.read() as session:
        return session.get_one(Listing, purchase.listing_id)


_READ = for_sessions(least="viewer")
_USE = for_sessions(least="member")
_BUY = for_sessions(least="admin")
_DOWNLOAD = {
    "admin": 200,
    "member": 200,
    "viewer": 200,
    "other_tenant": 404,
    "anonymous": 401,
    "key": 401,
    "other_namespace": 401,
    "other_tenant_key": 401,
    "revoked_key": 401,
    "wrong_scope": 401,
}


def _a_carded_listing(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=f"card-{org_id}")
    return seeds.somebody_elses_listing(service, org_id, user_id)


ACCESS: tuple[Row, ...] = (
    Row(
        "POST",
        "/api/market/listings/{listing_id}/purchase",
        for_sessions(201, least="admin", other_tenant=402),
        seed=_a_carded_listing,
    ),
    Row("GET", "/api/market/purchases", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/api/market/purchases/{purchase_id}/access", _READ, seed=seeds.a_purchase),
    Row("POST", "/api/market/purchases/{purchase_id}/keys", for_sessions(201, least="member"), seed=seeds.a_purchase),
    Row("DELETE", "/api/market/purchases/{purchase_id}/keys/{key_id}", _USE, seed=seeds.a_key),
    Row("PATCH", "/api/market/purchases/{purchase_id}", _USE, body={"cache_calls": False}, seed=seeds.a_purchase),
    Row("POST", "/api/market/purchases/{purchase_id}/cancel", _BUY, seed=seeds.a_subscription_purchase),
    Row("GET", "/api/market/purchases/{purchase_id}/download", _DOWNLOAD, seed=seeds.an_agent_purchase),
    Row("GET", "/api/market/purchases/{purchase_id}/messages", _READ, seed=seeds.a_purchase),
    Row(
        "POST",
        "/api/market/purchases/{purchase_id}/messages",
        for_sessions(201, least="member"),
        body={"words": "Hello"},
        seed=seeds.a_purchase,
    ),
    Row(
        "POST",
        "/api/market/reports",
        for_sessions(201, least="member", other_tenant=201),
        body={"listing": "{listing_id}", "words": "It is broken."},
        seed=seeds.somebody_elses_listing,
    ),
    *(
        Row(method, "/api/market/run/{listing_id}/{path:path}", for_everybody(401), seed=seeds.a_purchase)
        for method in RUN_METHODS
    ),
)
