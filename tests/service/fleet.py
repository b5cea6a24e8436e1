"""Everything an installation over several machines has, as real processes on this one, set up by the environment only.

PostgreSQL, Redis and an S3 endpoint; `agentcache-service serve --workers 2`, whose servers do jobs too; and beside them
`agentcache-service worker` with a data folder of its own, as on another machine: what is not in a shared store is not
found there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from agentcache_core.testing.servers import RedisServer, S3Server, free_port, peer_of

PATIENCE_S = 60.0
STARTING_S = 150.0
IDLE_S = 2.0
HOST = "127.0.0.1"
CSRF = "x-csrf-token"


def until(ask: Callable[[], Any], *, patience: float = PATIENCE_S) -> Any:
    """The first true answer; an answer that does not come is an error."""
    end = time.monotonic() + patience
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError("this never became true")
        time.sleep(0.05)
    return answer


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Line:
    """A connection that always leads to the same server process: `pid` says which, from the kernel's tables.

    The server closes what is idle for some seconds; another connection to the same process is then looked for.
    `headers` go with every request, unless it carries others instead.
    """

    def __init__(self, fleet: Fleet, pid: int = 0) -> None:
        self._fleet = fleet
        self.headers: dict[str, str] = {}
        self._dial(pid)

    def _dial(self, pid: int = 0) -> None:
        """Connect, again and again until it is the process that is wanted (0: any)."""
        self._connect()
        while pid not in (0, self.pid):
            self._connection.close()
            self._connect()

    def _connect(self) -> None:
        self._connection = http.client.HTTPConnection(HOST, self._fleet.port, timeout=PATIENCE_S)
        self._send("GET", "/healthz", None, {})
        self.pid = self._fleet.pid_behind(self._connection.sock)

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, path, body, headers)
        found = self._connection.getresponse()
        self._asked = time.monotonic()
        return Answer(found.status, {name.lower(): text for name, text in found.getheaders()}, found.read())

    def ask(
        self, method: str, path: str, body: Any = None, *, carrying: Mapping[str, str] | None = None, **headers: str
    ) -> Answer:
        """One request; anything but bytes is sent as JSON."""
        if time.monotonic() - self._asked > IDLE_S:
            self._connection.close()
            self._dial(self.pid)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**(self.headers if carrying is None else carrying), **named}
        if body is not None and not isinstance(body, bytes):
            body, sent["content-type"] = json.dumps(body).encode(), "application/json"
        return self._send(method, path, body, sent)

    def post(self, path: str, **body: Any) -> Any:
        """The JSON of a POST that must succeed."""
        answer = self.ask("POST", path, body)
        assert answer.status < 300, (path, answer.status, answer.body[:500])
        return answer.json

    def events(self, path: str) -> Generator[dict[str, Any]]:
        """The data of server-sent events, one after the other."""
        self._connection.request("GET", path, headers=self.headers)
        with self._connection.getresponse() as stream:
            assert stream.status == 200
            while raw := stream.readline():
                if raw.startswith(b"data: "):
                    yield json.loads(raw[6:])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Site:
    """A web site of ours that listeners watch and webhooks call: what it shows, and how often it was asked for what."""

    content: bytes = b"first"
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""
    _server: Any = None

    def start(self) -> None:
        site = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked[self.path] += 1
                self.send_response(200)
                self.send_header("content-length", str(len(site.content)))
                self.end_headers()
                self.wfile.write(site.content)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                site.asked[f"POST {self.path}"] += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Page)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who signed up: how to sign in, and the key."""

    email: str
    password: str
    org_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.key, "x-namespace": "storage"}


class Fleet:
    """The processes. `settings` is all they were told."""

    def __init__(self, folder: Path, database_url: str, redis: RedisServer, s3: S3Server, plans: Path) -> None:
        self.folder, self.port, self.site = folder, free_port(), Site()
        place, _, options = s3.url.partition("?")
        self.tiers = [f"{redis.url}?timeout=10s", f"{place}/cache?{options}"]
        self.database_url = database_url
        self.settings = {
            "DATABASE_URL": database_url,
            "CACHE_TIERS": ",".join(self.tiers),
            "FILES_URL": f"{place}/files?{options}",
            "REDIS_URL": redis.url.replace("/0", "/1"),
            "MASTER_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            "PORT": str(self.port),
            "OUTGOING_ALLOW": "127.0.0.0/8",
            "PLANS_FILE": str(plans),
            "LOG_LEVEL": "warning",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str, home: str) -> subprocess.Popen[bytes]:
        """Start a command of the service on a machine of its own: nothing but `settings` and a folder."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("AGENTCACHE_")}
        environment |= {f"AGENTCACHE_SERVICE_{name}": text for name, text in self.settings.items()}
        environment["AGENTCACHE_SERVICE_DATA_DIR"] = str(self.folder / home)
        log = (self.folder / f"{home}.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "agentcache_service.cli", *words], env=environment, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start everything, and wait until both servers answer."""
        self.site.start()
        self._processes.append(self.command("serve", "--workers", "2", home="machine-0"))
        until(self._answers, patience=STARTING_S)
        self._processes.append(self.command("worker", home="machine-1"))
        for line in self.lines():
            line.close()

    def _answers(self) -> bool:
        assert self._processes[0].poll() is None, self.logs()
        with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection(HOST, self.port)) as asking:
            asking.request("GET", "/readyz")
            answer = asking.getresponse()
            answer.read()
            return answer.status == 200
        return False

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log")))

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(PATIENCE_S)
        self.site.stop()

    # Which process is it

    def pid_behind(self, connection: socket.socket) -> int:
        """The server process that holds the other end of a connection of ours."""
        return int(until(lambda: peer_of(connection, self.servers())))

    def servers(self) -> list[int]:
        """The children of `serve`."""
        parent = self._processes[0].pid
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    def lines(self) -> list[Line]:
        """A connection to each of the two server processes."""
        found: dict[int, Line] = {}

        def both() -> bool:
            line = Line(self)
            if line.pid in found:
                line.close()
            found.setdefault(line.pid, line)
            return len(found) == 2

        until(both, patience=STARTING_S)
        return list(found.values())

    # A customer's first minutes

    def sign_up(self, line: Line, other: Line, name: str) -> Customer:
        """Register on one server, read the mail that a worker wrote on another, confirm there."""
        form = {"email": f"{name}@example.com", "password": "a long phrase for scale", "organization": f"Firm {name}"}
        line.post("/api/account/register", **form, username=name, sector="filestorage")
        token = until(lambda: self._token(other, form["email"]))
        made = other.post("/api/account/verify", token=token)
        return Customer(form["email"], form["password"], made["organization"], made["api_key"])

    def _token(self, line: Line, address: str) -> str | None:
        for name in self.mails(line):
            text = line.ask("GET", f"/outbox/{name}").body.decode()
            if address in text and (token := re.search(r"token=([\w-]+)", text)):
                return token[1]
        return None

    def mails(self, line: Line) -> list[str]:
        """The mails in the outbox, as the browser lists them."""
        page = line.ask("GET", "/outbox")
        assert page.status == 200
        return re.findall(r"/outbox/([\w.-]+\.eml)", page.body.decode())

    def sign_in(self, line: Line, customer: Customer) -> dict[str, str]:
        """The headers of a browser that signed in."""
        answer = line.ask("POST", "/api/account/login", {"login": customer.email, "password": customer.password})
        assert answer.status == 200, answer.body
        return {"cookie": answer.headers["set-cookie"].partition(";")[0], CSRF: answer.json["csrf_token"]}
