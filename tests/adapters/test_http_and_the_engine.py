"""What the engine promises holds through the transports: invalidation, modes, outages, near answers, figures."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from upstream import Upstream

from agentcache_adapters.http.httpx2 import AsyncCacheTransport, CacheTransport
from agentcache_core import Cache, Semantic
from agentcache_core.errors import ReplayMiss
from agentcache_core.testing.servers import RedisServer

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True}
TAGGED = {"x-agentcache-tags": "policy"}


@pytest.fixture
def url(upstream: Upstream) -> str:
    return upstream.url + "/v1/chat/completions"


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


def client(cache: Cache, **options: Any) -> httpx2.Client:
    return httpx2.Client(transport=CacheTransport(cache, **options), timeout=20)


def test_an_answer_invalidated_while_it_streamed_is_not_kept(cache: Cache, upstream: Upstream, url: str) -> None:
    with client(cache) as http:
        with http.stream("POST", url, json=STREAM, headers=TAGGED) as response:
            chunks = response.iter_raw()
            next(chunks)
            cache.invalidate(tag="policy")
            list(chunks)
        assert http.post(url, json=STREAM, headers=TAGGED).headers["x-agentcache"] == "miss"
        assert http.post(url, json=STREAM, headers=TAGGED).headers["x-agentcache"].startswith("hit")
    assert upstream.count == 2


async def test_so_with_the_async_transport(cache: Cache, upstream: Upstream, url: str) -> None:
    async with httpx2.AsyncClient(transport=AsyncCacheTransport(cache)) as http:
        async with http.stream("POST", url, json=STREAM, headers=TAGGED) as response:
            chunks = response.aiter_raw()
            await anext(chunks)
            await cache.aio.invalidate(tag="policy")
            async for _ in chunks:
                pass
        assert (await http.post(url, json=STREAM, headers=TAGGED)).headers["x-agentcache"] == "miss"
    assert cache._space.computing == 0


def test_tags_and_lifetimes_hold(cache: Cache, upstream: Upstream, url: str) -> None:
    with client(cache) as http:
        http.post(url, json=CHAT, headers=TAGGED)
        cache.invalidate(tag="policy")
        http.post(url, json=CHAT, headers={"x-agentcache-ttl": "0s"})
        http.post(url, json=CHAT)
    assert upstream.count == 3


def test_recorded_answers_are_replayed_and_what_was_not_recorded_raises(
    tmp_path: Path, upstream: Upstream, url: str
) -> None:
    place = f"sqlite:///{tmp_path}/tape.db"
    with Cache(place, mode="record") as cache, client(cache) as http:
        recorded = http.post(url, json=STREAM).content
        assert http.post(url, json=STREAM).content in (recorded, http.post(url, json=STREAM).content)
    calls = upstream.count
    with Cache(place, mode="replay") as cache, client(cache) as http:
        for _ in range(2):
            assert http.post(url, json=STREAM).headers["x-agentcache"].startswith("hit")
            with pytest.raises(ReplayMiss):
                http.post(url, json=STREAM | {"temperature": 0.5})
    with Cache(mode="off") as cache, client(cache) as http:
        for _ in range(2):
            assert http.post(url, json=STREAM).headers["x-agentcache"] == "miss"
    assert upstream.count == calls + 2


def test_every_call_is_counted_for_what_it_was(cache: Cache, upstream: Upstream, url: str) -> None:
    with client(cache) as http:
        for _ in range(3):
            http.post(url, json=CHAT | {"model": "gpt-4o"})
        http.post(url, json=CHAT | {"store": True})
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.bypasses, stats.stores) == (2, 1, 1, 1)
    assert stats.reasons == {"store asks the provider to keep the answer": 1}
    assert stats.saved.usd_micros > 0
    assert stats.saved.output_tokens == 14


def test_tenants_and_namespaces_are_walls(cache: Cache, upstream: Upstream, url: str) -> None:
    for view in (cache, cache.tenant("acme"), cache.tenant("other"), cache.namespace("n"), cache.tenant("acme")):
        with client(view) as http:
            http.post(url, json=CHAT)
    assert upstream.count == 4


def test_a_redis_that_dies_midway_stops_nobody(own_redis: RedisServer, upstream: Upstream, url: str) -> None:
    with Cache(own_redis.url) as cache, client(cache) as http:
        assert http.post(url, json=CHAT).headers["x-agentcache"] == "miss"
        assert http.post(url, json=CHAT).headers["x-agentcache"].startswith("hit")
        own_redis.kill()
        for _ in range(3):
            answer = http.post(url, json=CHAT)
            assert (answer.status_code, answer.headers["x-agentcache"]) == (200, "miss")
    assert upstream.count == 4


def _embed(texts: list[str]) -> list[list[float]]:
    """Every text that asks about returns points one way, everything else another."""
    return [[1.0, 0.0, 0.01 * len(text)] if "return" in text else [0.0, 1.0, 0.0] for text in texts]


def test_near_questions_are_answered_where_the_cache_is_semantic(upstream: Upstream, url: str) -> None:
    def ask(http: httpx2.Client, text: str, system: str = "be brief", **headers: str) -> Any:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        return http.post(url, json={"model": "gpt-5", "messages": messages}, headers=headers)

    with Cache(semantic=Semantic(threshold=0.95, embedder=_embed), background=False) as cache, client(cache) as http:
        first = ask(http, "How do I return a parcel?")
        near = ask(http, "How can I return a parcel?")
        assert near.headers["x-agentcache"] == "hit; how=semantic"
        assert near.content == first.content
        assert ask(http, "How can I return a parcel?", system="be long").headers["x-agentcache"] == "miss"
        assert ask(http, "Where is my order?").headers["x-agentcache"] == "miss"
        control = {"x-agentcache": "no-semantic"}
        assert ask(http, "How might I return a parcel?", **control).headers["x-agentcache"] == "miss"


def test_a_leader_that_is_interrupted_before_it_sends_strands_nobody(
    cache: Cache, upstream: Upstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    begin = Cache.begin

    def interrupted(self: Cache, **options: Any) -> Any:
        if not entered.is_set():
            entered.set()
            leave.wait(20)
            raise KeyboardInterrupt
        return begin(self, **options)

    monkeypatch.setattr(Cache, "begin", interrupted)
    outcome: list[BaseException] = []

    def lead() -> None:
        try:
            http.post(url, json=CHAT)
        except BaseException as error:
            outcome.append(error)

    with client(cache) as http:
        leader = threading.Thread(target=lead)
        leader.start()
        entered.wait(20)
        followers = [threading.Thread(target=lambda: http.post(url, json=CHAT)) for _ in range(3)]
        for follower in followers:
            follower.start()
        leave.set()
        for thread in (leader, *followers):
            thread.join(20)
            assert not thread.is_alive()
    assert isinstance(outcome[0], KeyboardInterrupt)
    assert upstream.count == 1


async def test_an_event_loop_that_is_gone_leaves_no_flight_behind(cache: Cache, upstream: Upstream, url: str) -> None:
    def run() -> bytes:
        async def ask() -> bytes:
            async with httpx2.AsyncClient(transport=AsyncCacheTransport(cache)) as http:
                return (await http.post(url, json=CHAT | {"n": 1})).content

        return asyncio.run(ask())

    first, second = await asyncio.to_thread(run), await asyncio.to_thread(run)
    assert first == second
    assert upstream.count == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_for_no_call_of_its_parent(cache: Cache, upstream: Upstream, url: str) -> None:
    gate = threading.Event()
    upstream.before_answer = lambda number: number > 1 or gate.wait(20)
    with client(cache) as http:
        parent = threading.Thread(target=lambda: http.post(url, json=CHAT))
        parent.start()
        while upstream.count == 0:
            parent.join(0.005)
        child = os.fork()
        if child == 0:
            with client(cache) as fresh:
                os._exit(0 if fresh.post(url, json=CHAT).status_code == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.set()
        parent.join(20)
    assert upstream.count == 2


def test_digests_of_credentials_are_bound_to_the_caches_own_secret(
    tmp_path: Path, upstream: Upstream, url: str
) -> None:
    place, headers = f"sqlite:///{tmp_path}/keyed.db", {"authorization": "Bearer sk-topsecret"}
    for secret in ("one", "two", "one"):
        with Cache(place, secret=secret, mode="record") as cache, client(cache) as http:
            http.post(url, json=CHAT, headers=headers)
    assert upstream.count == 2
    assert b"topsecret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
