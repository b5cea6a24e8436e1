"""Keeping the books tidy: expired items and abandoned reservations give their bytes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentcache_service.jobs import Claim
from agentcache_service.usage import quota, stock

if TYPE_CHECKING:
    from agentcache_service.service import Service

SWEEP = "usage.sweep"


def sweep(service: Service, _claim: Claim) -> None:
    """The repeated job."""
    stock.sweep_expired(service)
    with service.db.write() as session:
        quota.sweep(service, session)
