"""The remote client against the running service: conformance, shared keys, quota, walls, restarts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import service_world as world
from service_conftest import LiveServer, make_service, make_settings
from sqlalchemy import func, select

from agentcache_adapters.remote import RemoteBackend
from agentcache_backends.sqlite import SqliteBackend
from agentcache_core import AsyncCache, Cache
from agentcache_core.backend import AsyncBackend, Put
from agentcache_core.clock import Clock, ManualClock
from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, ConfigurationError
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.resilience import in_threads
from agentcache_core.testing import AsyncBackendSuite, BackendSuite
from agentcache_service.cacheapi import objects
from agentcache_service.clock import FixedClock
from agentcache_service.service import Service
from agentcache_service.usage import quota
from agentcache_service.usage.tables import UsageDay

REQUEST = {"provider": "openai", "model": "gpt-5", "messages": [{"role": "user", "content": "What is a cache?"}]}


class _Stand:
    """One running service for the whole suite; every place is an organization and a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.service = make_service(make_settings(folder), FixedClock())
        self.server = LiveServer(self.service)
        self._numbers = itertools.count()
        self._keys: dict[Path, str] = {}

    def open(self, place: Path, clock: Clock) -> RemoteBackend:
        if place not in self._keys:
            user = world.make_user(self.service, f"user{next(self._numbers)}")
            key = world.make_key(self.service, world.make_org(self.service, user), user)
            self._keys[place] = key.headers["x-api-key"]
            self.service.engine._objects = SqliteBackend(place / "store.db", clock=clock, timeout=30.0)
        return RemoteBackend(self.server.url, namespace="storage", api_key=self._keys[place], timeout=60.0)

    def close(self) -> None:
        self.server.stop()
        self.service.close()


@pytest.fixture(scope="module", autouse=True)
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _Remote.stand = _Stand(tmp_path_factory.mktemp("stand"))
    yield
    _Remote.stand.close()


class _Remote:
    stand: ClassVar[_Stand]


class TestRemote(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return _Remote.stand.open(place, clock)


class TestRemoteInThreads(AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return in_threads(_Remote.stand.open(place, clock))


@pytest.fixture
def account(service: Service) -> tuple[str, str]:
    """An organization and a key of it."""
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user)
    return org_id, world.make_key(service, org_id, user).headers["x-api-key"]


@pytest.fixture
def remote(live: LiveServer, account: tuple[str, str]) -> Iterator[Cache]:
    with Cache(f"agentcache+{live.url}", namespace="storage", api_key=account[1], deadline="30s") as cache:
        yield cache


def _call(live: LiveServer, key: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    import httpx2

    headers = {"X-API-Key": key, "X-Namespace": "storage"}
    answer = httpx2.post(f"{live.url}{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_entry_set_through_the_api_is_hit_by_the_remote_cache(
    live: LiveServer, remote: Cache, account: tuple[str, str]
) -> None:
    request = {name: value for name, value in REQUEST.items() if name != "provider"}
    body = {"provider": "openai", "request": request, "response": {"text": "fast"}, "ttl": 600}
    _call(live, account[1], "/api/cache/set", body)
    _call(live, account[1], "/api/cache/set", {"key": "large", "value": "x" * 100_000})
    assert remote.get(REQUEST) == {"text": "fast"}
    assert remote.get("large") == "x" * 100_000


def test_an_entry_set_by_the_remote_cache_is_hit_through_the_api(
    live: LiveServer, remote: Cache, account: tuple[str, str]
) -> None:
    remote.set(REQUEST, {"text": "fast"}, ttl="10m")
    remote.set("large", "y" * 100_000)
    request = {name: value for name, value in REQUEST.items() if name != "provider"}
    hit = _call(live, account[1], "/api/cache/get", {"provider": "openai", "request": request})
    assert (hit["hit"], hit["value"]) == (True, {"text": "fast"})
    assert _call(live, account[1], "/api/cache/get", {"key": "large"})["value"] == "y" * 100_000


def test_an_invalidation_on_either_side_is_seen_on_the_other(
    live: LiveServer, remote: Cache, account: tuple[str, str]
) -> None:
    remote.set("a", 1, tags=["red"])
    remote.set("b", 2)
    assert _call(live, account[1], "/api/cache/invalidate", {"tag": "red"}) == {"invalidated": 1}
    assert remote.get("a", None) is None
    remote.invalidate(pattern="b*")
    assert _call(live, account[1], "/api/cache/get", {"key": "b"}) == {"hit": False}


def test_what_the_remote_cache_stores_is_charged_and_refused_beyond_the_plan(
    service: Service, live: LiveServer
) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="free")
    key = world.make_key(service, org_id, user, use_in="cdn").headers["x-api-key"]
    backend = RemoteBackend(live.url, namespace="cdn", api_key=key, timeout=60)
    backend.put(b"a", b"x" * 5_000_000)
    with service.db.read() as session:
        assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == 5_000_000
    with pytest.raises(BackendFull, match="Storage limit exceeded"):
        backend.put(b"b", b"y" * 6_000_000)
    assert backend.delete(b"a")
    with service.db.read() as session:
        assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == 0
    backend.close()


def test_a_batch_reads_each_name_once_and_never_more_than_its_bound(
    service: Service, live: LiveServer, account: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "MOST_BYTES", 10_000)
    backend = RemoteBackend(live.url, namespace="storage", api_key=account[1], timeout=60)
    names = [b"n%d" % number for number in range(12)]
    backend.put_many([Put(name, name * 1000) for name in names])
    reads: list[bytes] = []
    read = service.engine.objects.get
    monkeypatch.setattr(service.engine.objects, "get", lambda name: reads.append(name) or read(name))
    stored = backend.get_many([*names, b"absent", *names])
    assert [item.data if item else None for item in stored] == [
        *(name * 1000 for name in names),
        None,
        *(name * 1000 for name in names),
    ]
    reads.clear()
    page = backend._post("get", [names[0]] * 60)
    assert [bool(item) for item in page] == [True] * 5 + [False] * 55  # 2,000 bytes each
    assert len(reads) == 1
    with service.db.read() as session:
        service.meter.flush(everything=True)
        sent = session.scalar(select(func.sum(UsageDay.bytes_out)))
        charged = quota.used(session, account[0], "bandwidth_bytes", f"{service.clock.now():%Y-%m}")
    assert sent == charged
    backend.close()


def test_a_batch_past_the_bandwidth_of_the_plan_answers_what_still_fits_and_then_refuses(
    service: Service, live: LiveServer
) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="free")
    key = world.make_key(service, org_id, user, use_in="cdn").headers["x-api-key"]
    backend = RemoteBackend(live.url, namespace="cdn", api_key=key, timeout=60)
    names = [b"a", b"b", b"c"]
    backend.put_many([Put(name, name * 1000) for name in names])
    limit = service.plans.by_name["free"].limits["bandwidth_bytes"]
    assert limit is not None
    with service.db.write() as session:
        quota.take(session, org_id, "bandwidth_bytes", f"{service.clock.now():%Y-%m}", amount=limit - 2500, limit=None)
    assert [bool(item) for item in backend._post("get", names)] == [True, True, False]
    with pytest.raises(BackendFull, match="Bandwidth"):
        backend.get_many(names)
    backend.close()


def test_no_name_leads_into_another_organization(service: Service, live: LiveServer, account: tuple[str, str]) -> None:
    org_id, key = account
    ours = RemoteBackend(live.url, namespace="storage", api_key=key, timeout=60)
    name = service.engine.space(org_id, "storage").entries_prefix + b"k"
    ours.put(name, b"ours")
    stranger = world.make_user(service, "eve")
    their_key = world.make_key(service, world.make_org(service, stranger, name="Others"), stranger)
    theirs = RemoteBackend(live.url, namespace="storage", api_key=their_key.headers["x-api-key"], timeout=60)
    assert not theirs.get(name)
    assert not theirs.delete(name)
    assert list(theirs.scan(b"")) == []
    theirs.put(name, b"theirs")
    stored = ours.get(name)
    assert stored
    assert stored.data == b"ours"
    ours.close()
    theirs.close()


def test_a_key_of_one_namespace_reads_and_lists_nothing_of_another(service: Service, live: LiveServer) -> None:
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user)
    all_of_it = world.make_key(service, org_id, user).headers["x-api-key"]
    only_cdn = world.make_key(service, org_id, user, namespaces=["cdn"]).headers["x-api-key"]
    full = RemoteBackend(live.url, namespace="storage", api_key=all_of_it, timeout=60)
    narrow = RemoteBackend(live.url, namespace="cdn", api_key=only_cdn, timeout=60)
    space = service.engine.space(org_id, "storage")
    full.put(space.entries_prefix + b"k", b"v")
    full.put(space.blobs_prefix + b"d", b"shared")
    for forbidden in (
        lambda: narrow.get(space.entries_prefix + b"k"),
        lambda: list(narrow.scan(space.entries_prefix)),
        lambda: list(narrow.scan(space.blobs_prefix)),
        lambda: list(narrow.scan(b"")),
        lambda: narrow.delete(space.blobs_prefix + b"d"),
        lambda: narrow.put(b"own", b"v"),
    ):
        with pytest.raises(BackendError):
            forbidden()
    assert narrow.put(space.blobs_prefix + b"d", b"poison") is None
    full.close()
    narrow.close()


def test_a_key_that_may_only_read_is_told_so(service: Service, live: LiveServer) -> None:
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user), user, scopes=("cache:read",)).headers["x-api-key"]
    backend = RemoteBackend(live.url, namespace="storage", api_key=key, timeout=60)
    assert not backend.get(b"k")
    with pytest.raises(BackendReadOnly):
        backend.put(b"k", b"v")
    backend.close()


def test_a_restart_of_the_service_fails_no_call_of_the_agent(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    first = make_service(settings, FixedClock())
    user = world.make_user(first, "ada")
    key = world.make_key(first, world.make_org(first, user), user).headers["x-api-key"]
    server = LiveServer(first)
    port = server.port
    clock = ManualClock()
    url = f"agentcache+{server.url}"
    with Cache(url, namespace="storage", api_key=key, deadline="30s", clock=clock) as cache:
        assert cache.get_or_compute("k", lambda: "computed") == "computed"
        assert cache.get_or_compute("k", lambda: "again") == "computed"
        server.stop()
        first.close()
        assert cache.get_or_compute("k", lambda: "while away") == "while away"
        cache.set("other", 1)
        second = make_service(settings, FixedClock())
        server = LiveServer(second, port)
        clock.advance(LONGEST_REST)
        assert cache.get_or_compute("k", lambda: "again") == "computed"
        server.stop()
        second.close()


async def test_the_async_face_works_too(live: LiveServer, account: tuple[str, str]) -> None:
    cache = AsyncCache(f"agentcache+{live.url}", namespace="storage", api_key=account[1], deadline="30s")
    await cache.set("k", {"a": (1, 2)})
    assert await cache.get("k") == {"a": (1, 2)}
    await cache.close()


def test_the_key_is_not_in_anything_one_would_print(remote: Cache, account: tuple[str, str]) -> None:
    assert account[1] not in repr(remote)
    assert account[1] not in repr(remote.stats())


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("agentcache+http://cache.example.com", {"namespace": "n", "api_key": "k"}, "this machine only"),
        ("agentcache+http://127.0.0.1:1", {"namespace": "n", "api_key": "k"}, "Is the service running"),
        ("agentcache+http://127.0.0.1:1", {"api_key": "k"}, "namespace"),
        ("agentcache+http://127.0.0.1:1", {"namespace": "n"}, "needs api_key"),
        ("memory://", {"api_key": "k"}, "none of the tiers"),
    ],
)
def test_wrong_configuration_is_told_at_construction(
    monkeypatch: pytest.MonkeyPatch, url: str, options: dict[str, str], match: str
) -> None:
    monkeypatch.delenv("AGENTCACHE_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=match):
        Cache(url, **options)
