"""People and machines of the marketplaces' tests: a creator, a buyer, and a model that counts how often it is asked."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from agentcache_service import schema
from agentcache_service.app import build_app
from agentcache_service.clock import FixedClock
from agentcache_service.identity.passwords import Passwords
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.money.reconcile import reconcile
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings

_spec = importlib.util.spec_from_file_location("market_world", Path(__file__).parents[1] / "world.py")
assert _spec is not None
assert _spec.loader is not None
world = importlib.util.module_from_spec(_spec)
sys.modules["market_world"] = world
_spec.loader.exec_module(world)


@dataclass
class Upstream:
    """A creator's model: an OpenAI-shaped endpoint that remembers what it was asked."""

    address: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]] | None = None


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    state = Upstream("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}
            state.asked.append(asked)
            if state.answer is not None:
                status, headers, answer = state.answer(asked)
            else:
                usage = {"prompt_tokens": 7, "completion_tokens": 5}
                text = {"choices": [{"message": {"content": f"answer {len(state.asked)}"}}], "usage": usage}
                status, headers, answer = 200, {"content-type": "application/json"}, json.dumps(text).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shop(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    """A service whose outgoing calls may reach this machine."""
    settings = Settings(
        data_dir=tmp_path,
        public_url="http://testserver",
        worker_in_process=False,
        rate_limits=False,
        outgoing_allow=["127.0.0.0/8"],
    )
    built = build_service(settings, clock=clock)
    built.passwords = Passwords(memory_kib=64, passes=1)
    schema.upgrade(built.db)
    yield built
    built.close()


@dataclass
class Person:
    """A signed-in person with an organization, and a browser."""

    http: TestClient
    org_id: str
    user_id: str
    headers: dict[str, str]
    service: Service

    def sign_in(self) -> None:
        """Begin a new session, as one must after some weeks."""
        self.headers = dict(world.sign_in(self.service, self.user_id).headers)

    def send(self, method: str, path: str, *, expect: int = 200, **sent: Any) -> Any:
        """Send a request and return the JSON of its answer, checking the status."""
        extra = sent.pop("headers", {})
        answer = self.http.request(method, path, headers={**self.headers, **extra}, **sent)
        assert answer.status_code == expect, (answer.status_code, answer.text[:500])
        return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer


@pytest.fixture
def person(shop: Service) -> Iterator[Callable[..., Person]]:
    """Makes people; `staff=True` makes a platform admin."""
    app = build_app(service=shop)

    def make(name: str, *, staff: bool = False, card: str | None = None) -> Person:
        user = world.make_user(shop, name, role="admin" if staff else "user")
        org = world.make_org(shop, user, name=name.title())
        caller = world.sign_in(shop, user, second_factor=staff)
        made = Person(TestClient(app, follow_redirects=False), org, user, dict(caller.headers), shop)
        if card is not None:
            made.send("POST", "/api/billing/card", json={"card": card})
        return made

    return make


@pytest.fixture
def books(shop: Service) -> Callable[[], dict[str, int]]:
    """The ledger's balances, after proving the books."""

    def prove() -> dict[str, int]:
        report = reconcile(shop.db, CHECKS)
        assert report.problems == ()
        return {account: amount for account, amount in report.balances.items() if amount}

    return prove
