"""Ceph's RADOS gateway, a real S3, passes the conformance suite by both clients, and carries the whole engine."""

from __future__ import annotations

import dataclasses
import errno
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from agentcache_adapters.doctor import examine
from agentcache_backends.filesystem.s3 import S3Backend, on_event_loops, settings_of
from agentcache_backends.filesystem.s3.settings import ClientChoice, S3Settings
from agentcache_backends.filesystem.s3.through_s3fs import LARGE
from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock, ManualClock
from agentcache_core.testing import AsyncBackendSuite, BackendSuite
from agentcache_core.testing.ceph import CephGateway
from agentcache_core.urls import parse_url

pytestmark = pytest.mark.timeout(600)  # three daemons share the machine with the test
CLIENTS: tuple[ClientChoice, ...] = ("obstore", "s3fs")
LARGE_ANSWER = {"text": "a large answer, " * 3000}


@pytest.fixture(scope="module")
def gateway() -> Iterator[CephGateway]:
    with CephGateway() as running:
        yield running


@pytest.fixture
def url(gateway: CephGateway) -> str:
    """The gateway's bucket, with a folder of this test's own."""
    place, _, options = gateway.url.partition("?")
    return f"{place}/test-{uuid.uuid4().hex}?{options}&timeout=20s"


class _OnCeph:
    client: ClientChoice

    @pytest.fixture(autouse=True)
    def _place(self, url: str) -> None:
        self.settings: S3Settings = dataclasses.replace(settings_of(parse_url(url)), client=self.client)


class TestThroughObstore(_OnCeph, BackendSuite):
    client = "obstore"

    def open(self, place: Path, clock: Clock) -> Any:
        return S3Backend(self.settings, clock=clock)


class TestThroughS3fs(_OnCeph, BackendSuite):
    client = "s3fs"

    def open(self, place: Path, clock: Clock) -> Any:
        return S3Backend(self.settings, clock=clock)


class TestOnEventLoops(_OnCeph, AsyncBackendSuite):
    client = "obstore"

    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return on_event_loops(S3Backend(self.settings, clock=clock))


def opened(url: str, client: ClientChoice, clock: Clock | None = None) -> S3Backend:
    settings = dataclasses.replace(settings_of(parse_url(url)), client=client)
    return S3Backend(settings, clock=clock) if clock else S3Backend(settings)


def test_of_writers_by_both_clients_exactly_one_wins(url: str) -> None:
    """Each round eight writers start together, four by each client: first to write anew, then over one version."""
    stores = [opened(url, CLIENTS[number % 2]) for number in range(8)]
    for round_ in range(10):
        name, together = b"round/%d" % round_, threading.Barrier(8)

        def anew(number: int, name: bytes = name, together: threading.Barrier = together) -> object:
            together.wait(30)
            return stores[number].put(name, b"%d" % number, if_absent=True)

        with ThreadPoolExecutor(8) as threads:
            versions = list(threads.map(anew, range(8)))
        (winner,) = [number for number, version in enumerate(versions) if version is not None]
        assert stores[0].get(name) == (b"%d" % winner, versions[winner])

        def over(number: int, name: bytes = name, held: Any = versions[winner], together: Any = together) -> object:
            together.wait(30)
            return stores[number].put(name, b"over %d" % number, if_version=held)

        with ThreadPoolExecutor(8) as threads:
            versions = list(threads.map(over, range(8)))
        (winner,) = [number for number, version in enumerate(versions) if version is not None]
        assert stores[1].get(name) == (b"over %d" % winner, versions[winner])
    for store in stores:
        store.close()


def test_a_refused_condition_is_told_apart_although_s3fs_calls_it_an_invalid_argument(url: str) -> None:
    settings = settings_of(parse_url(url))
    fs = fsspec.filesystem("s3", endpoint_url=settings.endpoint, key=settings.key, secret=settings.secret)
    path = f"{settings.bucket}/{settings.folder}plain"
    fs.pipe_file(path, b"first", mode="create")
    with pytest.raises(OSError, match="Errno 22") as caught:
        fs.pipe_file(path, b"second", mode="create")
    assert caught.value.errno == errno.EINVAL
    for client in CLIENTS:
        store = opened(url, client)
        assert store.put(b"k", client.encode(), if_absent=True) is not None
        assert store.put(b"k", b"second", if_absent=True) is None
        assert store.delete(b"k") is True
        store.close()


def test_an_etag_is_named_without_its_quotes_once_that_is_known(url: str) -> None:
    """The gateway compares what stands in If-Match with the bare ETag, and refuses its own quoted one."""
    store = opened(url, "s3fs")
    client, _ = store.connection._slow()
    first = store.put(b"k", b"1")
    assert first is not None
    assert first.startswith(b'"')
    second = store.put(b"k", b"2", if_version=first)
    assert second is not None
    assert client._conditions(second) == [{"IfMatch": second.decode().strip('"')}]
    assert store.put(b"k", b"3", if_version=first) is None
    store.close()


def test_what_this_gateway_does_not_promise_is_known(url: str) -> None:
    """Version 16 ignores If-Match on a delete. We look first, so what is left is the moment between look and delete."""
    store = opened(url, "s3fs")
    client, bucket = store.connection._slow()
    stale = store.put(b"k", b"old")
    store.put(b"k", b"new")
    assert stale is not None
    assert store.delete(b"k", if_version=stale) is False
    assert store.get(b"k") is not MISSING
    key = bucket._key(b"k")
    assert store.connection.run(lambda _: client.remove(key, only=stale), by_s3fs=True) is True
    assert store.get(b"k") is MISSING  # a gateway that spares it lets the documentation promise more
    store.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_large_value_goes_up_in_parts_and_has_a_version(url: str, client: ClientChoice) -> None:
    """The gateway does not tell the ETag of what was put together from parts, so it is asked for."""
    store = opened(url, client)
    data = random.Random(1).randbytes(LARGE // 16) * 17
    version = store.put(b"large", data)
    assert version
    stored = store.get(b"large")
    assert stored == (data, version)
    assert store.get_range(b"large", LARGE, 50) == data[LARGE : LARGE + 50]
    assert store.put(b"large", b"small", if_version=version) is not None
    store.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_sweep_removes_what_expired_and_lists_past_the_folders_of_others(url: str, client: ClientChoice) -> None:
    clock = ManualClock(1_795_000_000.0)
    store, place = opened(url, client, clock), url.partition("?")
    inner = opened(f"{place[0]}/61?{place[2]}", client, clock)
    for number in range(20):
        store.put(b"n/%02d" % number, b"v", expires_at=clock.now() + (1 if number % 2 else 100_000))
        inner.put(b"n/%02d" % number, b"v", expires_at=clock.now() + 1)
    clock.advance(4000)
    assert store.sweep() == 10
    assert [stat.name for stat in store.scan(b"")] == [b"n/%02d" % number for number in range(0, 20, 2)]
    assert inner.sweep() == 20
    store.close()
    inner.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_engine_stores_finds_invalidates_and_sweeps(url: str, client: ClientChoice, tmp_path: Path) -> None:
    place = f"{url}&client={client}"
    options: dict[str, Any] = {"background": False, "maintenance": "manual", "deadline": "30s"}
    content = random.Random(3).randbytes(5_000_000)
    (tmp_path / "asset").write_bytes(content)
    with Cache(place, **options) as cache, Cache(place, max_staleness="0s", **options) as other:
        assert cache.get_or_compute("asked", lambda: {"answer": 42}, ttl="1h") == {"answer": 42}
        assert cache.set_many([(f"k{number}", number) for number in range(60)], ttl="1h") is not False
        assert other.get_many([f"k{number}" for number in range(61)], default=None) == [*range(60), None]
        for key in ("a", "b"):
            cache.set(key, LARGE_ANSWER, tags=["t"] if key == "b" else [])
        assert other.get("b") == LARGE_ANSWER
        cache.invalidate(tag="t")
        assert other.get_many(["a", "b", "asked"]) == [LARGE_ANSWER, MISSING, {"answer": 42}]
        cache.delete("asked")
        assert other.get("asked") is MISSING
        assert not cache.put_asset("file", tmp_path / "asset").deduplicated
        assert cache.put_asset("again", content).deduplicated
        with other.open_asset("file") as asset:
            assert asset.read_range(3_000_000, 1000) == content[3_000_000:3_001_000]
            assert asset.read() == content
        (verified,) = cache.verify().values()
        assert verified.damaged == 0
        assert verified.entries >= 63
        cache.delete("a")
        (swept,) = cache.maintain(grace=0).swept.values()
        assert (swept.dead, swept.unnamed, swept.corrupt, swept.missing) == (1, 1, 0, 0)
        assert other.get_many(["k1", "a"]) == [1, MISSING]


async def test_the_engine_answers_event_loops(url: str) -> None:
    async with AsyncCache(url, deadline="30s", maintenance="manual") as cache:
        assert await cache.get_or_compute("asked", lambda: LARGE_ANSWER, ttl="1h") == LARGE_ANSWER
        await cache.set("other", 1)
        assert await cache.get_many(["asked", "other", "none"]) == [LARGE_ANSWER, 1, MISSING]


def test_the_doctor_finds_nothing_bad(url: str) -> None:
    findings = {finding.check: finding for finding in examine(url)}
    assert [finding for finding in findings.values() if finding.state == "bad"] == []
    assert findings["conditional writes"].state == "good"
    assert findings["client"].said == "obstore"
    assert findings["conditional deletes"].state == "mind"
