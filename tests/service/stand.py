"""The service with a web of our own: what tests of listeners, prewarming, webhooks and assets stand on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import service_world as world
from service_conftest import make_service, make_settings
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.areas import REPEATED, job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.jobs import Worker
from agentcache_service.safe_http import AddressRefused, Caps, Fetched, FetchFailed, SafeClient
from agentcache_service.service import Service


@dataclass
class Web(SafeClient):
    """A web of our own: pages by address, and the posts it received. Stands where the guarded client stands."""

    pages: dict[str, Fetched] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    hook_status: int = 200
    looks: int = 0

    def check(self, url: str) -> None:
        if ".example" not in url:
            raise AddressRefused("not public")

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Any = None,
        body: bytes = b"",
        caps: Caps | None = None,
        follow: bool = True,
    ) -> Fetched:
        if method == "POST":
            self.posts.append((url, dict(headers or {}), body))
            return Fetched(url, self.hook_status, {}, b"")
        self.looks += 1
        if url not in self.pages:
            raise FetchFailed("no answer")
        page = self.pages[url]
        if page.headers.get("etag") and (headers or {}).get("if-none-match") == page.headers["etag"]:
            return Fetched(url, 304, page.headers, b"")
        return page

    def show(self, url: str, body: bytes, **headers: str) -> None:
        self.pages[url] = Fetched(url, 200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@dataclass
class Stand:
    service: Service
    clock: FixedClock
    web: Web
    api: TestClient
    worker: Worker
    org_id: str
    user_id: str

    def key(self, **options: Any) -> TestClient:
        """A program with another key of the same organization."""
        made = world.make_key(self.service, self.org_id, self.user_id, **options)
        return TestClient(self.api.app, headers=dict(made.headers))

    def browser(self) -> TestClient:
        """The admin's signed-in browser."""
        return TestClient(self.api.app, headers=dict(world.sign_in(self.service, self.user_id).headers))

    def turn(self, **time: float) -> None:
        """Let time pass and do everything that is due."""
        self.clock.advance(**time)
        self.worker.plant(REPEATED)
        self.worker.run_due()
        self.worker.run_due()


@contextmanager
def stand_in(folder: Path, *, plan: str = "pro", **settings: Any) -> Iterator[Stand]:
    """One organization on a plan, with a key, in a fresh installation."""
    clock, web = FixedClock(), Web()
    service = make_service(make_settings(folder, **settings), clock)
    service.outgoing = web
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan=plan)
    key = world.make_key(service, org_id, user)
    api = TestClient(build_app(service=service), headers=dict(key.headers))
    yield Stand(service, clock, web, api, Worker(service.db, clock, job_functions(service)), org_id, user)
    service.close()
