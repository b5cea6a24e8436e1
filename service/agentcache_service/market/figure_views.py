"""Wire forms of figures: the creator's, the referrer's and the platform's. Money is in micro-USD."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ListingFigures(BaseModel):
    """What one listing has brought."""

    id: str
    name: str
    kind: str
    status: str
    sales: int
    calls: int
    downloads: int
    revenue: int
    rating: float | None
    ratings: int
    latency_ms: float | None
    uptime: float | None


class CallFigures(BaseModel):
    """Calls of all of a creator's models."""

    total: int
    cached: int
    metered: int
    input_tokens: int
    output_tokens: int


class DayFigures(BaseModel):
    """One day."""

    day: str
    revenue: int
    calls: int
    downloads: int


class Movement(BaseModel):
    """One movement of the creator's account in the ledger."""

    at: str
    kind: str
    amount: int


class CreatorFigures(BaseModel):
    """Everything of the creator page."""

    revenue: int
    payable: int
    sales: int
    calls: CallFigures
    downloads: int
    listings: list[ListingFigures]
    days: list[DayFigures]
    recent: list[Movement]


class TopPartner(BaseModel):
    """The partner that has brought most."""

    partner: str
    earned: int


class EarningEvent(BaseModel):
    """A line of earnings, shortly."""

    at: str
    partner: str
    kind: str
    state: str
    share: int


class EarnedMonth(BaseModel):
    """A month of the chart."""

    month: str
    earned: int


class Funnel(BaseModel):
    """From clicks to conversions."""

    clicks: int
    signups: int
    conversions: int


class Earnings(BaseModel):
    """Everything of the earnings page: the referrer's share."""

    opted_in: bool
    this_month: int
    last_month: int
    change: float | None = Field(description="against last month, as a share; null without one")
    all_time: int
    pending: int
    payable: int
    top_partner: TopPartner | None
    recent: list[EarningEvent]
    chart: list[EarnedMonth]
    funnel: Funnel


class SalesFigures(BaseModel):
    """Sales of a month."""

    count: int
    amount: int


class PlatformFigures(BaseModel):
    """The platform's month; a share is null where there is nothing to divide by."""

    month: str
    mrr: int = Field(description="monthly recurring revenue")
    subscribers: int
    churn: float | None
    average_revenue_per_subscriber: int | None
    lifetime_value: int | None
    revenue: dict[str, int] = Field(description="by source, refunds taken off")
    users: int
    organizations: int
    active_users: int
    requests: int
    uploads: int
    sales: SalesFigures
    model_calls: int
    creators: int
    listings: dict[str, int] = Field(description="by status")


class StorageCost(BaseModel):
    """What keeping a listing's packages costs per month."""

    listing: str
    name: str
    bytes: int
    cost: int
