"""Redis passes the conformance suite on a real server, blocking and asynchronous, and against a plain dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentcache_backends.redis import RedisBackend
from agentcache_backends.redis.settings import settings_of
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.resilience import in_threads
from agentcache_core.testing import AsyncBackendSuite, BackendSuite
from agentcache_core.urls import parse_url

pytestmark = pytest.mark.redis


class _OnRedis:
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.settings = settings_of(parse_url(redis_url))


class TestRedis(_OnRedis, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return RedisBackend(self.settings, clock=clock)


class TestRedisInThreads(_OnRedis, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return in_threads(RedisBackend(self.settings, clock=clock))
