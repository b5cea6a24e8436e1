"""A cluster of three real nodes passes the conformance suite, blocking and asynchronous, and against a plain dict."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest

from agentcache_backends.redis import open_url
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, against_a_dict
from agentcache_core.urls import parse_url

pytestmark = pytest.mark.redis


class _OnACluster:
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_cluster_url: str) -> None:
        self.url = parse_url(redis_cluster_url)


class TestCluster(_OnACluster, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return open_url(self.url, face="blocking", clock=clock)


class TestClusterOnEventLoops(_OnACluster, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return cast("AsyncBackend", open_url(self.url, face="async", clock=clock))


def test_a_cluster_behaves_like_a_dict(redis_cluster_url: str) -> None:
    numbers = itertools.count()

    def opens(clock: Clock) -> Any:
        return open_url(parse_url(f"{redis_cluster_url}{next(numbers)}"), face="blocking", clock=clock)

    against_a_dict(opens)("test_it_behaves_like_a_dict").debug()
