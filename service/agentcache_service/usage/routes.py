"""Routes of usage: the quota answer of the contract, and figures."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from agentcache_service.matrix import Row
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.usage import figures

router = APIRouter(tags=["usage"])


class RedisQuota(BaseModel):
    """Hot storage, in MB of 1,048,576 bytes."""

    limit_mb: int | float | None
    used_mb: int | float
    available_mb: int | float | None


class AssetQuota(BaseModel):
    """Asset storage, in GB of 1,073,741,824 bytes. `percent_used` is null where the limit is 0."""

    limit_gb: int | float | None
    used_gb: float
    available_gb: float | None
    percent_used: float | None


class StorageQuota(BaseModel):
    """The two kinds of storage."""

    redis: RedisQuota
    jettythunder: AssetQuota


class BandwidthQuota(BaseModel):
    """Bytes sent this month, in GB."""

    limit_gb: int | float | None
    used_gb: float
    available_gb: float | None


class RequestQuota(BaseModel):
    """Cache requests this month."""

    limit: int | None
    used: int
    available: int | None


class QuotaAnswer(BaseModel):
    """What the plan includes and what is used. Null limits are unlimited."""

    tier: str
    storage: StorageQuota
    bandwidth: BandwidthQuota
    requests: RequestQuota


class Totals(BaseModel):
    """Figures of a span of days, for one namespace or all."""

    requests: int
    hits: int
    semantic_hits: int
    misses: int
    sets: int
    hit_rate: float | None
    bytes_in: int
    bytes_out: int
    bytes_saved: int
    bandwidth_saved_rate: float | None
    duplicate_sets: int
    duplicate_bytes: int
    dedup_rate: float | None
    saved_micros: int
    cost_saved_micros: int


class StatsAnswer(BaseModel):
    """This month, all time, and per namespace."""

    month: Totals
    all_time: Totals
    namespaces: dict[str, Totals]
    projected_saved_micros: int


@router.get("/api/v1/storage/quota")
def read_quota(request: Request, caller: Principal = require("usage:read", by=("session", "api_key"))) -> QuotaAnswer:
    """What the organization may use and has used."""
    return QuotaAnswer.model_validate(figures.quota_answer(service_of(request), caller.tenant))


@router.get("/api/stats")
def read_stats(request: Request, caller: Principal = require("usage:read", by=("session", "api_key"))) -> StatsAnswer:
    """Requests, hit rate, bytes and money saved."""
    return StatsAnswer.model_validate(figures.stats(service_of(request), caller.tenant))


_EITHER = {
    "admin": 200,
    "member": 200,
    "viewer": 200,
    "other_tenant": 200,  # their own figures
    "anonymous": 401,
    "key": 200,
    "other_namespace": 200,
    "other_tenant_key": 200,
    "revoked_key": 401,
    "wrong_scope": 403,
}

ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/v1/storage/quota", _EITHER),
    Row("GET", "/api/stats", _EITHER),
)
