"""The wire forms of listings, purchases, keys and reviews."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from . import search
from .tables import AccessKey, Listing, ListingVersion, ModerationCase, Purchase, Review


class ListingView(BaseModel):
    """A listing; prices in micro-USD."""

    id: str
    creator: str
    kind: str
    name: str
    summary: str
    description: str
    category: str
    use_case: str
    tags: list[str]
    config: dict[str, Any]
    status: str
    pricing: str
    price: int
    price_per_call: int
    price_per_1k_tokens: int
    version: str
    rating: float | None
    ratings: int
    sales: int
    downloads: int
    latency_ms: int | None
    uptime: float | None
    created_at: datetime
    updated_at: datetime


class VersionView(BaseModel):
    """A version with its notes; for agents also the package's size and digest."""

    version: str
    notes: str
    package_bytes: int
    package_sha256: str | None
    files: list[dict[str, Any]]
    created_at: datetime


class PurchaseView(BaseModel):
    """A purchase as its buyer sees it; `payment_intent` is our payment's id."""

    id: str
    listing: str
    kind: str
    pricing: str
    amount: int
    currency: str
    status: str
    payment_intent: str | None
    access: bool
    access_expires_at: datetime | None
    transferred_at: datetime | None
    renews: bool
    cache_calls: bool
    created_at: datetime
    completed_at: datetime | None


class KeyView(BaseModel):
    """A buyer's key without its secret."""

    id: str
    name: str
    last4: str
    permissions: list[str]
    active: bool
    last_used_at: datetime | None
    expires_at: datetime | None
    created_at: datetime


class NewKeyView(BaseModel):
    """A key just made. `key` is shown this one time."""

    key: str
    details: KeyView
    base_url: str = Field(description="where calls with this key go")


class ReviewView(BaseModel):
    """A review."""

    id: str
    author: str
    rating: int
    words: str
    created_at: datetime
    updated_at: datetime


class CaseView(BaseModel):
    """A moderation case."""

    id: str
    listing: str
    listing_name: str
    review: str | None
    cause: str
    findings: list[str]
    words: str
    state: str
    decision_note: str
    appeal: str
    opened_at: datetime
    decided_at: datetime | None


def listing_view(row: Listing) -> ListingView:
    """A listing's wire form."""
    return ListingView(
        id=row.id,
        creator=row.org_id,
        kind=row.kind,
        name=row.name,
        summary=row.summary,
        description=row.description,
        category=row.category,
        use_case=row.use_case,
        tags=row.tags,
        config=row.config,
        status=row.status,
        pricing=row.pricing,
        price=row.price,
        price_per_call=row.price_per_call,
        price_per_1k_tokens=row.price_per_1k_tokens,
        version=row.version,
        rating=search.rating(row),
        ratings=row.rating_count,
        sales=row.sales,
        downloads=row.downloads,
        latency_ms=search.latency_ms(row),
        uptime=search.uptime(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def version_view(row: ListingVersion) -> VersionView:
    """A version's wire form."""
    return VersionView(
        version=row.version,
        notes=row.notes,
        package_bytes=row.package_bytes,
        package_sha256=row.package_sha256,
        files=row.files,
        created_at=row.created_at,
    )


def purchase_view(row: Purchase, *, access: bool) -> PurchaseView:
    """A purchase's wire form."""
    return PurchaseView(
        id=row.id,
        listing=row.listing_id,
        kind=row.kind,
        pricing=row.pricing,
        amount=row.amount,
        currency=row.currency,
        status=row.status,
        payment_intent=row.payment_intent,
        access=access,
        access_expires_at=row.access_until,
        transferred_at=row.transferred_at,
        renews=row.renews,
        cache_calls=row.cache_calls,
        created_at=row.created_at,
        completed_at=row.completed_at,
    )


def key_view(row: AccessKey) -> KeyView:
    """A key's wire form."""
    return KeyView(
        id=row.id,
        name=row.name,
        last4=row.last4,
        permissions=row.permissions,
        active=row.active,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )


def review_view(row: Review) -> ReviewView:
    """A review's wire form."""
    return ReviewView(
        id=row.id,
        author=row.author,
        rating=row.rating,
        words=row.words,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def case_view(case: ModerationCase, name: str) -> CaseView:
    """A case's wire form; who reported is not told."""
    return CaseView(
        id=case.id,
        listing=case.listing_id,
        listing_name=name,
        review=case.review_id,
        cause=case.cause,
        findings=case.findings,
        words=case.words,
        state=case.state,
        decision_note=case.decision_note,
        appeal=case.appeal,
        opened_at=case.opened_at,
        decided_at=case.decided_at,
    )
