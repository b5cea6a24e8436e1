"""AgentCache: an embeddable cache engine for AI agents.

from agentcache_core import Cache
cache = Cache("sqlite:///agent.db")
answer = cache.get_or_compute(request, lambda: client.chat.completions.create(**request).model_dump())
"""

from typing import TYPE_CHECKING, Any

from agentcache_core.cache import AsyncCache, Cache
from agentcache_core.model import MISSING, Asset, CacheControl, Computed, Cost, Decision, Freshness, Hit
from agentcache_core.spec import Tier

if TYPE_CHECKING:
    from agentcache_core.semantic import Semantic

__all__ = [
    "MISSING",
    "Asset",
    "AsyncCache",
    "Cache",
    "CacheControl",
    "Computed",
    "Cost",
    "Decision",
    "Freshness",
    "Hit",
    "Semantic",
    "Tier",
]


def __getattr__(name: str) -> Any:
    """`Semantic` is imported when first asked for: its word tables cost more than all the rest."""
    if name == "Semantic":
        from agentcache_core.semantic.configuration import Semantic

        return Semantic
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
