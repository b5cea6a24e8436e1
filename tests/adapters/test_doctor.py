"""The doctor on real stores: healthy ones, a full Redis, a wrong password, nobody there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app
from agentcache_adapters.doctor import examine
from agentcache_core import Cache
from agentcache_core.testing.clusters import RedisCluster
from agentcache_core.testing.servers import RedisServer


def _states(url: str) -> dict[str, str]:
    return {finding.check: finding.state for finding in examine(url)}


def test_a_healthy_file_store_is_good_throughout(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/cache.db", f"file://{tmp_path}/store"):
        Cache(url).close()
        assert set(_states(url).values()) == {"good"}, examine(url)


@pytest.mark.redis
def test_a_redis_tells_its_version_clock_bound_and_persistence(own_redis: RedisServer) -> None:
    states = _states(own_redis.url)
    assert states["version"] == states["server clock"] == states["conditional writes"] == "good"
    assert states["bound"] == states["persistence"] == "mind"
    own_redis.ask("CONFIG", "SET", "maxmemory", "100mb")
    own_redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    own_redis.ask("CONFIG", "SET", "appendonly", "yes")
    states = _states(own_redis.url)
    assert states["bound"] == states["persistence"] == "good"
    own_redis.ask("CONFIG", "SET", "maxmemory", "1")
    own_redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert _states(own_redis.url)["write"] == "bad"


@pytest.mark.redis
def test_a_wrong_password_and_an_absent_server_are_bad_and_leak_nothing(own_redis: RedisServer) -> None:
    own_redis.ask("CONFIG", "SET", "requirepass", "right")
    port = own_redis.port
    found = CliRunner().invoke(app, ["doctor", f"redis://:topsecret@127.0.0.1:{port}/0", "--json"])
    assert found.exit_code == 1
    assert "topsecret" not in found.output
    (findings,) = json.loads(found.stdout).values()
    assert findings[0]["state"] == "bad"
    assert _states("redis://127.0.0.1:9/0") == {"connect": "bad"}


@pytest.mark.redis
def test_an_account_that_may_not_delete_is_told_so(own_redis: RedisServer) -> None:
    own_redis.ask("ACL", "SETUSER", "clerk", "on", ">word", "~*", "+@all", "-del", "-unlink")
    url = own_redis.url.replace("redis://", "redis://clerk:word@")
    found = {finding.check: finding for finding in examine(url)}
    assert (found["write"].state, found["delete"].state) == ("good", "bad")
    assert "right to delete" in found["delete"].remedy
    assert _states(own_redis.url)["delete"] == "good"


@pytest.mark.s3
def test_a_bucket_that_does_not_exist_is_told_with_a_remedy_that_fits(s3_url: str) -> None:
    options = s3_url.partition("?")[2]
    for client in ("obstore", "s3fs"):
        found = examine(f"s3://no-such-bucket/p?{options}&timeout=20s&client={client}")
        assert [(finding.check, finding.state) for finding in found] == [("connect", "bad")], found
        assert "no-such-bucket does not exist" in found[0].said
        assert "create the bucket" in found[0].remedy


@pytest.mark.redis
def test_a_cluster_is_examined_node_by_node() -> None:
    with RedisCluster(3, 1) as cluster:
        until = time.monotonic() + 60
        while (states := _states(cluster.url))["replicas"] != "good" and time.monotonic() < until:
            pass  # a replica is still copying its primary
        for check in ("connect", "write", "conditional writes", "cluster", "replicas", "primaries", "version"):
            assert states[check] == "good", check
        assert states["server clock"] == "good"
        assert states["bound"] == states["persistence"] == states["coverage"] == "mind"
        primary, *others = cluster.nodes[:3]
        for setting in (("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lfu"), ("appendonly", "yes")):
            primary.ask("CONFIG", "SET", *setting)
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        found = {finding.check: finding for finding in examine(cluster.url)}
        assert found[f"bound of {primary.address}"].state == found[f"persistence of {primary.address}"].state == "good"
        for node in others:
            assert "set maxmemory" in found[f"bound of {node.address}"].remedy
        assert found["coverage"].state == "good"


@pytest.mark.redis
def test_a_cluster_in_trouble_is_told_with_what_to_change() -> None:
    with RedisCluster(3, node_timeout=1.0) as cluster:
        assert "replica" in next(finding for finding in examine(cluster.url) if finding.check == "replicas").remedy
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        fallen = cluster.nodes[2]
        fallen.kill()
        found = {finding.check: finding for finding in examine(f"{cluster.url}?timeout=2s")}
        assert found["connect"].state == "good" or "cannot be reached" in found["connect"].said
        bad = [finding for finding in found.values() if finding.state == "bad"]
        assert any(fallen.address in f"{finding.check} {finding.said}" for finding in bad)
    assert _states(f"redis+cluster://:topsecret@{fallen.address}/") == {"connect": "bad"}


@pytest.mark.s3
def test_an_s3_store_tells_its_client_and_whether_it_spares_what_is_new(s3_url: str) -> None:
    assert set(_states(f"{s3_url}&timeout=20s").values()) == {"good"}
    found = {finding.check: finding for finding in examine(f"{s3_url}&timeout=20s")}
    assert found["client"].said == "obstore"
    assert found["conditional deletes"].said == "enforced"
    place, _, options = s3_url.partition("?")
    odd = {finding.check: finding for finding in examine(f"{place}//odd?{options}&timeout=20s")}
    assert odd["client"].state == "mind"
    assert "empty or dotted" in odd["client"].said


def test_the_command_shows_a_table_and_refuses_memory(tmp_path: Path) -> None:
    Cache(f"sqlite:///{tmp_path}/cache.db").close()
    shown = CliRunner().invoke(app, ["doctor", f"sqlite:///{tmp_path}/cache.db"])
    assert shown.exit_code == 0
    assert "durability" in shown.output
    assert CliRunner().invoke(app, ["doctor", "memory://"]).exit_code == 2
    assert CliRunner().invoke(app, ["doctor", "nosuch://x"]).exit_code == 2
