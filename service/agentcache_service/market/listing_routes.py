"""Routes of listings: search and pages for everybody, editing and publishing for creators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.wire import Body, Done

from . import agent_templates, credentials, listings, packages, recommendations, reviews, search, seeds
from .archive import MAX_PACKAGE
from .listings import Draft
from .search import Filters
from .tables import Listing
from .views import ListingView, ReviewView, VersionView, listing_view, review_view, version_view

router = APIRouter(prefix="/api/market", tags=["market"])


class ListingBody(Body):
    """A listing to be made; prices in micro-USD."""

    kind: Literal["model", "agent"]
    name: str = Field(min_length=3, max_length=80)
    summary: str = Field(min_length=3, max_length=160)
    description: str = Field(default="", max_length=20_000)
    category: str = Field(max_length=40)
    use_case: str = Field(default="", max_length=120)
    tags: list[str] = Field(default_factory=list, max_length=10)
    config: dict[str, Any] = Field(default_factory=dict)
    pricing: Literal["one_time", "subscription", "usage_based"] = "one_time"
    price: int = Field(default=0, ge=0)
    price_per_call: int = Field(default=0, ge=0)
    price_per_1k_tokens: int = Field(default=0, ge=0)

    def draft(self) -> Draft:
        """The body as the service's noun."""
        return Draft(**{**self.model_dump(), "tags": tuple(self.tags)})


class ListingPatch(Body):
    """Fields to change; those left out stay."""

    name: str | None = Field(default=None, min_length=3, max_length=80)
    summary: str | None = Field(default=None, min_length=3, max_length=160)
    description: str | None = Field(default=None, max_length=20_000)
    category: str | None = Field(default=None, max_length=40)
    use_case: str | None = Field(default=None, max_length=120)
    tags: list[str] | None = Field(default=None, max_length=10)
    config: dict[str, Any] | None = None
    pricing: Literal["one_time", "subscription", "usage_based"] | None = None
    price: int | None = Field(default=None, ge=0)
    price_per_call: int | None = Field(default=None, ge=0)
    price_per_1k_tokens: int | None = Field(default=None, ge=0)


class RateLimits(Body):
    """Calls allowed per buyer."""

    requestsPerMinute: int = Field(ge=1)
    requestsPerHour: int = Field(ge=1)


class CredentialsBody(Body):
    """How the service reaches a model. Write only: nothing ever answers with it."""

    modelId: str = Field(min_length=1, max_length=200)
    externalApiEndpoint: str = Field(min_length=8, max_length=500)
    apiKey: str = Field(min_length=1, max_length=500, repr=False)
    rateLimits: RateLimits
    permissions: list[str] = Field(min_length=1, max_length=50)
    expiresAt: datetime | None = None
    fallbackEndpoint: str | None = Field(default=None, max_length=500)


class CredentialsView(Done):
    """Where the ciphertext is kept."""

    cid: str


class ReviewBody(Body):
    """A rating of 1 to 5 stars, and words."""

    rating: int = Field(ge=1, le=5)
    words: str = Field(default="", max_length=4000)


class SearchView(BaseModel):
    """One page of results."""

    results: list[ListingView]
    total: int
    page: int
    pages: int


class DetailView(ListingView):
    """A listing with its reviews and what goes with it."""

    reviews: list[ReviewView]
    similar: list[ListingView]
    bought_together: list[ListingView]


def filters(
    q: str = "",
    kind: Literal["model", "agent"] | None = None,
    category: str | None = None,
    tag: str | None = None,
    use_case: str | None = None,
    pricing: Literal["one_time", "subscription", "usage_based"] | None = None,
    min_price: Annotated[int | None, Query(ge=0, description="micro-USD")] = None,
    max_price: Annotated[int | None, Query(ge=0, description="micro-USD")] = None,
    min_rating: Annotated[float | None, Query(ge=0, le=5)] = None,
    max_latency_ms: Annotated[int | None, Query(ge=0)] = None,
    sort: search.Order = "relevance",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Filters:
    """The query parameters of a search."""
    return Filters(
        words=q[:200],
        kind=kind,
        category=category,
        tag=tag,
        use_case=use_case,
        pricing=pricing,
        least_price=min_price,
        most_price=max_price,
        least_rating=min_rating,
        most_latency=max_latency_ms,
        order=sort,
        page=page,
    )


@router.get("/search")
def find(
    request: Request,
    wanted: Annotated[Filters, Depends(filters)],
    _caller: Principal = public(rate="300/minute"),
) -> SearchView:
    """Listings on sale, by words and filters."""
    with service_of(request).db.read() as session:
        found = search.find(session, wanted)
    results = [listing_view(row) for row in found.rows]
    return SearchView(results=results, total=found.total, page=found.page, pages=found.pages)


@router.get("/listings/{listing_id}")
def one(listing_id: str, request: Request, caller: Principal = public(rate="600/minute")) -> DetailView:
    """A listing on sale (or one's own), its reviews, similar ones and what was bought with it."""
    with service_of(request).db.read() as session:
        row = listings.visible(session, listing_id, org_id=caller.org_id)
        return detail(session, row)


def detail(session: Session, row: Listing) -> DetailView:
    """The wire form of a listing's page."""
    return DetailView(
        **listing_view(row).model_dump(),
        reviews=[review_view(review) for review in reviews.of_listing(session, row.id)],
        similar=[listing_view(other) for other in recommendations.similar(session, row)],
        bought_together=[listing_view(other) for other in recommendations.bought_together(session, row)],
    )


@router.get("/listings/{listing_id}/versions")
def list_versions(
    listing_id: str, request: Request, caller: Principal = public(rate="600/minute")
) -> list[VersionView]:
    """A listing's versions and their notes, newest first."""
    with service_of(request).db.read() as session:
        row = listings.visible(session, listing_id, org_id=caller.org_id)
        return [version_view(version) for version in listings.versions(session, row.id)]


@router.get("/templates")
def templates(_caller: Principal = public()) -> list[dict[str, Any]]:
    """The templates `agentcache agents new` starts from, with their files."""
    return agent_templates.described()


@router.get("/creator/listings")
def own_listings(request: Request, caller: Principal = require("market:read")) -> list[ListingView]:
    """The organization's own listings in every state."""
    with service_of(request).db.read() as session:
        return [listing_view(row) for row in listings.of_creator(session, caller.tenant)]


@router.post("/listings", status_code=201)
def create(body: ListingBody, request: Request, caller: Principal = require("market:sell")) -> ListingView:
    """Make a listing; it is a draft until it is published."""
    service = service_of(request)
    with service.db.write() as session:
        row = listings.create(service, session, caller, body.draft())
        session.flush()
        return listing_view(row)


@router.patch("/listings/{listing_id}")
def edit(
    listing_id: str, body: ListingPatch, request: Request, caller: Principal = require("market:sell")
) -> ListingView:
    """Change a listing; purchases made before keep their price."""
    service = service_of(request)
    with service.db.write() as session:
        row = listings.own(session, caller.tenant, listing_id)
        known = {name: getattr(row, name) for name in ListingBody.model_fields}
        merged = ListingBody.model_validate({**known, **body.model_dump(exclude_none=True)})
        return listing_view(listings.edit(service, session, caller, listing_id=listing_id, draft=merged.draft()))


@router.post("/listings/{listing_id}/publish")
def publish(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> ListingView:
    """Put a listing on sale. When automatic checks hold it, it stays as it is and a moderator decides."""
    service = service_of(request)
    with service.db.write() as session:
        return listing_view(listings.publish(service, session, caller, listing_id=listing_id))


@router.post("/listings/{listing_id}/delist")
def delist(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> ListingView:
    """Take a listing off sale; buyers keep what they bought."""
    service = service_of(request)
    with service.db.write() as session:
        return listing_view(listings.delist(service, session, caller, listing_id=listing_id))


@router.post("/listings/{listing_id}/withdraw")
def withdraw(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> ListingView:
    """Take a listing off sale and let its subscriptions run out: buyers are told, and nothing renews."""
    service = service_of(request)
    with service.db.write() as session:
        return listing_view(listings.withdraw(service, session, caller, listing_id=listing_id))


@router.post("/listings/{listing_id}/versions", status_code=201)
def add_version(
    listing_id: str,
    request: Request,
    version: Annotated[str, Form(max_length=40)],
    notes: Annotated[str, Form(max_length=10_000)] = "",
    package: Annotated[UploadFile | None, File(description="an agent's package (ZIP)")] = None,
    caller: Principal = require("market:sell"),
) -> VersionView:
    """A new version with notes; an agent's with its package, which is checked first (422 names the file and why)."""
    service = service_of(request)
    with service.db.read() as session:
        listings.own(session, caller.tenant, listing_id)
    taken = packages.take_in(service, package.file.read(MAX_PACKAGE + 1)) if package is not None else None
    with service.db.write() as session:
        row = listings.add_version(
            service, session, caller, listing_id=listing_id, version=version, notes=notes, package=taken
        )
        return version_view(row)


@router.put("/listings/{listing_id}/credentials")
def put_credentials(
    listing_id: str, body: CredentialsBody, request: Request, caller: Principal = require("market:sell")
) -> CredentialsView:
    """Store a model's credentials: encrypted, content-addressed, never shown again."""
    service = service_of(request)
    parsed = credentials.parse(body.model_dump())
    with service.db.write() as session:
        cid = credentials.store(service, session, caller, listing_id=listing_id, credentials=parsed)
    return CredentialsView(cid=cid)


@router.delete("/listings/{listing_id}/credentials")
def erase_credentials(listing_id: str, request: Request, caller: Principal = require("market:sell")) -> Done:
    """Erase a model's credentials: the wrapped key is dropped, so nobody can read the ciphertext any more."""
    service = service_of(request)
    with service.db.write() as session:
        credentials.erase(service, session, caller, listing_id=listing_id)
    return Done()


@router.post("/listings/{listing_id}/reviews")
def review(
    listing_id: str, body: ReviewBody, request: Request, caller: Principal = require("market:review")
) -> ReviewView:
    """Rate and review what the organization has bought."""
    service = service_of(request)
    with service.db.write() as session:
        row = reviews.write(service, session, caller, listing_id=listing_id, rating=body.rating, words=body.words)
        return review_view(row)


_NEW = {
    "kind": "model",
    "name": "New model",
    "summary": "A summary.",
    "description": "A description of enough words.",
    "category": "text",
    "price": 5_000_000,
}
_CREDENTIALS = {
    "modelId": "m-1",
    "externalApiEndpoint": "https://8.8.8.8/v1",
    "apiKey": "sk-1",
    "rateLimits": {"requestsPerMinute": 10, "requestsPerHour": 100},
    "permissions": ["*"],
}


ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/market/search", for_everybody()),
    Row("GET", "/api/market/listings/{listing_id}", for_everybody(), seed=seeds.an_active_listing),
    Row("GET", "/api/market/listings/{listing_id}/versions", for_everybody(), seed=seeds.an_active_listing),
    Row("GET", "/api/market/templates", for_everybody()),
    Row("GET", "/api/market/creator/listings", for_sessions(least="viewer", other_tenant=200)),
    Row(
        "POST",
        "/api/market/listings",
        for_sessions(201, least="admin", other_tenant=409),
        body=_NEW,
        seed=seeds.a_listing,
    ),
    Row(
        "PATCH",
        "/api/market/listings/{listing_id}",
        for_sessions(least="admin"),
        body={"name": "Better name"},
        seed=seeds.a_listing,
    ),
    Row("POST", "/api/market/listings/{listing_id}/publish", for_sessions(least="admin"), seed=seeds.a_listing),
    Row("POST", "/api/market/listings/{listing_id}/delist", for_sessions(least="admin"), seed=seeds.an_active_listing),
    Row(
        "POST", "/api/market/listings/{listing_id}/withdraw", for_sessions(least="admin"), seed=seeds.an_active_listing
    ),
    Row(
        "POST",
        "/api/market/listings/{listing_id}/versions",
        for_sessions(201, least="admin"),
        form={"version": "2.0.0", "notes": "More"},
        seed=seeds.a_listing,
    ),
    Row(
        "PUT",
        "/api/market/listings/{listing_id}/credentials",
        for_sessions(least="admin"),
        body=_CREDENTIALS,
        seed=seeds.a_listing,
    ),
    Row("DELETE", "/api/market/listings/{listing_id}/credentials", for_sessions(least="admin"), seed=seeds.a_listing),
    Row(
        "POST",
        "/api/market/listings/{listing_id}/reviews",
        for_sessions(least="member", other_tenant=403),
        body={"rating": 5, "words": "Good."},
        seed=seeds.a_purchase,
    ),
)
