"""Redis passes the conformance suite on a real server, blocking and asynchronous, and against a plain dict."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest

from agentcache_backends.redis import RedisBackend, Settings, open_url
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, against_a_dict
from agentcache_core.testing.servers import RedisServer
from agentcache_core.urls import parse_url

pytestmark = pytest.mark.redis


class _OnRedis:
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = parse_url(redis_url)


class TestRedis(_OnRedis, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return open_url(self.url, face="blocking", clock=clock)


class TestRedisOnEventLoops(_OnRedis, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return cast("AsyncBackend", open_url(self.url, face="async", clock=clock))


def test_redis_behaves_like_a_dict(own_redis: RedisServer) -> None:
    numbers = itertools.count()

    def opens(clock: Clock) -> Any:
        prefix = b"machine-%d:" % next(numbers)
        return RedisBackend(Settings(own_redis.url, port=own_redis.port, timeout=10.0, prefix=prefix), clock=clock)

    against_a_dict(opens)("test_it_behaves_like_a_dict").debug()
