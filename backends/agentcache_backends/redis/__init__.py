"""Redis (6.2 or newer) and Valkey as a place to keep entries: shared, with native expiry, leases and a log.

URL: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path/to.sock?db=0`. Credentials may come
from `AGENTCACHE_REDIS_USERNAME` and `AGENTCACHE_REDIS_PASSWORD` instead. Options: `timeout` (of one call, default
250ms), `connect_timeout`, `max_connections` (64), `prefix` (of every key, `ac1:`), `log_length` (10000), for TLS
`ca_certs`, `certfile`, `keyfile`, `check_hostname`.
"""

from __future__ import annotations

from agentcache_backends.redis.settings import Settings, settings_of
from agentcache_backends.redis.store import RedisBackend
from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.urls import Face, StoreUrl

__all__ = ["RedisBackend", "Settings", "open_url"]


def open_url(url: StoreUrl, *, face: Face) -> Backend | AsyncBackend:
    """The backend that a `redis://`, `rediss://` or `unix://` URL names."""
    settings = settings_of(url)
    if face == "blocking":
        return RedisBackend(settings)
    from agentcache_backends.redis.loops import AsyncRedisBackend  # loads asyncio

    return AsyncRedisBackend(settings)
