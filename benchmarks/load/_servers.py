"""Servers for the load benchmarks: the service and a bare route, each a process of its own, and a plain client."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "storage"
_BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from agentcache_core.urls import open_backend
backend, name = open_backend(sys.argv[2], face="blocking"), bytes.fromhex(sys.argv[3])
async def body(request):
    await request.body()
    from starlette.concurrency import run_in_threadpool
    stored = await run_in_threadpool(backend.get, name)
    return Response(stored.data)
app = Starlette(routes=[Route("/read", body, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """A customer of the running service: where it listens, its key, its organization and its folder."""

    port: int
    key: str
    org_id: str
    folder: Path


def free_port() -> int:
    """A port nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the port answers; raises when the process ends first."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the server ended before it answered") from None
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


@contextmanager
def _process(command: list[str], port: int, **environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def service(*, workers: int = 1, plan: str = "enterprise", limit_requests: int | None = None) -> Iterator[Account]:
    """The service on SQLite with one customer of a plan. `limit_requests`: that many requests are left this month."""
    from agentcache_service import schema
    from agentcache_service.identity import accounts, orgs
    from agentcache_service.identity.keys import create_key
    from agentcache_service.principal import Principal
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings
    from agentcache_service.usage import quota

    with tempfile.TemporaryDirectory() as folder:
        built = build_service(Settings(data_dir=Path(folder)))
        schema.upgrade(built.db)
        user_id = accounts.create_admin(built, email="load@example.com", username="load", password="a load of phrases")
        with built.db.write() as session:
            org = orgs.create_org(built, session, user_id=user_id, name="Load", sector="filestorage")
            org.plan, org.trial_ends_at = plan, None
            session.flush()
            owner = Principal(kind="session", user_id=user_id, org_id=org.id, role="admin")
            key = create_key(built, session, owner, name="load").secret
            limit = built.plans.by_name[plan].limits["requests"]
            if limit_requests is not None and limit is not None:
                period = quota.period_of("requests", built.clock.now())
                quota.take(session, org.id, "requests", period, amount=limit - limit_requests, limit=None)
            org_id = org.id
        built.close()
        port = free_port()
        command = [sys.executable, "-m", "agentcache_service.cli", "serve"]
        settings = {
            "AGENTCACHE_SERVICE_DATA_DIR": folder,
            "AGENTCACHE_SERVICE_PORT": str(port),
            "AGENTCACHE_SERVICE_WORKERS": str(workers),
            "AGENTCACHE_SERVICE_LOG_LEVEL": "error",
            "AGENTCACHE_SERVICE_RATE_LIMITS": "false",
        }
        with _process(command, port, **settings):
            yield Account(port, key, org_id, Path(folder))


@contextmanager
def bare(url: str, name: bytes) -> Iterator[int]:
    """A Starlette route that reads one name of a backend and answers it, nothing else; its port."""
    port = free_port()
    with _process([sys.executable, "-c", _BARE, str(port), url, name.hex()], port):
        yield port


class Client:
    """One connection that is kept, and the simplest client there is, so that servers are measured and not clients."""

    def __init__(self, port: int, key: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Content-Type": "application/json", "X-API-Key": key, "X-Namespace": NAMESPACE}

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of one POST."""
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def call(self, path: str, **body: object) -> dict[str, object]:
        """One JSON call; raises unless it is a 2xx."""
        status, raw = self.post(path, json.dumps(body).encode())
        if status >= 300:
            raise RuntimeError(f"{path} answered {status}: {raw[:200]!r}")
        found: dict[str, object] = json.loads(raw)
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def milliseconds(routes: list[tuple[Client, str]], body: bytes, *, calls: int) -> list[list[float]]:
    """The times of each route's calls, asked in turn, one call at a time."""
    times: list[list[float]] = [[] for _ in routes]
    for _ in range(calls):
        for (client, path), spent in zip(routes, times, strict=True):
            began = time.perf_counter()
            status, _ = client.post(path, body)
            spent.append((time.perf_counter() - began) * 1000)
            if status != 200:
                raise RuntimeError(f"{path} answered {status}")
    return times


def throughput(port: int, key: str, body: bytes, *, clients: int, seconds: float) -> float:
    """Calls per second of several clients at once, each with a connection of its own."""
    done: list[int] = []
    until = time.perf_counter() + seconds

    def work() -> None:
        client, count = Client(port, key), 0
        while time.perf_counter() < until:
            client.post("/api/cache/get", body)
            count += 1
        client.close()
        done.append(count)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def median(values: list[float]) -> float:
    """The middle value."""
    return statistics.median(values)
