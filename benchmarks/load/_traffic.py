"""The clients of the soak: each a function that uses the service in one way until a time, and tells what came back.

Every client has its own random numbers, so that a run can be repeated.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load._servers import Account, Client

KEYS = 1500
PAGES = (
    "/dashboard",
    "/dashboard/usage",
    "/dashboard/plan",
    "/dashboard/keys",
    "/dashboard/namespaces",
    "/dashboard/listeners",
    "/dashboard/settings",
    "/dashboard/integrations",
    "/api/stats",
    "/api/v1/storage/quota",
    "/pricing",
    "/static/app.css",
)


@dataclass
class Tally:
    """What all clients were answered, safe for threads. `requests` and `sent` are what the quota must have counted."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, int]] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    requests: int = 0
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, status: int, *, requests: int = 0, sent: int = 0) -> None:
        """Note one answer."""
        with self.lock:
            self.statuses[status] += 1
            self.by_kind[kind, status] += 1
            self.requests += requests
            self.sent += sent
        if status >= 400 and status not in (404, 416):
            self.trouble(f"{kind} answered {status}")

    def trouble(self, text: str) -> None:
        """Note something that should not be."""
        with self.lock:
            if len(self.troubles) < 100:
                self.troubles.append(text)


def _body(numbers: random.Random) -> str:
    """A value whose size is like those of real answers: most small, some of tens of kilobytes; half of them repeat."""
    size = min(60_000, int(numbers.lognormvariate(7.2, 1.2)))
    seed = numbers.randrange(300) if numbers.random() < 0.5 else numbers.getrandbits(40)
    return (f"{seed:x}." * (size // 4 + 1))[:size]


def caching(account: Account, tally: Tally, until: float) -> None:
    """Sets, gets and invalidations by key, tag and pattern, and raw bodies in parts."""
    numbers, client = random.Random(threading.get_ident()), Client(account.port, account.key)
    while time.monotonic() < until:
        key, turn = f"k{numbers.randrange(KEYS)}", numbers.random()
        if turn < 0.70:
            status, raw = client.post("/api/cache/get", json.dumps({"key": key}).encode())
            value = json.loads(raw).get("value") if status == 200 else None
            tally.add("gets", status, requests=1, sent=len(json.dumps(value)) if value is not None else 0)
        elif turn < 0.92:
            asked = {"key": key, "value": _body(numbers), "ttl": numbers.choice((20, 60, 3600)), "tags": [key[:3]]}
            tally.add("sets", client.post("/api/cache/set", json.dumps(asked).encode())[0], requests=1)
        elif turn < 0.97:
            selector = numbers.choice(({"key": key}, {"tag": key[:3]}, {"pattern": f"{key}?"}))
            tally.add(
                "invalidations", client.post("/api/cache/invalidate", json.dumps(selector).encode())[0], requests=1
            )
        else:
            _raw(client, tally, numbers, key)
    client.close()


def _raw(client: Client, tally: Tally, numbers: random.Random, key: str) -> None:
    content = _body(numbers).encode()
    path = f"/api/cache/value?key=raw-{key}"
    status, _ = client.send("PUT", path, content, content_type="application/octet-stream")
    tally.add("raw bodies", status, requests=1)
    status, part = client.get(path, range=f"bytes=0-{len(content) // 2}")
    tally.add("ranges", status, requests=1, sent=len(part) if status == 206 else 0)


def assets(account: Account, tally: Tally, until: float) -> None:
    """Uploads, most of them of content known already; downloads whole, in parts and by signed links."""
    numbers, client = random.Random(2), Client(account.port, account.key)
    while time.monotonic() < until:
        number = numbers.randrange(24)
        content = random.Random(number).randbytes(40_000 + number * 50_000)
        status, raw = client.send("POST", f"/api/assets?key=file{number}&ttl=3600", content)
        tally.add("uploads", status, requests=1)
        if status != 201:
            continue
        stored = json.loads(raw)
        address = f"/api/assets/{stored['asset']}"
        first = numbers.randrange(stored["size"] - 1000)
        status, part = client.get(address, range=f"bytes={first}-{first + 999}")
        tally.add("asset ranges", status, requests=1, sent=len(part))
        status, whole = client.get(stored["signed_url"].partition(str(account.port))[2])
        tally.add("signed links", status, requests=1, sent=len(whole))
        if whole != content:
            tally.trouble("an asset came back changed")
        time.sleep(0.05)
    client.close()


def remote(account: Account, tally: Tally, until: float) -> None:
    """The Python package's own cache over the service, of a customer of its own: how many requests it makes is not
    known here."""
    from agentcache_core import Cache

    numbers = random.Random(3)
    url = f"agentcache+http://127.0.0.1:{account.port}"
    with Cache(url, namespace="metadata", api_key=account.other_key, deadline="30s") as cache:
        while time.monotonic() < until:
            request = {
                "provider": "openai",
                "model": "m",
                "messages": [{"role": "user", "content": str(numbers.randrange(200))}],
            }
            if cache.get(request, default=None) is None:
                cache.set(request, {"text": _body(numbers)}, ttl="60s")
            tally.add("remote calls", 200)
            time.sleep(0.02)


class _Changing(http.server.BaseHTTPRequestHandler):
    """A page that says something else every few seconds."""

    def do_GET(self) -> None:
        content = str(int(time.monotonic() / 5)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def listeners(account: Account, tally: Tally, until: float) -> None:
    """Listeners on pages that change: registered, looked at, removed."""
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Changing)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    client = Client(account.port, account.key)
    for number in itertools.count():
        if time.monotonic() > until:
            break
        url = f"http://127.0.0.1:{site.server_address[1]}/{number}"
        asked = {"url": url, "check_interval": 60, "tags": ["k1"]}
        status, raw = client.post("/api/listeners/register", json.dumps(asked).encode())
        tally.add("listeners", status)
        tally.add("listeners", client.get("/api/listeners")[0])
        if status == 201 and number % 5:
            tally.add("listeners", client.send("DELETE", f"/api/listeners/{json.loads(raw)['listener']}", None)[0])
        time.sleep(min(3.0, max(0.0, until - time.monotonic())))
    client.close()
    site.shutdown()
    site.server_close()


def pages(account: Account, tally: Tally, until: float) -> None:
    """Every page a signed-in customer opens."""
    client = Client(account.port)
    for path in itertools.cycle(PAGES):
        if time.monotonic() > until:
            break
        tally.add("pages", client.get(path, cookie=account.cookie)[0])
        time.sleep(0.05)
    client.close()


def watching(account: Account, tally: Tally, until: float) -> None:
    """A dashboard that is open: live figures for some seconds, then another."""
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", account.port, timeout=60)
        connection.request("GET", "/dashboard/live", headers={"Cookie": account.cookie})
        with connection.getresponse() as stream:
            tally.add("live streams", stream.status)
            leave = min(until, time.monotonic() + 8)
            while time.monotonic() < leave and stream.readline():
                pass
        connection.close()


CLIENTS = (caching, caching, caching, assets, remote, listeners, pages, watching)


def settled_quota(account: Account) -> dict[str, int]:
    """Requests and bytes as the quota tells them once nothing is under way."""
    client, before = Client(account.port, account.key), {}
    while True:
        time.sleep(1.2)
        found = json.loads(client.get("/api/stats")[1])["month"]
        answer = json.loads(client.get("/api/v1/storage/quota")[1])
        now = {"requests": answer["requests"]["used"], "bytes": found["bytes_out"]}
        if now == before:
            client.close()
            return now
        before = now
