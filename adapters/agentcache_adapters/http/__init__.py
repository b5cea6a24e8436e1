"""HTTP caching for model APIs: a core that does no I/O, and one thin transport per client library.

Nothing heavy is imported here: the transports are in `agentcache_adapters.http.httpx` and `….httpx2`.
"""

from agentcache_adapters.http.rules import CacheRules, Rule

__all__ = ["CacheRules", "Rule"]
