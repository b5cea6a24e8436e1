"""Plans and entitlements: `plans.toml` is the only place with numbers, `has_feature` the only check of features."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from agentcache_service.errors import FeatureNotInPlan
from agentcache_service.settings import Settings

Feature = Literal["multimodal", "accelerated_transfer", "anti_cache", "teams", "semantic"]
FEATURES: tuple[Feature, ...] = ("multimodal", "accelerated_transfer", "anti_cache", "teams", "semantic")

METRICS = ("requests", "hot_bytes", "asset_bytes", "bandwidth_bytes")


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan. `limits` maps a metric (and `namespaces`, `api_keys`) to a whole number; None means unlimited."""

    name: str
    title: str
    price_micros: int
    price_from: bool
    limits: Mapping[str, int | None]
    features: frozenset[str]
    rate: str
    compliance: tuple[str, ...]
    sla: str


@dataclass(frozen=True, slots=True)
class Plans:
    """Every plan, the trial, alert thresholds and unit costs, as the file says."""

    by_name: Mapping[str, Plan]
    trial_plan: str
    trial_days: int
    after_trial: str
    alert_percent: int
    anomaly: Mapping[str, float]
    unit_costs: Mapping[str, float]
    raw: Mapping[str, Any]

    def current(self, plan: str, trial_ends_at: datetime | None, now: datetime) -> Plan:
        """The plan in force: the trial's while it lasts, then the one it falls back to."""
        if trial_ends_at is not None:
            return self.by_name[self.trial_plan if now < trial_ends_at else plan]
        return self.by_name[plan]


def load_plans(settings: Settings) -> Plans:
    """Read `plans.toml` (the packaged one, or the operator's)."""
    if settings.plans_file is not None:
        raw = tomllib.loads(Path(settings.plans_file).read_text("utf-8"))
    else:
        raw = tomllib.loads(resources.files("agentcache_service").joinpath("plans.toml").read_text("utf-8"))
    plans = {name: _plan(name, table) for name, table in raw["plans"].items()}
    trial = raw["trial"]
    for name in (trial["plan"], trial["then"]):
        if name not in plans:
            raise ValueError(f"plans.toml: the trial names the plan {name!r}, which is not defined")
    return Plans(
        by_name=plans,
        trial_plan=trial["plan"],
        trial_days=trial["days"],
        after_trial=trial["then"],
        alert_percent=raw["alerts"]["percent"],
        anomaly=raw["alerts"]["anomaly"],
        unit_costs=raw["unit_costs"],
        raw=raw,
    )


def _plan(name: str, table: Mapping[str, Any]) -> Plan:
    limits: dict[str, int | None] = {}
    for metric in (*METRICS, "namespaces", "api_keys"):
        value = table["limits"][metric]
        if value != "unlimited" and (not isinstance(value, int) or value < 0):
            raise ValueError(f"plans.toml: plans.{name}.limits.{metric} must be a whole number or 'unlimited'")
        limits[metric] = None if value == "unlimited" else value
    unknown = set(table["features"]) - set(FEATURES)
    if unknown:
        raise ValueError(f"plans.toml: plans.{name}.features names {sorted(unknown)}; known are {list(FEATURES)}")
    return Plan(
        name=name,
        title=table["title"],
        price_micros=table["price_micros"],
        price_from=table.get("price_from", False),
        limits=limits,
        features=frozenset(table["features"]),
        rate=table["rate"],
        compliance=tuple(table.get("compliance", ())),
        sla=table.get("sla", ""),
    )


def has_feature(plan: Plan, feature: Feature) -> bool:
    """True when the plan includes the feature. Every entitlement is checked here."""
    return feature in plan.features


def require_feature(plan: Plan, feature: Feature, *, public_url: str) -> None:
    """Raise `FeatureNotInPlan` unless the plan includes the feature."""
    if not has_feature(plan, feature):
        title = feature.replace("_", " ")
        raise FeatureNotInPlan(f"The {plan.title} plan does not include {title}.", upgrade_url=f"{public_url}/pricing")
