"""The marketplace's figures from `plans.toml`: commission by category, thresholds, the referrers' share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rates:
    """Every figure of the two marketplaces; shares in basis points, money in micro-USD."""

    default_bps: int
    by_category: Mapping[str, int]
    creator_minimum: int
    dispute_fee: int
    usage_settle: int
    storage_gb_month_usd: float
    referrer_share_bps: int
    referrer_minimum: int
    cookie_days: int

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories listings may have."""
        return tuple(self.by_category)

    def bps(self, category: str) -> int:
        """The platform's share of sales in a category."""
        return self.by_category.get(category, self.default_bps)


def read_rates(raw: Mapping[str, Any]) -> Rates:
    """The figures in a `plans.toml`; `ValueError` when a commission leaves 10 to 15 %."""
    market, affiliates = raw["market"], raw["affiliates"]
    for name, bps in {"default": market["commission_bps"], **market["categories"]}.items():
        if not 1_000 <= bps <= 1_500:
            raise ValueError(f"plans.toml: the commission of {name!r} must be 1000 to 1500 basis points, not {bps}")
    return Rates(
        default_bps=market["commission_bps"],
        by_category=dict(market["categories"]),
        creator_minimum=market["payout_minimum_micros"],
        dispute_fee=market["dispute_fee_micros"],
        usage_settle=market["usage_settle_micros"],
        storage_gb_month_usd=market["storage_gb_month_usd"],
        referrer_share_bps=affiliates["referrer_share_bps"],
        referrer_minimum=affiliates["payout_minimum_micros"],
        cookie_days=affiliates["cookie_days"],
    )
