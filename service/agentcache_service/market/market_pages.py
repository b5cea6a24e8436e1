"""Pages of the marketplace: search, a listing, buying, what one has bought."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response

from agentcache_service.errors import ServiceError
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import money, page, see_other
from agentcache_service.web.snippets import Snippet

from . import access_keys, listings, purchases, recommendations, reviews, sales, search, seeds, support
from .page_forms import micros_of
from .purchase_routes import access_view, base_url
from .search import Filters
from .tables import Creator, Listing, Purchase

router = APIRouter(prefix="/market", include_in_schema=False)
FIELDS = ("q", "kind", "category", "use_case", "max_price", "min_rating", "max_latency", "sort")
Text = Annotated[str, Form(max_length=4000)]


def price_words(row: Listing) -> str:
    """A listing's price as one would say it."""
    if row.pricing == "usage_based":
        parts = []
        if row.price_per_call:
            parts.append(f"{money(row.price_per_call)} per call")
        if row.price_per_1k_tokens:
            parts.append(f"{money(row.price_per_1k_tokens)} per 1,000 tokens")
        return " + ".join(parts)
    if not row.price:
        return "Free"
    return money(row.price) + (" / month" if row.pricing == "subscription" else "")


def _shown(row: Listing) -> dict[str, Any]:
    return {
        "row": row,
        "price": price_words(row),
        "rating": search.rating(row),
        "latency": search.latency_ms(row),
        "uptime": search.uptime(row),
    }


@router.get("")
def find(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    kind: str = "",
    category: str = "",
    use_case: Annotated[str, Query(max_length=120)] = "",
    max_price: Annotated[str, Query(max_length=20)] = "",
    min_rating: Annotated[str, Query(max_length=4)] = "",
    max_latency: Annotated[str, Query(max_length=8)] = "",
    sort: search.Order = "relevance",
    number: Annotated[int, Query(alias="page", ge=1, le=10_000)] = 1,
    caller: Principal = public(rate="300/minute"),
) -> HTMLResponse:
    """Search with filters."""
    service = service_of(request)
    problem = None
    try:
        most = micros_of(max_price, "The highest price") if max_price.strip() else None
    except ServiceError as refused:
        most, problem = None, refused.message
    wanted = Filters(
        words=q,
        kind=kind if kind in {"model", "agent"} else None,
        category=category if category in service.market.rates.categories else None,
        use_case=use_case or None,
        most_price=most,
        least_rating=float(min_rating) if min_rating in {"3", "4", "4.5"} else None,
        most_latency=int(max_latency) if max_latency.isdecimal() else None,
        order=sort,
        page=number,
    )
    with service.db.read() as session:
        found = search.find(session, wanted)
    given = {key: value for key, value in request.query_params.items() if key != "page" and value}
    return page(
        request,
        caller,
        "market/search.html",
        found=found,
        offers=[_shown(row) for row in found.rows],
        categories=service.market.rates.categories,
        given={**dict.fromkeys(FIELDS, ""), **given},
        link=urlencode(given),
        orders=search.ORDERS,
        problem=problem,
    )


def _listing_page(
    request: Request, caller: Principal, listing_id: str, *, problem: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    now = service.clock.now()
    with service.db.read() as session:
        row = listings.visible(session, listing_id, org_id=caller.org_id)
        creator = session.get(Creator, row.org_id)
        owned = None
        if caller.kind == "session" and caller.org_id:
            mine = [bought for bought, other in purchases.of_buyer(session, caller.org_id) if other.id == row.id]
            owned = next((bought for bought in mine if sales.has_access(bought, now)), None)
        context = {
            "creator": creator,
            "versions": listings.versions(session, row.id),
            "reviews": reviews.of_listing(session, row.id),
            "similar": [_shown(other) for other in recommendations.similar(session, row)],
            "together": [_shown(other) for other in recommendations.bought_together(session, row)],
        }
    return page(
        request,
        caller,
        "market/listing.html",
        status=status,
        offer=_shown(row),
        owned=owned,
        is_own=row.org_id == caller.org_id,
        may_buy=caller.kind == "session" and role_allows(caller.role, "market:buy"),
        problem=problem,
        **context,
    )


@router.get("/purchases")
def bought(request: Request, caller: Principal = require("market:read")) -> HTMLResponse:
    """What the organization has bought."""
    service = service_of(request)
    now = service.clock.now()
    with service.db.read() as session:
        rows = [(row, other, sales.has_access(row, now)) for row, other in purchases.of_buyer(session, caller.tenant)]
    return page(request, caller, "market/purchases.html", rows=rows)


def _access_page(
    request: Request,
    caller: Principal,
    purchase_id: str,
    *,
    secret: str | None = None,
    problem: str | None = None,
    notice: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        row = purchases.own(session, caller.tenant, purchase_id)
        listing = session.get_one(Listing, row.listing_id)
        thread = support.thread(session, caller.tenant, purchase_id)
        own_review = next((r for r in reviews.of_listing(session, listing.id) if r.org_id == caller.tenant), None)
    return page(
        request,
        caller,
        "market/access.html",
        status=status,
        purchase=row,
        listing=listing,
        access=access_view(service, caller.tenant, purchase_id),
        thread=thread,
        review=own_review,
        secret=secret,
        snippets=call_snippets(base_url(service, listing.id), secret or "acm_YOUR_KEY", listing),
        may_use=role_allows(caller.role, "market:use"),
        may_buy=role_allows(caller.role, "market:buy"),
        problem=problem,
        notice=notice,
    )


def call_snippets(address: str, key: str, row: Listing) -> list[Snippet]:
    """How a bought model is called."""
    model = str(row.config.get("model", "the-model"))
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    curl = (
        f"curl -s {address}/chat/completions \\\n"
        f"  -H 'X-API-Key: {key}' -H 'Content-Type: application/json' \\\n  -d '{body}'"
    )
    question = '[{"role": "user", "content": "Hello"}]'
    python = (
        f'from openai import OpenAI\n\nclient = OpenAI(base_url="{address}", api_key="{key}")\n'
        f'answer = client.chat.completions.create(model="{model}", messages={question})\n'
        "print(answer.choices[0].message.content)"
    )
    return [Snippet("curl", "curl", curl), Snippet("python", "Python", python)]


@router.get("/purchases/{purchase_id}")
def access(
    purchase_id: str, request: Request, done: str = "", caller: Principal = require("market:read")
) -> HTMLResponse:
    """What a purchase gives."""
    notices = {"bought": "It is yours: everything below works now.", "review": "Thank you for the review."}
    return _access_page(request, caller, purchase_id, notice=notices.get(done))


@router.post("/purchases/{purchase_id}/keys")
def make_key(
    purchase_id: str, request: Request, name: Text = "Key", caller: Principal = require("market:use")
) -> HTMLResponse:
    """A new key, shown once."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            made = access_keys.create(
                service, session, caller, purchase_id=purchase_id, name=name[:120], permissions=[], expires_at=None
            )
    except ServiceError as refused:
        return _access_page(request, caller, purchase_id, problem=refused.message, status=refused.status)
    return _access_page(request, caller, purchase_id, secret=made.secret)


@router.post("/purchases/{purchase_id}/keys/{key_id}/revoke")
def revoke_key(purchase_id: str, key_id: str, request: Request, caller: Principal = require("market:use")) -> Response:
    """End a key."""
    service = service_of(request)
    with service.db.write() as session:
        access_keys.revoke(service, session, caller, purchase_id=purchase_id, key_id=key_id)
    return see_other(f"/market/purchases/{purchase_id}")


@router.post("/purchases/{purchase_id}/cache")
def set_cache(purchase_id: str, request: Request, on: Text = "", caller: Principal = require("market:use")) -> Response:
    """The cache in front of a bought model."""
    with service_of(request).db.write() as session:
        purchases.own(session, caller.tenant, purchase_id).cache_calls = on == "yes"
    return see_other(f"/market/purchases/{purchase_id}")


@router.post("/purchases/{purchase_id}/cancel")
def cancel(purchase_id: str, request: Request, caller: Principal = require("market:buy")) -> Response:
    """Stop renewing."""
    service = service_of(request)
    with service.db.write() as session:
        purchases.cancel(service, session, caller, purchase_id)
    return see_other(f"/market/purchases/{purchase_id}")


@router.post("/purchases/{purchase_id}/messages")
def write(purchase_id: str, request: Request, words: Text, caller: Principal = require("market:use")) -> Response:
    """A message to the creator, or from them."""
    service = service_of(request)
    with service.db.write() as session:
        row = support.write(service, session, caller, purchase_id=purchase_id, words=words)
    return see_other(f"/market/purchases/{purchase_id}" if row.sender == "buyer" else "/creator")


@router.post("/purchases/{purchase_id}/review")
def review(
    purchase_id: str,
    request: Request,
    rating: Annotated[int, Form(ge=1, le=5)],
    words: Text = "",
    caller: Principal = require("market:review"),
) -> Response:
    """Rate and review."""
    service = service_of(request)
    with service.db.write() as session:
        row = purchases.own(session, caller.tenant, purchase_id)
        reviews.write(service, session, caller, listing_id=row.listing_id, rating=rating, words=words)
    return see_other(f"/market/purchases/{purchase_id}?done=review")


@router.get("/{listing_id}")
def one(listing_id: str, request: Request, caller: Principal = public(rate="600/minute")) -> HTMLResponse:
    """A listing."""
    return _listing_page(request, caller, listing_id)


@router.post("/{listing_id}/buy")
def buy(
    listing_id: str,
    request: Request,
    price: Annotated[int, Form(ge=0)],
    caller: Principal = require("market:buy"),
) -> Response:
    """Buy at the price that was shown."""
    service = service_of(request)
    try:
        made: Purchase = purchases.buy(service, caller, listing_id, expected_price=price)
    except ServiceError as refused:
        if refused.status == 404:
            raise
        return _listing_page(request, caller, listing_id, problem=refused.message, status=refused.status)
    return see_other(f"/market/purchases/{made.id}?done=bought")


_USE = for_sessions(303, least="member")
_SEED = seeds.a_purchase


def _a_buyable(service: Any, org_id: str, user_id: str) -> dict[str, str]:
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=f"page-{org_id}")
    return seeds.somebody_elses_listing(service, org_id, user_id)


ACCESS: tuple[Row, ...] = (
    Row("GET", "/market", for_everybody()),
    Row("GET", "/market/{listing_id}", for_everybody(), seed=seeds.an_active_listing),
    Row(
        "POST",
        "/market/{listing_id}/buy",
        for_sessions(303, least="admin", other_tenant=402),
        form={"price": "5000000"},
        seed=_a_buyable,
    ),
    Row("GET", "/market/purchases", for_sessions(least="viewer", other_tenant=200)),
    Row("GET", "/market/purchases/{purchase_id}", for_sessions(least="viewer"), seed=_SEED),
    Row("POST", "/market/purchases/{purchase_id}/keys", for_sessions(least="member"), form={"name": "k"}, seed=_SEED),
    Row("POST", "/market/purchases/{purchase_id}/keys/{key_id}/revoke", _USE, seed=seeds.a_key),
    Row("POST", "/market/purchases/{purchase_id}/cache", _USE, form={"on": "yes"}, seed=_SEED),
    Row(
        "POST",
        "/market/purchases/{purchase_id}/cancel",
        for_sessions(303, least="admin"),
        seed=seeds.a_subscription_purchase,
    ),
    Row("POST", "/market/purchases/{purchase_id}/messages", _USE, form={"words": "Hello"}, seed=_SEED),
    Row("POST", "/market/purchases/{purchase_id}/review", _USE, form={"rating": "4", "words": "Good"}, seed=_SEED),
)
