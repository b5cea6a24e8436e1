"""A cluster whose slots move: calls are led after them, nothing is lost, doubled or read from a replica."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from agentcache_backends.redis.cluster_store import RedisClusterBackend
from agentcache_backends.redis.slots import slot_of
from agentcache_core import Cache
from agentcache_core.backend import Put
from agentcache_core.errors import BackendUnavailable
from agentcache_core.model import MISSING
from agentcache_core.testing.clusters import ClusterNode, RedisCluster

pytestmark = pytest.mark.redis
Open = Callable[[str], Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(3) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.ask("FLUSHALL")


def _slot(head: str) -> int:
    return slot_of(f"ac1:v{{{head}}}/".encode())


def _ends(cluster: RedisCluster, slot: int) -> tuple[ClusterNode, ClusterNode]:
    """The node that owns a slot, and another."""
    source = cluster.owner(slot)
    return source, next(node for node in cluster.nodes if node is not source)


def _begin(slot: int, source: ClusterNode, target: ClusterNode) -> None:
    assert target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id).startswith("+OK")
    assert source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.id).startswith("+OK")


def _carry(slot: int, source: ClusterNode, target: ClusterNode, most: int = 1000) -> None:
    with redis.Redis(port=source.port) as client:
        keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)


def _move(cluster: RedisCluster, slot: int, at_once: int = 30) -> None:
    source, target = _ends(cluster, slot)
    _begin(slot, source, target)
    while int(source.ask("CLUSTER", "COUNTKEYSINSLOT", str(slot))[1:]):
        _carry(slot, source, target, at_once)
    cluster.hand_over(slot, source, target)


def test_a_call_follows_a_slot_to_its_new_node(cluster: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{cluster.url}?timeout=5s")
    calls: list[Callable[[], object]] = [
        lambda: store.get(b"far/k").data == b"v",
        lambda: [stored.data for stored in store.get_many([b"far/k", b"near/k", b"far/k"])] == [b"v", b"n", b"v"],
        lambda: store.put(b"far/k", b"v"),
        lambda: store.put(b"far/new", b"v", if_absent=True),
        lambda: store.delete(b"far/new"),
        lambda: store.touch(b"far/k", None),
        lambda: store.get_range(b"far/k", 0, 9) == b"v",
        lambda: [stat.name for stat in store.scan(b"far/")] == [b"far/k"],
        lambda: sorted(stat.name for stat in store.scan(b"")) == [b"far/k", b"near/k"],
        lambda: store.append(b"far/topic", b"event"),
        lambda: len(store.read(b"far/topic", b"")) == 1,
        lambda: store.acquire(b"far/lease", 30.0),
        lambda: store.add(b"far/n", 1) == 1,
        lambda: store.add(b"far/n", 1) == 2,
    ]
    store.put(b"far/k", b"v")
    store.put(b"near/k", b"n")
    for number, call in enumerate(calls):
        _move(cluster, _slot("far"))
        assert call(), number


def test_a_slot_is_handed_over_under_the_latest_epoch_also_when_it_is_not_known_everywhere_yet(
    cluster: RedisCluster,
) -> None:
    slot = _slot("late")
    _move(cluster, slot)  # now its owner's epoch is the latest, so that it would take a slot without a new one
    target = cluster.owner(slot)
    source = next(node for node in cluster.nodes if node is not target)
    assert source.ask("CLUSTER", "BUMPEPOCH").startswith("+BUMPED")  # which it tells nobody for the moment
    other = source.slots()[0]
    _begin(other, source, target)
    cluster.hand_over(other, source, target)
    epochs = target.epochs()
    assert epochs[target.id] > max(epoch for name, epoch in epochs.items() if name != target.id)
    assert epochs[target.id] > source.epochs()[source.id]


def test_of_a_slot_on_its_way_everything_is_found_on_either_side(cluster: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{cluster.url}?timeout=5s")
    names = [b"way/%d" % number for number in range(20)]
    for name in names:
        store.put(name, name)
    source, target = _ends(cluster, _slot("way"))
    _begin(_slot("way"), source, target)
    _carry(_slot("way"), source, target, 10)
    assert int(target.ask("CLUSTER", "COUNTKEYSINSLOT", str(_slot("way")))[1:]) == 10
    assert [store.get(name).data for name in names] == names
    assert [stored.data for stored in store.get_many(names)] == names
    assert store.get_many([*names[:3], b"way/absent", b"else/where"])[3:] == [MISSING, MISSING]
    assert sorted(stat.name for stat in store.scan(b"way/")) == sorted(names)
    assert sorted(stat.name for stat in store.scan(b"")) == sorted(names)
    versions = [store.put(name, b"new") for name in names]
    assert [store.get(name) for name in names] == [(b"new", version) for version in versions]
    assert store.put(b"way/new", b"new", if_absent=True)
    assert store.put(b"way/new", b"again", if_absent=True) is None
    assert store.delete_many([*names[::2], b"way/absent"]) == [True] * 10 + [False]
    assert store.add(b"way/counter", 5) == 5
    while int(source.ask("CLUSTER", "COUNTKEYSINSLOT", str(_slot("way")))[1:]):
        _carry(_slot("way"), source, target)
    cluster.hand_over(_slot("way"), source, target)
    assert [stored and stored.data for stored in store.get_many(names)] == [MISSING, b"new"] * 10
    assert store.add(b"way/counter", 5) == 10


def test_two_keys_that_lie_apart_for_the_moment_cost_no_more_than_the_time(
    cluster: RedisCluster, open_store: Open
) -> None:
    store = open_store(f"{cluster.url}?timeout=300ms")
    assert store.acquire(b"split/old", 30.0) is not None
    source, target = _ends(cluster, _slot("split"))
    _begin(_slot("split"), source, target)
    _carry(_slot("split"), source, target, 1)  # of the lease and its fence only one
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="moving slots"):
        store.acquire(b"split/old", 30.0)
    assert time.monotonic() - began < 10 * 0.6
    _carry(_slot("split"), source, target)
    cluster.hand_over(_slot("split"), source, target)
    assert store.acquire(b"split/old", 30.0) is None
    assert store.acquire(b"split/new", 30.0) is not None


def test_while_slots_move_nobody_reads_an_old_value_and_no_call_fails(cluster: RedisCluster, open_store: Open) -> None:
    first = open_store(f"{cluster.url}?timeout=5s")
    threadsafe = isinstance(first, RedisClusterBackend)
    stores = [first, *(first if threadsafe else open_store(f"{cluster.url}?timeout=5s") for _ in range(2))]
    heads = [b"h%d" % number for number in range(6)]
    done, wrong = threading.Event(), list[object]()

    def works(number: int) -> None:
        store = stores[number]
        for turn in range(100_000):
            if done.is_set():
                return
            names = [head + b"/%d" % number for head in heads]
            text = b"%d" % turn
            try:
                if turn % 2:
                    store.put_many([Put(name, text) for name in names])
                else:
                    for name in names:
                        store.put(name, text)
                found = store.get_many(names) if turn % 3 else [store.get(name) for name in names]
            except Exception as error:
                wrong.append(error)
                return
            wrong.extend((number, turn, stored) for stored in found if not stored or stored.data != text)

    threads = [threading.Thread(target=works, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            for head in heads:
                _move(cluster, _slot(head.decode()))
    finally:
        done.set()
        for thread in threads:
            thread.join(60)
    assert wrong == []


def test_a_walk_over_all_names_misses_none_while_slots_move(cluster: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{cluster.url}?timeout=5s")
    names = {b"w%d/%d" % (head, number) for head in range(4) for number in range(60)}
    for name in names:
        store.put(name, b"v")
    done, missed, walks = threading.Event(), list[set[bytes]](), list[int]()

    def walk() -> None:
        while not done.is_set():
            found = [stat.name for stat in store.scan(b"w")]
            walks.append(len(found))
            missed.extend([names - set(found)] if len(found) != len(set(found)) or set(found) != names else [])

    walker = threading.Thread(target=walk)
    walker.start()
    try:
        for _ in range(3):
            for head in range(4):
                _move(cluster, _slot(f"w{head}"), 10)
    finally:
        done.set()
        walker.join(60)
    assert walks
    assert missed == []


def test_a_slot_that_nobody_serves_is_unavailable_and_a_walk_says_so(cluster: RedisCluster, open_store: Open) -> None:
    store = open_store(f"{cluster.url}?timeout=1s")
    store.put(b"gone/k", b"v")
    slot = _slot("gone")
    owner = cluster.owner(slot)
    try:
        for node in cluster.nodes:
            assert node.ask("CLUSTER", "DELSLOTS", str(slot)).startswith("+OK")
        cluster.until(lambda: not cluster.is_whole(), "to notice")
        for call in (lambda: store.get(b"gone/k"), lambda: list(store.scan(b""))):
            with pytest.raises(BackendUnavailable, match="Redis at"):
                call()
    finally:
        assert owner.ask("CLUSTER", "ADDSLOTS", str(slot)).startswith("+OK")
        cluster.until(cluster.is_whole, "to mend")
    assert store.get(b"gone/k").data == b"v"


def test_a_cache_keeps_its_promises_while_its_slot_moves(cluster: RedisCluster) -> None:
    with Cache(f"{cluster.url}?timeout=5s", inline_max=1024) as cache:
        slot = slot_of(_key_of_an_entry(cluster, cache))
        for turn in range(4):
            cache.set("small", turn, tags=["t"])
            cache.set("large", "x" * 50_000 + str(turn), tags=["t"])
            cache.set_many([(f"many {number}", number) for number in range(10)])
            _move(cluster, slot)
            assert cache.get("small") == turn
            assert cache.get("large") == "x" * 50_000 + str(turn)
            assert cache.get_many([f"many {number}" for number in range(10)]) == list(range(10))
            _move(cluster, slot)
            cache.invalidate(tag="t")
            assert cache.get("small") is MISSING
            assert cache.get("large") is MISSING
            assert cache.get_or_compute("computed", lambda turn=turn: turn) == 0


def _key_of_an_entry(cluster: RedisCluster, cache: Cache) -> bytes:
    cache.set("any", "v")
    for node in cluster.nodes:
        with redis.Redis(port=node.port) as client:
            for key in client.scan_iter(b"ac1:v*"):
                if b"}/e/" in key:
                    return bytes(key)
    raise AssertionError("the entry is nowhere")
