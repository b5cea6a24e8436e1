"""Fixtures for every test: real servers, started once per worker when first asked for.

`AGENTCACHE_TEST_REDIS_URL` and `AGENTCACHE_TEST_S3_URL` name servers to use instead; the Redis may be one with TLS
(`rediss://…?ca_certs=…`) or a cluster (`redis+cluster://…`). A server that cannot be started fails the tests that need
it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import hypothesis
import pytest

from agentcache_core.backend import AsyncBackend
from agentcache_core.testing import driven
from agentcache_core.testing.clusters import RedisCluster
from agentcache_core.testing.servers import RedisServer, S3Server
from agentcache_core.urls import open_backend

pytest.register_assert_rewrite("agentcache_core.testing")

# No timed assertions: how long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile(
    "agentcache", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("agentcache")


@pytest.fixture(scope="session")
def _redis_address() -> Iterator[str]:
    if url := os.environ.get("AGENTCACHE_TEST_REDIS_URL"):
        yield url
    else:
        with RedisServer() as server:
            yield server.url


@pytest.fixture
def redis_url(_redis_address: str) -> str:
    """The URL of a real Redis, with a key prefix of this test's own."""
    return _own(_redis_address)


def _own(address: str) -> str:
    joint = "&" if "?" in address else "?"
    return f"{address}{joint}timeout=10s&prefix=test-{uuid.uuid4().hex}:"


@pytest.fixture(scope="session")
def _redis_cluster_address() -> Iterator[str]:
    url = os.environ.get("AGENTCACHE_TEST_REDIS_URL", "")
    if "+cluster://" in url:
        yield url
    else:
        with RedisCluster(3) as cluster:
            yield cluster.url


@pytest.fixture
def redis_cluster_url(_redis_cluster_address: str) -> str:
    """The URL of a real Redis cluster of three nodes, with a key prefix of this test's own."""
    return _own(_redis_cluster_address)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real Redis of this test's own, to be stopped, killed, frozen or misconfigured."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def _s3_address() -> Iterator[str]:
    if url := os.environ.get("AGENTCACHE_TEST_S3_URL"):
        yield url
    else:
        with S3Server() as server:
            yield server.url


@pytest.fixture
def s3_url(_s3_address: str) -> str:
    """The URL of an S3 bucket, with a folder of this test's own."""
    place, question, options = _s3_address.partition("?")
    return f"{place}/test-{uuid.uuid4().hex}{question}{options}"


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    """An S3 endpoint of this test's own, to be stopped or frozen."""
    with S3Server() as server:
        yield server


@pytest.fixture(params=["blocking", "async"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Opens the backend that a URL names, once for each face; all are closed at the end."""
    opened: list[Any] = []

    def opens(url: str) -> Any:
        backend = open_backend(url, face=request.param)
        opened.append(driven(cast("AsyncBackend", backend)) if request.param == "async" else backend)
        return opened[-1]

    yield opens
    for backend in opened:
        backend.close()
        if request.param == "async":
            backend.stop()
