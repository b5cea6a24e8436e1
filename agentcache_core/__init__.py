"""AgentCache: an embeddable cache engine for AI agents.

from agentcache_core import Cache
cache = Cache("sqlite:///agent.db")
answer = cache.get_or_compute(request, lambda: client.chat.completions.create(**request).model_dump())
"""

from agentcache_core.cache import AsyncCache, Cache
from agentcache_core.model import MISSING, Asset, CacheControl, Computed, Cost, Decision, Freshness, Hit
from agentcache_core.tier import Tier

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
    "Tier",
]
