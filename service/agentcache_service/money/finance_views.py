"""Wire forms of the reports for those who run the service. Money is in micro-USD."""

from __future__ import annotations

from pydantic import BaseModel


class Allocation(BaseModel):
    """What the customer's plan includes; null: unlimited."""

    storage_gb: float | None
    bandwidth_gb: float | None
    requests: int | None


class InternalCost(BaseModel):
    """What serving the customer cost us, by part."""

    storage: int
    bandwidth: int
    api_calls: int
    overhead: int
    total: int


class BillingRecord(BaseModel):
    """One customer's month."""

    source_platform: str
    user_id: str
    period: str
    jettythunder_allocation: Allocation
    internal_cost: InternalCost
    charged_to_user: int
    margin: float | None


class RevenuePool(BaseModel):
    """All customers' sums."""

    customers: int
    charged: int
    cost: int
    pool: int


class RecordsView(BaseModel):
    """Every customer's month and the pool they form."""

    records: list[BillingRecord]
    revenue_pool: RevenuePool


class MonthlyReport(BaseModel):
    """The finance report of a month."""

    month: str
    active_customers: int
    revenue: int
    revenue_by_source: dict[str, int]
    cost: int
    gross_profit: int
    average_margin: float | None
    unit: str
    source: str
