"""What does a cached answer over HTTP cost beside a bare route doing the same read, and is quota exact under load?"""

from __future__ import annotations

import json
import threading
from typing import Any

from agentcache_core.space import Space
from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.load._servers import NAMESPACE, Account, Client, bare, median, milliseconds, service, throughput

BARE, OURS = "bare Starlette route, p50", "POST /api/cache/get of 4 KB, p50"
ONE, TWO = "one worker", "two workers"
VERIFIED, LIMIT = "an API key verified", "promised: at most"


def run(settings: Settings) -> Report:
    """Latency against a bare route; throughput of two workers against one; quota with 32 clients at once."""
    calls, seconds = (20, 0.3) if settings.small else (2000, 4.0)
    with service() as account:
        client, body = _prepared(account)
        url = f"sqlite:///{account.folder / 'cache.db'}"
        name = Space(account.org_id, NAMESPACE, None).entry_name(_key(account))
        with bare(url, name) as port:
            peer = Client(port)
            routes = [(peer, "/read"), (client, "/api/cache/get")]
            milliseconds(routes, body, calls=min(calls, 100))
            plain, ours = milliseconds(routes, body, calls=calls)
            peer.close()
        client.close()
        verified = _verification(account, calls)
        single = throughput(account.port, account.key, body, clients=8, seconds=seconds)
    with service(workers=2) as account:
        client, body = _prepared(account)
        client.close()
        double = throughput(account.port, account.key, body, clients=8, seconds=seconds)
    rows = (
        Row(BARE, median(plain), 1.0, "ms"),
        Row(OURS, median(ours), median(ours) / median(plain), "ms, key check and quota on"),
        Row(VERIFIED, verified, None, "ms, in process"),
        Row(LIMIT, 1.0, None, "ms"),
        Row(ONE, single, 1.0, "calls a second, 8 clients"),
        Row(TWO, double, double / single, "calls a second, 8 clients"),
    )
    goals = (Goal(OURS, BARE, 1.5), Goal(VERIFIED, LIMIT, 1.0), Goal(TWO, ONE, 1.7, at_least=True))
    return Report(__doc__ or "", "", rows, goals, extra={"quota": _quota(50 if settings.small else 500)})


def _verification(account: Account, calls: int) -> float:
    """The median time of finding out whose key it is, in milliseconds."""
    import time

    from agentcache_service.identity.credentials import principal_of_key
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings as ServiceSettings

    service = build_service(ServiceSettings(data_dir=account.folder))
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        if principal_of_key(service, account.key) is None:
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


def _quota(left: int) -> dict[str, int]:
    """With `left` requests to go, 32 clients ask until they are refused; how many were admitted."""
    admitted: list[int] = []
    with service(workers=2, plan="free", limit_requests=left) as account:

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
    return {"left": left, "admitted": sum(admitted)}
