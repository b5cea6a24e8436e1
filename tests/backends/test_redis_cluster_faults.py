"""A cluster in trouble: primaries killed and frozen, all nodes gone, wrong addresses and credentials. Every failure is
one of ours and arrives in time, a promoted replica is found without a restart, and none is read before that."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentcache_backends.redis.layout import Keys, tagged
from agentcache_backends.redis.settings import settings_of
from agentcache_backends.redis.slots import Node, redirect_of, slot_of, standing_of, topology_of
from agentcache_core import Cache
from agentcache_core.errors import BackendError, BackendUnavailable, ConfigurationError
from agentcache_core.model import MISSING
from agentcache_core.space import Space
from agentcache_core.testing.clusters import ClusterNode, RedisCluster
from agentcache_core.testing.servers import RedisServer, free_port
from agentcache_core.urls import open_backend, parse_url

pytestmark = pytest.mark.redis
TIMEOUT = 0.3
PATIENCE = 60.0
Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def pairs() -> Iterator[RedisCluster]:
    """Three primaries, each with a replica that takes over about a second after it falls silent."""
    with RedisCluster(3, 1, node_timeout=1.0) as running:
        yield running


@pytest.fixture
def whole(pairs: RedisCluster) -> Iterator[RedisCluster]:
    """The same, empty, and mended afterwards: fallen nodes come back as replicas."""
    for node in pairs.nodes:
        if node.is_primary():
            node.ask("FLUSHALL")
    yield pairs
    for node in pairs.nodes:
        node.thaw() if node.running else node.start()
    pairs.until(pairs.is_whole, "to mend")
    pairs.until(lambda: sum(node.is_primary() for node in pairs.nodes) == 3, "to take sides")
    pairs.until(pairs.is_linked, "to copy their primaries")


def _names(cluster: RedisCluster) -> dict[ClusterNode, bytes]:
    """For each primary a name that lies on it."""
    names: dict[ClusterNode, bytes] = {}
    for number in range(100):
        names.setdefault(cluster.owner(slot_of(b"ac1:v{n%d}/k" % number)), b"n%d/k" % number)
        if len(names) == 3:
            return names
    raise AssertionError("one hundred names lie on fewer than three nodes")


def _refused(call: Callable[[], object]) -> BackendError:
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="Redis at") as caught:
        call()
    assert time.monotonic() - began < 10 * TIMEOUT
    return caught.value


def _eventually(call: Callable[[], Any]) -> Any:
    """The answer to a call, as soon as it is not refused any more; each refusal must be ours, and in time."""
    until = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        try:
            return call()
        except BackendUnavailable:
            assert time.monotonic() - began < 10 * TIMEOUT
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("fate", ["killed", "frozen"])
def test_a_replica_that_takes_over_is_found_without_a_restart(whole: RedisCluster, open_store: Open, fate: str) -> None:
    store = open_store(f"{whole.url}?timeout={TIMEOUT}s")
    names = _names(whole)
    for name in names.values():
        store.put(name, b"before")
    replicas = [node for node in whole.nodes if node not in names]
    whole.until(lambda: [node.ask("DBSIZE") for node in replicas] == [":1\r\n"] * 3, "to copy")
    fallen, name = next(iter(names.items()))
    fallen.kill() if fate == "killed" else fallen.freeze()
    everywhere = list(names.values())
    for call in (lambda: store.get(name), lambda: store.put(name, b"lost"), lambda: store.get_many(everywhere)):
        _refused(call)
    found = _eventually(lambda: store.get_many(everywhere))  # nodes may call the cluster down a little longer
    assert [stored.data for stored in found] == [b"before"] * 3
    assert store.put(name, b"after") is not None
    assert [stored.data for stored in store.get_many(everywhere)] == [b"after", b"before", b"before"]
    assert sorted(stat.name for stat in store.scan(b"")) == sorted(names.values())
    assert store.acquire(name.replace(b"/k", b"/lease"), 30.0) is not None
    fallen.thaw() if fate == "frozen" else fallen.start()
    whole.until(lambda: not fallen.is_primary(), "to see that it was replaced")
    assert store.get(name).data == b"after"
    assert store.put(name, b"again") is not None
    assert store.get(name).data == b"again"
    assert sorted(stat.name for stat in store.scan(b"")) == sorted(names.values())


def test_an_agent_goes_on_while_a_primary_falls(whole: RedisCluster) -> None:
    with Cache(f"{whole.url}?timeout=200ms", ttl="1h") as cache:
        for number in range(10):
            cache.namespace(f"space {number}").set("known", number)
        victim = next(node for node in whole.nodes if node.is_primary())
        victim.kill()
        computed = 0
        until = time.monotonic() + PATIENCE
        while True:
            healthy = 0
            for number in range(10):
                space = cache.namespace(f"space {number}")
                assert space.get("known", default=number) == number
                answer = space.get_or_compute(f"new {computed}", lambda number=number: number)
                assert answer == number
                space.set("probe", computed)
                healthy += space.get("probe", default=None) == computed
            computed += 1
            if healthy == 10:
                break
            assert time.monotonic() < until


def test_nothing_is_read_from_a_replica(whole: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{whole.url}?timeout=5s")
    for node in whole.nodes:
        node.ask("CONFIG", "RESETSTAT")
    for name in _names(whole).values():
        store.put(name, b"v")
        store.get(name)
        store.get_range(name, 0, 1)
    store.get_many(list(_names(whole).values()))
    list(store.scan(b""))
    store.tail(b"t/opic")
    for node in whole.nodes:
        if not node.is_primary():
            counted = node.ask("INFO", "commandstats")
            for command in ("get", "mget", "scan", "getrange", "xrevrange"):
                assert f"cmdstat_{command}:" not in counted, command


def test_a_node_that_has_become_a_replica_leads_on_to_the_primary(whole: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{whole.url}?timeout=5s")
    names = _names(whole)
    for name in names.values():
        store.put(name, b"before")
    replica = next(node for node in whole.nodes if not node.is_primary())
    replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    whole.until(replica.is_primary, "to take over")
    assert [store.get(name).data for name in names.values()] == [b"before"] * 3
    assert sorted(stat.name for stat in _eventually(lambda: list(store.scan(b"")))) == sorted(names.values())
    assert [store.put(name, b"after") is not None for name in names.values()] == [True] * 3


def test_all_nodes_gone_is_unavailable_until_they_are_back(open_store: Open) -> None:
    with RedisCluster(3, node_timeout=1.0) as cluster:
        store = open_store(f"{cluster.url}?timeout={TIMEOUT}s")
        store.put(b"a/k", b"v")
        for node in cluster.nodes:
            node.kill()
        for call in (
            lambda: store.get(b"a/k"),
            lambda: store.put(b"a/k", b"w"),
            lambda: store.get_many([b"a/k", b"b/k", b"c/k"]),
            lambda: list(store.scan(b"")),
        ):
            _refused(call)
        for node in cluster.nodes:
            node.start()
        cluster.until(cluster.is_whole, "to meet again")
        assert store.get(b"a/k") is MISSING
        assert store.put(b"a/k", b"w") is not None


def test_a_connection_closed_between_two_calls_goes_unnoticed(whole: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{whole.url}?timeout=5s")
    names = list(_names(whole).values())
    calls: list[Callable[[], object]] = [
        lambda: [store.get(name) for name in names],
        lambda: store.get_many(names),
        lambda: [store.put(name, b"v") for name in names],
        lambda: [store.put(name, b"v", if_absent=True) for name in names],
        lambda: [store.add(name, 1) for name in names],
        lambda: store.delete_many(names),
        lambda: list(store.scan(b"")),
    ]
    for call in calls:
        for name in names:
            store.put(name, b"warm")
        for node in whole.nodes:
            node.ask("CLIENT", "KILL", "TYPE", "normal")
        call()


def test_many_tasks_in_trouble_ask_for_the_topology_once(whole: RedisCluster) -> None:
    names = [name + b"/%d" % number for name in _names(whole).values() for number in range(100)]

    async def scenario() -> None:
        backend = open_backend(f"{whole.url}?timeout=10s", face="async")
        await asyncio.gather(*(backend.put(name, name) for name in names))  # type: ignore[misc]  # the asynchronous form
        for node in whole.nodes:
            node.ask("CLIENT", "KILL", "TYPE", "normal")
            node.ask("CONFIG", "RESETSTAT")
        found = await asyncio.gather(*(backend.get(name) for name in names))  # type: ignore[arg-type]
        assert [stored and stored.data for stored in found] == names
        await backend.close()  # type: ignore[misc]

    asyncio.run(scenario())
    told = [re.search(r"cmdstat_cluster:calls=(\d+)", node.ask("INFO", "commandstats")) for node in whole.nodes]
    assert sum(int(each[1]) for each in told if each) <= 10


def test_the_first_nodes_of_the_url_may_be_gone(whole: RedisCluster, open_store: Open) -> None:
    with RedisServer() as other:  # accepts, and is no node of a cluster
        places = f"127.0.0.1:{free_port()},127.0.0.1:{other.port},{whole.nodes[0].address}"
        store = open_store(f"redis+cluster://{places}/?timeout=5s")
        assert store.put(b"a/k", b"v") is not None
        assert store.get(b"a/k").data == b"v"


def test_a_url_of_the_wrong_kind_says_which_is_right(whole: RedisCluster, open_store: Open) -> None:
    plain = open_store(f"redis://{whole.nodes[0].address}/?timeout=5s")
    for call in (
        lambda: [plain.get(b"n%d/k" % number) for number in range(20)],
        lambda: plain.get_many([b"a/k", b"b/k"]),
    ):
        with pytest.raises(BackendUnavailable, match=r"use redis\+cluster://"):
            call()
    with RedisServer() as server:
        cluster = open_store(f"redis+cluster://127.0.0.1:{server.port}/?timeout=5s")
        for call in (lambda: cluster.get(b"k"), lambda: cluster.put_many([]) or list(cluster.scan(b""))):
            with pytest.raises(BackendUnavailable, match="no node of a cluster; use redis://"):
                call()


def test_a_lease_and_what_it_fences_must_begin_alike(whole: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{whole.url}?timeout=5s")
    grant = store.acquire(b"one/lease", 30.0)
    assert store.put_fenced(b"one/lease", grant, b"one/value", b"v") is not None
    with pytest.raises(BackendUnavailable, match="must begin alike up to the first slash"):
        store.put_fenced(b"one/lease", grant, b"two/value", b"v")


def test_whatever_of_a_namespace_must_be_atomic_lies_in_one_slot() -> None:
    keys, space = Keys(b"ac1:"), Space("acme", "storage", b"secret")
    key = space.keys.key({"a": 1})
    values = [space.entry_name(key), space.generation_name, space.bans_name, space.tag_name("t"), space.entries_prefix]
    lease = tagged(space.lease_name(key))
    slots = {slot_of(keys.value + tagged(name)) for name in values}
    slots |= {slot_of(family + lease) for family in (keys.lease, keys.fence)}
    slots |= {
        slot_of(keys.stream + tagged(space.generation_name)),
        slot_of(keys.counter + tagged(space.prefix + b"/n")),
    }
    assert len(slots) == 1
    assert slot_of(keys.value + tagged(space.blob_name(bytes(32)))) not in slots


def test_threads_beyond_the_bound_share_connections(whole: RedisCluster) -> None:
    backend = open_backend(f"{whole.url}?timeout=10s&max_connections=2")
    names = list(_names(whole).values())
    gate, wrong = threading.Barrier(6), list[object]()

    def work(number: int) -> None:
        gate.wait(30)
        for turn in range(30):
            for name in names:
                own = name + b"/%d" % number
                backend.put(own, b"%d" % turn)  # type: ignore[unused-coroutine]  # it is the blocking form
            found = backend.get_many([name + b"/%d" % number for name in names])  # type: ignore[union-attr]
            wrong.extend(stored for stored in found if not stored or stored.data != b"%d" % turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    backend.close()  # type: ignore[unused-coroutine]


def test_credentials_reach_every_node_and_never_a_message(open_store: Open) -> None:
    secret = "s3 cret/&"
    with RedisCluster(3) as cluster:
        for node in cluster.nodes:
            assert node.ask("CONFIG", "SET", "requirepass", secret).startswith("+OK")
        quoted = "s3%20cret%2F%26"
        store = open_store(cluster.url.replace("://", f"://:{quoted}@") + "?timeout=5s")
        names = [b"n%d/k" % number for number in range(20)]
        for name in names:
            store.put(name, name)
        assert [stored.data for stored in store.get_many(names)] == names
        for password, words in (("wrong-word", "refuses the user name or password"), ("", "asks for a password")):
            other = open_store(cluster.url.replace("://", f"://:{password}@") + "?timeout=5s")
            with pytest.raises(BackendUnavailable, match=words) as caught:
                other.get(b"k")
            told = f"{caught.value!r} {caught.value.__cause__!r} {other!r} {store!r}"
            assert not any(word in told for word in ("wrong-word", secret, quoted))


def test_cluster_urls_spell_out_their_nodes() -> None:
    url = parse_url("rediss+cluster://user:pa%2Css@one:7000,two,[::1]:7002/?timeout=1s&prefix=x:")
    settings = settings_of(url)
    assert settings.seeds == (Node("one", 7000), Node("two", 6379), Node("::1", 7002))
    assert (settings.username, settings.password, settings.tls) == ("user", "pa,ss", True)
    assert url.shown == "rediss+cluster://one:7000,two,[::1]:7002/"
    assert "pa,ss" not in repr(url) + repr(settings)
    assert settings.at(Node("two", 1)).host == "two"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+cluster://h:7000,g/3", "no numbered databases"),
        ("redis+cluster://h?db=3", "no numbered databases"),
        ("redis+cluster://h/name", "number of a database"),
        ("redis+cluster://h:7000,g:port/", "malformed"),
        ("redis+cluster://h?prefix={all}", "must not hold a brace"),
        ("redis+cluster://h?pool=3", "unknown option pool"),
        ("redis://h:1,g:2/", "malformed"),
        ("redis://user:12/34@h/0", "/ as %2F"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_backend(url)
    assert "34" not in str(caught.value)


def test_what_nodes_say_is_read_and_nonsense_refused() -> None:
    asked = Node("here", 1)
    reply = [[0, 5, [b"10.0.0.1", 7000, b"id"], [b"10.0.0.9", 7009, b"id"]], [6, 16383, [b"", 7001, b"id"]]]
    topology = topology_of(reply, asked)
    assert topology.primaries == (Node("10.0.0.1", 7000), Node("here", 7001))
    assert (topology.owners[5], topology.owners[6], topology.complete) == (*topology.primaries, True)
    assert not topology_of(reply[:1], asked).complete
    for nonsense in (b"text", [[1]], [[5, 4, [b"h", 1]]], [[0, 99999, [b"h", 1]]], [[0, 1, b"h"]], 7):
        with pytest.raises(ValueError, match=r"slots|SLOTS|int|unpack"):
            topology_of(nonsense, asked)
    assert redirect_of("MOVED 3999 10.0.0.1:6381", asked) == ("MOVED", 3999, ("10.0.0.1", 6381))
    assert redirect_of("ASK 1 ::1:6381", asked) == ("ASK", 1, ("::1", 6381))
    assert redirect_of("MOVED 1 :6381", asked) == ("MOVED", 1, ("here", 6381))
    for text in ("MOVED", "MOVED x h:1", "MOVED 1 h", "MOVED 99999 h:1", "ERR MOVED 1 h:1"):
        assert redirect_of(text, asked) is None
    with pytest.raises(BackendUnavailable, match="no node of a cluster"):
        standing_of(b"nonsense")
    told = standing_of(
        b"a 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-1 7 [3->-b] [9-<-b]\nb 10.0.0.2:3@4,n master - 0 0 2 up 2\n"
    )
    assert (told.primary, told.owned, told.moving) == (True, 0b10000011, 1 << 3 | 1 << 9)
    assert told.targets == (Node("10.0.0.2", 3),)
