"""Redis (6.2 or newer) and Valkey as a place to keep entries: shared, with native expiry, leases and a log.

URL: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path/to.sock?db=0`; for a cluster
`redis+cluster://[user:password@]host:port,host:port` or `rediss+cluster://`, with some of its nodes. Credentials may
come from `AGENTCACHE_REDIS_USERNAME` and `AGENTCACHE_REDIS_PASSWORD` instead. Options: `timeout` (of one call, default
250ms), `connect_timeout`, `max_connections` (64), `prefix` (of every key, `ac1:`), `log_length` (10000), for TLS
`ca_certs`, `certfile`, `keyfile`, `check_hostname`.
"""

from __future__ import annotations

from agentcache_backends.redis.settings import Settings, settings_of
from agentcache_backends.redis.store import RedisBackend
from agentcache_backends.redis.tls import context_of
from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.urls import Face, StoreUrl

__all__ = ["RedisBackend", "Settings", "open_url"]


def open_url(url: StoreUrl, *, face: Face, clock: Clock = SYSTEM_CLOCK) -> Backend | AsyncBackend:
    """The backend that a `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://` URL names."""
    settings = settings_of(url)
    if settings.tls:
        context_of(settings)  # a file that cannot be used is told now
    if settings.seeds:
        if face == "blocking":
            from agentcache_backends.redis.cluster_store import RedisClusterBackend

            return RedisClusterBackend(settings, clock=clock)
        from agentcache_backends.redis.cluster_loops import AsyncRedisClusterBackend  # loads asyncio

        return AsyncRedisClusterBackend(settings, clock=clock)
    if face == "blocking":
        return RedisBackend(settings, clock=clock)
    from agentcache_backends.redis.loops import AsyncRedisBackend  # loads asyncio

    return AsyncRedisBackend(settings, clock=clock)
