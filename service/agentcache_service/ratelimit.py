"""Rate limits: how often one caller may do one thing. (How much a plan allows is a quota, and lives in `usage`.)"""

from __future__ import annotations

import time
from functools import lru_cache

from limits import RateLimitItem
from limits import parse as parse_rule
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from agentcache_service.errors import RateLimited
from agentcache_service.settings import Settings


@lru_cache(maxsize=256)
def parse(rule: str) -> RateLimitItem:
    """A rule in the library's form."""
    return parse_rule(rule)


class RateLimiter:
    """Counts calls per (rule, caller) in memory, or in Redis where several workers share the count.

    Rules are written `10/minute` or `100/hour`.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.redis_url.get_secret_value() if settings.redis_url else "memory://"
        self._strategy = SlidingWindowCounterRateLimiter(storage_from_string(url))
        self._enabled = settings.rate_limits

    def check(self, rule: str, *caller: str) -> None:
        """Count one call; raises `RateLimited` with the seconds to wait when the rule is used up."""
        if not self._enabled:
            return
        limit = parse(rule)
        if not self._strategy.hit(limit, *caller):
            raise RateLimited(self._wait(rule, *caller))

    def would_refuse(self, rule: str, *caller: str) -> bool:
        """True when the next `check` would raise; counts nothing."""
        return self._enabled and not self._strategy.test(parse(rule), *caller)

    def _wait(self, rule: str, *caller: str) -> int:
        window = self._strategy.get_window_stats(parse(rule), *caller)
        return int(window.reset_time - time.time()) + 1
