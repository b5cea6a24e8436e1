"""Tables of the marketplace of models and agents: creators, listings, purchases, keys, calls, reviews, moderation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class Creator(Base):
    """An organization that may sell. It needs a verified person and a payout method before anything is published."""

    __tablename__ = "market_creators"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    display_name: Mapped[str]
    about: Mapped[str] = mapped_column(Text, default="")
    created_by: Mapped[str]
    created_at: Mapped[datetime]


class Listing(Base):
    """A model (access to an external endpoint) or an agent (a package) for sale.

    `pricing` is one_time, subscription or usage_based (models only). `price` is micro-USD per purchase or month;
    usage prices are per call and per 1,000 tokens. Ratings, sales and latency are sums kept for searching.
    """

    __tablename__ = "market_listings"
    __table_args__ = (Index(None, "status", "category"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    name: Mapped[str]
    summary: Mapped[str]
    description: Mapped[str] = mapped_column(Text)
    category: Mapped[str]
    use_case: Mapped[str] = mapped_column(default="")
    tags: Mapped[list[str]]
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(default="draft")
    pricing: Mapped[str]
    price: Mapped[int] = mapped_column(default=0)
    price_per_call: Mapped[int] = mapped_column(default=0)
    price_per_1k_tokens: Mapped[int] = mapped_column(default=0)
    version: Mapped[str] = mapped_column(default="")
    rating_sum: Mapped[int] = mapped_column(default=0)
    rating_count: Mapped[int] = mapped_column(default=0)
    sales: Mapped[int] = mapped_column(default=0)
    downloads: Mapped[int] = mapped_column(default=0)
    calls: Mapped[int] = mapped_column(default=0)
    call_ms: Mapped[int] = mapped_column(default=0)
    checks: Mapped[int] = mapped_column(default=0)
    checks_ok: Mapped[int] = mapped_column(default=0)
    check_ms: Mapped[int] = mapped_column(default=0)
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    published_at: Mapped[datetime | None]


class ListingVersion(Base):
    """One version of a listing with its notes; an agent's has its package, kept content-addressed."""

    __tablename__ = "market_versions"
    __table_args__ = (UniqueConstraint("listing_id", "version"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    listing_id: Mapped[str] = mapped_column(ForeignKey("market_listings.id"))
    version: Mapped[str]
    notes: Mapped[str] = mapped_column(Text)
    package_cid: Mapped[str | None]
    package_sha256: Mapped[str | None]
    package_bytes: Mapped[int] = mapped_column(default=0)
    files: Mapped[list[Any]] = mapped_column(JSON)
    findings: Mapped[list[Any]] = mapped_column(JSON)
    readme: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]


class ListingCredential(Base):
    """A model's credentials: ciphertext under a CID, and the wrapped key without which it is noise."""

    __tablename__ = "market_credentials"

    listing_id: Mapped[str] = mapped_column(ForeignKey("market_listings.id"), primary_key=True)
    cid: Mapped[str]
    wrapped_key: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class Purchase(Base):
    """What a buyer has bought, with price and commission as they were then.

    `status` is pending, completed, failed or refunded. `access_until` is None for access without end;
    `transferred_at` is when an agent's licence passed to the buyer.
    """

    __tablename__ = "market_purchases"
    __table_args__ = (Index(None, "org_id", "listing_id"), Index(None, "renews", "access_until"))

    id: Mapped[str] = mapped_column(primary_key=True)
    listing_id: Mapped[str] = mapped_column(ForeignKey("market_listings.id"), index=True)
    org_id: Mapped[str]
    user_id: Mapped[str]
    creator_org_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    pricing: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(default="usd")
    price_per_call: Mapped[int] = mapped_column(default=0)
    price_per_1k_tokens: Mapped[int] = mapped_column(default=0)
    fee_bps: Mapped[int]
    status: Mapped[str] = mapped_column(default="pending")
    payment_intent: Mapped[str | None]
    access_until: Mapped[datetime | None]
    transferred_at: Mapped[datetime | None]
    renews: Mapped[bool] = mapped_column(default=False)
    period: Mapped[int] = mapped_column(default=0)
    cache_calls: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class SaleRecord(Base):
    """One charge of a purchase: its first, a renewal, or a settlement of usage. Its id is the ledger's cause."""

    __tablename__ = "market_sales"
    __table_args__ = (UniqueConstraint("purchase_id", "kind", "serial"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("market_purchases.id"))
    kind: Mapped[str]
    serial: Mapped[int]
    amount: Mapped[int]
    fee_bps: Mapped[int]
    status: Mapped[str] = mapped_column(default="pending")
    created_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]


class AccessKey(Base):
    """A buyer's own key for one purchased model; only its digest is kept."""

    __tablename__ = "market_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("market_purchases.id"), index=True)
    listing_id: Mapped[str]
    org_id: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    last4: Mapped[str]
    permissions: Mapped[list[str]]
    active: Mapped[bool] = mapped_column(default=True)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ModelCall(Base):
    """One call through the proxy. Bodies are not kept: their sizes and digests are.

    `cost` is what the buyer owes for it in micro-USD (0 for a cache hit); `sale_id` is set when it was charged.
    """

    __tablename__ = "market_calls"
    __table_args__ = (Index(None, "purchase_id", "at"), Index(None, "listing_id", "at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("market_purchases.id"))
    listing_id: Mapped[str]
    key_id: Mapped[str]
    at: Mapped[datetime]
    method: Mapped[str]
    path: Mapped[str]
    status: Mapped[int]
    request_bytes: Mapped[int]
    request_sha256: Mapped[str]
    response_bytes: Mapped[int]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    milliseconds: Mapped[int]
    cached: Mapped[bool]
    cost: Mapped[int]
    saved: Mapped[int]
    sale_id: Mapped[str | None] = mapped_column(index=True)


class CallWindow(Base):
    """Calls counted in one minute or hour of one purchase, for the creator's limits."""

    __tablename__ = "market_windows"

    purchase_id: Mapped[str] = mapped_column(primary_key=True)
    window: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    ends_at: Mapped[datetime] = mapped_column(index=True)


class Download(Base):
    """One download of a bought package."""

    __tablename__ = "market_downloads"

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("market_purchases.id"), index=True)
    listing_id: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    at: Mapped[datetime]


class Review(Base):
    """A verified buyer's opinion: one to five stars and words; hidden ones do not count."""

    __tablename__ = "market_reviews"
    __table_args__ = (UniqueConstraint("listing_id", "org_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    listing_id: Mapped[str] = mapped_column(ForeignKey("market_listings.id"))
    purchase_id: Mapped[str]
    org_id: Mapped[str]
    author: Mapped[str]
    rating: Mapped[int]
    words: Mapped[str] = mapped_column(Text)
    hidden: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ModerationCase(Base):
    """A listing held back or reported: automatic findings, a person's decision, an appeal and its end.

    `state` is open, approved, rejected, appealed, upheld or overturned.
    """

    __tablename__ = "market_cases"

    id: Mapped[str] = mapped_column(primary_key=True)
    listing_id: Mapped[str] = mapped_column(ForeignKey("market_listings.id"), index=True)
    review_id: Mapped[str | None]
    org_id: Mapped[str] = mapped_column(index=True)
    cause: Mapped[str]
    findings: Mapped[list[Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(default="open", index=True)
    reporter_org_id: Mapped[str | None]
    words: Mapped[str] = mapped_column(Text, default="")
    decided_by: Mapped[str | None]
    decision_note: Mapped[str] = mapped_column(Text, default="")
    appeal: Mapped[str] = mapped_column(Text, default="")
    opened_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class Message(Base):
    """One message of the support thread between a purchase's buyer and its creator."""

    __tablename__ = "market_messages"

    id: Mapped[str] = mapped_column(primary_key=True)
    purchase_id: Mapped[str] = mapped_column(ForeignKey("market_purchases.id"), index=True)
    sender: Mapped[str]
    user_id: Mapped[str]
    words: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
