"""What does a cached answer over HTTP cost beside a bare route doing the same read, and is quota exact under load?"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from agentcache_core.space import Space
from agentcache_core.testing.servers import RedisServer
from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.load import _wire
from benchmarks.load._servers import (
    NAMESPACE,
    Account,
    Client,
    bare,
    delayed,
    median,
    milliseconds,
    postgres,
    service,
)

BARE, OURS = "bare Starlette route, p50", "POST /api/cache/get of 4 KB, p50"
VERIFIED, LIMIT = "an API key verified", "promised: at most"
BESIDE, BESIDE_LATER = "SQLite", "PostgreSQL and Redis"
FAR = "PostgreSQL and a Redis 200 ms away"
_FAR_S = 0.2

PROSE = """The two routes of the first comparison are asked in turn over one kept connection each; key check, rate
limit, quota and figures are on. Throughput is that of a generator in a process of its own with 16
connections (160 where the store is far away). "A CPU-second" counts the processor time of the server
processes alone: it says what a call costs whatever else the machine does, and equal figures for one and
two workers say that they do not get in each other's way. Calls a second say what this machine had left
for the servers: on two cores, two workers share them with the generator and with the database. Where the
store is far away every call waits for it and processors are idle; only what the service itself makes
calls wait for could then keep two workers from answering twice as many."""


def run(settings: Settings) -> Report:
    """Latency against a bare route; throughput of two workers against one, on three sets of stores; exact quota."""
    calls, seconds = (20, 0.3) if settings.small else (3000, 8.0)
    with service() as account:
        client, body = _prepared(account)
        url = f"sqlite:///{account.folder / 'cache.db'}"
        name = Space(account.org_id, NAMESPACE, None).entry_name(_key(account))
        with bare(url, name) as port:
            peer = Client(port)
            routes = [(peer, "/read"), (client, "/api/cache/get")]
            milliseconds(routes, body, calls=min(calls, 200))
            plain, ours = milliseconds(routes, body, calls=calls)
            peer.close()
        client.close()
        verified = _verification(account, calls)
        alone = _driven(account, BESIDE, 1, seconds=seconds)
    rows = [
        Row(BARE, median(plain), 1.0, "ms"),
        Row(OURS, median(ours), median(ours) / median(plain), "ms; key check, rate limit, quota and figures on"),
        Row(VERIFIED, verified, None, "ms, in process"),
        Row(LIMIT, 1.0, None, "ms"),
    ]
    goals = [Goal(OURS, BARE, 1.5), Goal(VERIFIED, LIMIT, 1.0)]
    for kind in (BESIDE,) if settings.small else (BESIDE, BESIDE_LATER, FAR):
        one = alone if kind == BESIDE else _throughput(kind, 1, seconds=seconds)
        two = _throughput(kind, 2, seconds=seconds)
        rows += [replace(one, ratio=1.0), replace(two, ratio=two.value / one.value)]
        goals.append(Goal(two.name, one.name, 1.7, at_least=True))
    quota = _quota(*(50, 1) if settings.small else (500, 2))
    rows.append(Row("requests left in the plan", quota["left"], None, "asked for by 32 clients at once"))
    rows.append(Row("of them admitted", quota["admitted"], None))
    goals.append(Goal("of them admitted", "requests left in the plan", 1.0, at_least=True))
    goals.append(Goal("of them admitted", "requests left in the plan", 1.0))
    return Report(__doc__ or "", "", tuple(rows), tuple(goals), extra={"quota": quota}, prose=PROSE)


@contextmanager
def _stores(kind: str) -> Iterator[dict[str, str]]:
    """Settings of the service for a kind of stores, with the servers it needs running."""
    with ExitStack() as running:
        if kind == BESIDE:
            yield {}
            return
        redis = running.enter_context(RedisServer())
        port = redis.port if kind == BESIDE_LATER else running.enter_context(delayed(redis.port, _FAR_S))
        yield {
            "database_url": running.enter_context(postgres()),
            "cache_tiers": f"redis://127.0.0.1:{port}/0",
            "redis_url": f"redis://127.0.0.1:{redis.port}/1",
        }


def _throughput(kind: str, workers: int, *, seconds: float) -> Row:
    """Calls a second of a service of its own on a kind of stores."""
    with _stores(kind) as stores, service(workers=workers, **stores) as account:
        _prepared(account)[0].close()
        return _driven(account, kind, workers, seconds=seconds)


def _driven(account: Account, kind: str, workers: int, *, seconds: float) -> Row:
    """Calls a second of a running service, and what a call cost the processors."""
    connections, body = 160 if kind == FAR else 16, json.dumps({"key": "k"}).encode()
    _wire.drive(account.port, account.key, body, connections=connections, seconds=seconds / 8)
    before, began = account.cpu_seconds(), time.perf_counter()
    driven = _wire.drive(account.port, account.key, body, connections=connections, seconds=seconds)
    cpu, took = account.cpu_seconds() - before, time.perf_counter() - began
    if driven.refused:
        raise RuntimeError(f"{driven.refused} of {driven.calls} calls were refused")
    note = (
        f"calls a second; {driven.calls / max(cpu, 0.01):,.0f} for a CPU-second of the servers, which had "
        f"{cpu / took:.2f} cores; the generator {driven.cpu / driven.seconds:.2f}"
    )
    return Row(f"{kind}: {'one worker' if workers == 1 else 'two workers'}", driven.calls / driven.seconds, None, note)


def _verification(account: Account, calls: int) -> float:
    """The median time of finding out whose key it is, as a look-up does, in milliseconds."""
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings as ServiceSettings

    service = build_service(ServiceSettings(data_dir=account.folder))
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        if service.keys.find(account.key, NAMESPACE) is None:
            raise RuntimeError("the key is not known")
        times.append((time.perf_counter() - began) * 1000)
    service.close()
    return median(times)


def _key(account: Account) -> Any:
    from agentcache_core import Cache

    with Cache(tenant=account.org_id, namespace=NAMESPACE) as cache:
        return cache.key("k")


def _prepared(account: Account) -> tuple[Client, bytes]:
    client = Client(account.port, account.key)
    client.call("/api/cache/set", key="k", value="x" * 4096, ttl=3600)
    return client, json.dumps({"key": "k"}).encode()


def _quota(left: int, workers: int) -> dict[str, int]:
    """With `left` requests to go, 32 clients ask until they are refused; how many were admitted."""
    admitted: list[int] = []
    with service(workers=workers, plan="free", limit_requests=left) as account:

        def work() -> None:
            client, count, refused = Client(account.port, account.key), 0, 0
            while refused < 3:
                status, _ = client.post("/api/cache/get", b'{"key": "k"}')
                count += status == 200
                refused += status == 402
            client.close()
            admitted.append(count)

        threads = [threading.Thread(target=work) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"left": left, "admitted": sum(admitted), "workers": workers}
