"""Debian's Redis 7 and Valkey pass the conformance suite, blocking and asynchronous, and against a plain dict."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcache_backends.redis import RedisBackend, Settings
from agentcache_backends.redis.loops import AsyncRedisBackend
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, against_a_dict
from agentcache_core.testing.servers import RedisServer, fetched_program

PROGRAMS = {"Redis 7": "redis7/redis-server", "Valkey": "valkey/valkey-server"}


@pytest.fixture(scope="module", params=list(PROGRAMS))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(program=fetched_program(PROGRAMS[request.param])) as running:
        yield running


class _OnAServer:
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _place(self, server: RedisServer) -> None:
        prefix = f"test-{uuid.uuid4().hex}:".encode()
        self.settings = Settings(server.url, port=server.port, timeout=10.0, connect_timeout=10.0, prefix=prefix)


class TestBlocking(_OnAServer, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return RedisBackend(self.settings, clock=clock)


class TestOnEventLoops(_OnAServer, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return AsyncRedisBackend(self.settings, clock=clock)


def test_it_behaves_like_a_dict(server: RedisServer) -> None:
    numbers = itertools.count()

    def opens(clock: Clock) -> Any:
        prefix = b"machine-%d:" % next(numbers)
        return RedisBackend(Settings(server.url, port=server.port, timeout=10.0, prefix=prefix), clock=clock)

    against_a_dict(opens)("test_it_behaves_like_a_dict").debug()


def test_the_server_is_the_one_that_was_asked_for(server: RedisServer, request: pytest.FixtureRequest) -> None:
    answer = server.ask("INFO", "server")
    if request.node.callspec.params["server"] == "Valkey":
        assert "valkey_version:" in answer
    else:
        assert "redis_version:7." in answer
        assert "valkey_version:" not in answer
