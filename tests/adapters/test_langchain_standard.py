"""LangChain's own standard suites, on every kind of storage."""

from collections.abc import AsyncIterator, Iterator

import pytest
from langchain_core.caches import BaseCache
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    SyncCacheTestSuite,
)

from agentcache_adapters.langchain import AgentCacheByteStore, AgentCacheLLM
from agentcache_core import Cache


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, tiers: str | list[str]) -> Iterator[BaseCache]:
        with Cache(tiers) as cache:
            yield AgentCacheLLM(cache)


class TestAsyncCache(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, tiers: str | list[str]) -> AsyncIterator[BaseCache]:
        with Cache(tiers) as cache:
            yield AgentCacheLLM(cache)


class TestByteStore(BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""

    @pytest.fixture
    def kv_store(self, tiers: str | list[str]) -> Iterator[BaseStore[str, bytes]]:
        with Cache(tiers) as cache:
            yield AgentCacheByteStore(cache)


class TestAsyncByteStore(BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"one", b"\x00\xff", b""

    @pytest.fixture
    async def kv_store(self, tiers: str | list[str]) -> AsyncIterator[BaseStore[str, bytes]]:
        with Cache(tiers) as cache:
            yield AgentCacheByteStore(cache)
