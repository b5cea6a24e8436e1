"""What only Redis can tell the doctor: version, clock, bound and persistence, of each primary of a cluster as well."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import redis

from agentcache_adapters.finding import SKEW_SECONDS, Finding
from agentcache_backends.redis.settings import Settings, settings_of
from agentcache_backends.redis.slots import SLOTS, Node
from agentcache_core.urls import StoreUrl

OLDEST_REDIS = (6, 2)


def told_by_redis(place: StoreUrl) -> Iterator[Finding]:
    """What the server or the cluster at a URL says of itself."""
    settings = settings_of(place)
    if settings.seeds:
        yield from _cluster(settings)
    else:
        yield from _server(settings)


def _server(settings: Settings) -> Iterator[Finding]:
    client = _client(settings)
    try:
        yield from _asked(client)
    except redis.RedisError as error:
        yield Finding("server", "mind", f"does not tell about itself: {type(error).__name__}", "allow INFO and TIME")
    finally:
        client.close()


def _client(settings: Settings) -> redis.Redis:
    options = settings.connection_options()
    options.pop("driver_info")
    if "path" in options:
        options["unix_socket_path"] = options.pop("path")
    return redis.Redis(**options, ssl=settings.tls)


def _asked(client: redis.Redis) -> Iterator[Finding]:
    info: Mapping[str, Any] = client.info()
    yield _version(info)
    seconds, micros = client.time()
    skew = seconds + micros / 1e6 - time.time()
    apart = abs(skew) > SKEW_SECONDS
    said = f"{skew:+.3f} s" if apart else f"within {SKEW_SECONDS:.0f} s of this machine"
    yield Finding("server clock", "mind" if apart else "good", said, "use NTP" if apart else "")
    yield _bound(info)
    yield _persistence(client, info)


def _version(info: Mapping[str, Any]) -> Finding:
    valkey = info.get("valkey_version")
    version = str(valkey or info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    enough = valkey is not None or numbers >= OLDEST_REDIS
    said = f"Valkey {version}" if valkey else f"Redis {version}"
    return Finding("version", "good" if enough else "bad", said, "" if enough else "needs Redis 6.2 or Valkey")


def _bound(info: Mapping[str, Any]) -> Finding:
    most, policy = int(info.get("maxmemory", 0)), str(info.get("maxmemory_policy", ""))
    if not most:
        return Finding("bound", "mind", "no maxmemory: it grows until the machine ends it", "set maxmemory")
    if policy == "noeviction":
        return Finding("bound", "mind", "refuses writes when full (noeviction)", "set maxmemory-policy allkeys-lfu")
    if policy.startswith("volatile"):
        return Finding("bound", "mind", f"{policy}: entries without ttl are never given up", "use allkeys-lfu")
    return Finding("bound", "good", f"{most:,} bytes, {policy}")


def _persistence(client: redis.Redis, info: Mapping[str, Any]) -> Finding:
    if info.get("aof_enabled"):
        return Finding("persistence", "good", "append-only file is on")
    try:
        saves = client.config_get("save").get("save", "")
    except redis.RedisError as error:  # hosted servers forbid CONFIG
        return Finding("persistence", "mind", f"cannot be asked ({type(error).__name__})")
    remedy = "set appendonly yes where answers must survive a restart"
    return Finding("persistence", "mind", f"snapshots: {saves or 'none'}; the last writes may be lost", remedy)


def _cluster(settings: Settings) -> Iterator[Finding]:
    """The cluster as a whole, then what its primaries say: once where they say the same, else by node."""
    slots = _slots(settings)
    if slots is None:
        yield Finding("cluster", "mind", "no node tells who serves which slots", "allow CLUSTER SLOTS")
        return
    primaries: dict[Node, bool] = {}
    for _, _, node, followed in slots:
        primaries[node] = primaries.get(node, False) or followed
    served = sum(last - first + 1 for first, last, _, _ in slots)
    if served < SLOTS:
        remedy = "look at redis-cli --cluster check, then --cluster fix"
        yield Finding("cluster", "bad", f"{SLOTS - served:,} of {SLOTS:,} slots are served by no node", remedy)
    else:
        yield Finding("cluster", "good", f"{len(primaries)} primaries serve all slots")
    alone = [str(node) for node, followed in primaries.items() if not followed]
    if alone:
        said = f"none for {', '.join(alone)}: what lies there is gone, and its slots are not served, while it is down"
        yield Finding("replicas", "mind", said, "give each primary a replica (redis-cli --cluster add-node)")
    else:
        yield Finding("replicas", "good", "each primary has one; the last writes may be lost when one takes over")
    yield from _alike({node: list(_of_node(settings.at(node))) for node in primaries})


def _slots(settings: Settings) -> list[tuple[int, int, Node, bool]] | None:
    """The ranges of slots, each with its primary and whether that has a replica; None when no node tells."""
    for seed in settings.seeds:
        client: Any = _client(settings.at(seed))
        try:
            told = client.execute_command("CLUSTER", "SLOTS")
        except redis.RedisError:
            continue
        finally:
            client.close()
        return [
            (first, last, Node((primary[0] or b"").decode() or seed.host, primary[1]), bool(replicas))
            for first, last, primary, *replicas in told
        ]
    return None


def _of_node(settings: Settings) -> Iterator[Finding]:
    client = _client(settings)
    try:
        client.ping()
        yield Finding("primaries", "good", "answer")
        yield from _asked(client)
        yield from _coverage(client)
    except redis.RedisError as error:
        yield Finding("primaries", "bad", f"{type(error).__name__}", "start it, or mend its address or access list")
    finally:
        client.close()


def _coverage(client: redis.Redis) -> Iterator[Finding]:
    try:
        whole = client.config_get("cluster-require-full-coverage")
    except redis.RedisError:
        return  # forbidden, as hosted ones do; they choose for themselves
    if whole.get("cluster-require-full-coverage") == "yes":
        said = "while one primary is down, the others refuse as well"
        yield Finding("coverage", "mind", said, "set cluster-require-full-coverage no: a cache does better with a part")
    else:
        yield Finding("coverage", "good", "the others go on while one primary is down")


def _alike(by_node: Mapping[Node, list[Finding]]) -> Iterator[Finding]:
    checks = dict.fromkeys(told.check for each in by_node.values() for told in each)
    for check in checks:
        said = {node: told for node, each in by_node.items() for told in each if told.check == check}
        if len(set(said.values())) == 1:
            yield next(iter(said.values()))
        else:
            yield from (replace(told, check=f"{check} of {node}") for node, told in said.items())
