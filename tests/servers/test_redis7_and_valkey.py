"""Debian's Redis 7 and Valkey pass the conformance suite, blocking and asynchronous, and against a plain dict."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agentcache_backends.redis import open_url
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, against_a_dict
from agentcache_core.testing.servers import RedisServer, fetched_program
from agentcache_core.urls import parse_url

PROGRAMS = {"Redis 7": "redis7/redis-server", "Valkey": "valkey/valkey-server"}


@pytest.fixture(scope="module", params=[*PROGRAMS, "Redis 7 with TLS"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if request.param not in PROGRAMS:
        yield request.getfixturevalue("tls_redis")
        return
    with RedisServer(program=fetched_program(PROGRAMS[request.param])) as running:
        yield running


@pytest.fixture
def redis_place(server: RedisServer, certificates: Any) -> str:
    """The URL of the server, with a key prefix of this test's own."""
    trusted = f"&ca_certs={certificates.ours.file}" if server.url.startswith("rediss") else ""
    return f"{server.url}?timeout=10s{trusted}&prefix=test-{uuid.uuid4().hex}:"


class _OnAServer:
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_place: str) -> None:
        self.url = parse_url(redis_place)


class TestBlocking(_OnAServer, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return open_url(self.url, face="blocking", clock=clock)


class TestOnEventLoops(_OnAServer, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return cast("AsyncBackend", open_url(self.url, face="async", clock=clock))


def test_it_behaves_like_a_dict(redis_place: str) -> None:
    numbers = itertools.count()

    def opens(clock: Clock) -> Any:
        return open_url(parse_url(f"{redis_place}{next(numbers)}"), face="blocking", clock=clock)

    against_a_dict(opens)("test_it_behaves_like_a_dict").debug()


def test_the_server_is_the_one_that_was_asked_for(server: RedisServer, request: pytest.FixtureRequest) -> None:
    answer = server.ask("INFO", "server")
    if request.node.callspec.params["server"] == "Valkey":
        assert "valkey_version:" in answer
    else:
        assert "redis_version:7." in answer
        assert "valkey_version:" not in answer
