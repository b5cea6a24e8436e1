"""Clusters of Redis 7 and of Valkey: the conformance suite, slots that move, a replica that takes over, and TLS."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from agentcache_backends.redis import open_url
from agentcache_backends.redis.slots import slot_of
from agentcache_core.clock import Clock
from agentcache_core.errors import BackendUnavailable
from agentcache_core.testing import BackendSuite
from agentcache_core.testing.clusters import ClusterNode, RedisCluster, free_pair
from agentcache_core.testing.servers import fetched_program
from agentcache_core.urls import parse_url

PROGRAMS = {"Redis 7": "redis7/redis-server", "Valkey": "valkey/valkey-server"}


@pytest.fixture(scope="module", params=list(PROGRAMS))
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    with RedisCluster(3, 1, program=fetched_program(PROGRAMS[request.param]), node_timeout=1.0) as running:
        yield running


class TestOnACluster(BackendSuite):
    leases_in_real_time = True

    @pytest.fixture(autouse=True)
    def _place(self, cluster: RedisCluster) -> None:
        self.url = parse_url(f"{cluster.url}?timeout=10s&prefix=test-{uuid.uuid4().hex}:")

    def open(self, place: Path, clock: Clock) -> Any:
        return open_url(self.url, face="blocking", clock=clock)


def test_slots_that_move_are_followed(cluster: RedisCluster, open_store: Callable[[str], Any]) -> None:
    store = open_store(f"{cluster.url}?timeout=5s")
    names = [b"way/%d" % number for number in range(20)]
    for name in names:
        store.put(name, name)
    slot = slot_of(b"ac1:v{way}/")
    source = cluster.owner(slot)
    target = next(node for node in cluster.nodes if node.is_primary() and node is not source)
    assert target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id).startswith("+OK")
    assert source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.id).startswith("+OK")
    for most in (10, 100):
        with redis.Redis(port=source.port) as client:
            keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
            client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        assert [stored.data for stored in store.get_many(names)] == names
        assert [store.get(name).data for name in names] == names
        assert sorted(stat.name for stat in store.scan(b"way/")) == sorted(names)
    cluster.hand_over(slot, source, target)
    assert [stored.data for stored in store.get_many(names)] == names
    assert sorted(stat.name for stat in store.scan(b"way/")) == sorted(names)


def test_a_replica_that_takes_over_is_found(cluster: RedisCluster, open_store: Callable[[str], Any]) -> None:
    store = open_store(f"{cluster.url}?timeout=300ms")
    fallen = next(node for node in cluster.nodes if node.is_primary())
    name = next(name for name in (b"n%d/k" % n for n in range(100)) if cluster.owner(_slot(name)) is fallen)
    store.put(name, b"before")
    fallen.kill()
    with pytest.raises(BackendUnavailable):
        store.put(name, b"lost")

    def written() -> bool:
        try:
            return store.put(name, b"after") is not None
        except BackendUnavailable:
            return False

    cluster.until(written, "to choose a new primary")
    assert store.get(name).data == b"after"
    fallen.start()
    cluster.until(cluster.is_whole, "to mend")
    cluster.until(cluster.is_linked, "to copy their primaries")
    assert store.get(name).data == b"after"


def _slot(name: bytes) -> int:
    return slot_of(b"ac1:v{" + name.replace(b"/", b"}/"))


class _TlsNode(ClusterNode):
    """A node that speaks TLS, also to the other nodes, and has a plain port for whoever operates it."""

    meeting_port = 0

    def __init__(self, *options: str, **chosen: Any) -> None:
        super().__init__(*options, **chosen)
        self.meeting_port = free_pair()

    def command(self) -> Sequence[str]:
        return (*super().command(), "--tls-port", str(self.meeting_port), "--tls-cluster", "yes")


def test_a_cluster_is_reached_over_tls(certificates: Any, open_store: Callable[[str], Any]) -> None:
    program = fetched_program(PROGRAMS["Redis 7"])
    nodes = [_TlsNode(*certificates.options(), program=program) for _ in range(3)]
    cluster = RedisCluster(3)
    cluster.nodes = list(nodes)
    with cluster:
        for node in nodes:  # from now on nobody is served without TLS and a password
            assert node.ask("CONFIG", "SET", "requirepass", "a word").startswith("+OK")
        place = f"127.0.0.1:{nodes[0].meeting_port}/?ca_certs={certificates.ours.file}&timeout=5s"
        store = open_store(f"rediss+cluster://:a%20word@{place}")
        names = [b"n%d/k" % number for number in range(30)]
        for name in names:
            store.put(name, name)
        assert [stored.data for stored in store.get_many(names)] == names
        assert sorted(stat.name for stat in store.scan(b"")) == sorted(names)
        stranger = open_store(f"rediss+cluster://{place.replace('ours.pem', 'others.pem')}")
        with pytest.raises(BackendUnavailable, match="not signed by a CA"):
            stranger.get(b"n1/k")
