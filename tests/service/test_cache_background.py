"""What the cache API does in the background: listeners, webhooks, prewarming; and assets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from sqlalchemy import select
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.areas import REPEATED, job_functions
from agentcache_service.cacheapi import prewarm
from agentcache_service.clock import FixedClock
from agentcache_service.jobs import Worker
from agentcache_service.safe_http import AddressRefused, Caps, Fetched, FetchFailed, SafeClient
from agentcache_service.service import Service
from agentcache_service.usage import quota
from agentcache_service.usage.tables import UsageCounter


@dataclass
class Web(SafeClient):
    """A web of our own: pages by address, and the posts it received. Stands where the guarded client stands."""

    pages: dict[str, Fetched] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    hook_status: int = 200

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

    def turn(self, **time: float) -> None:
        """Let time pass and do everything that is due."""
        self.clock.advance(**time)
        self.worker.plant(REPEATED)
        self.worker.run_due()
        self.worker.run_due()


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    clock, web = FixedClock(), Web()
    service = make_service(make_settings(tmp_path), clock)
    service.outgoing = web
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user, plan="pro"), user)
    api = TestClient(build_app(service=service), headers=dict(key.headers))
    yield Stand(service, clock, web, api, Worker(service.db, clock, job_functions(service)))
    service.close()


PAGE = "https://news.example/a"


def _register(stand: Stand, **options: Any) -> dict[str, Any]:
    body = {"url": PAGE, "check_interval": 600, "tags": ["news"], **options}
    answer = stand.api.post("/api/listeners/register", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def _has(stand: Stand, key: str) -> bool:
    hit: bool = stand.api.post("/api/cache/get", json={"key": key}).json()["hit"]
    return hit


def _fill(stand: Stand) -> None:
    for key, options in {"tagged": {"tags": ["news"]}, "sourced": {"sources": [PAGE]}, "other": {}}.items():
        assert stand.api.post("/api/cache/set", json={"key": key, "value": 1, **options}).status_code == 200


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"etag": '"1"'}, {"etag": '"2"'}, ["etag"]),
        ({"last_modified": "Mon"}, {"last_modified": "Tue"}, ["last_modified"]),
        ({}, {}, []),
    ],
)
def test_a_changed_header_invalidates_and_an_equal_page_does_not(
    stand: Stand, before: dict[str, str], after: dict[str, str], changed: list[str]
) -> None:
    stand.web.show(PAGE, b"one", **before)
    assert _register(stand)["freshness"] == "fresh"
    _fill(stand)
    stand.web.show(PAGE, b"one", **after)
    stand.turn(minutes=11)
    assert (_has(stand, "tagged"), _has(stand, "sourced"), _has(stand, "other")) == (not changed, not changed, True)


def test_changed_content_invalidates_tags_and_source_and_calls_the_signed_webhook(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    made = _register(stand, webhook="https://hooks.example/in")
    _fill(stand)
    stand.web.show(PAGE, b"two")
    stand.turn(minutes=11)
    assert (_has(stand, "tagged"), _has(stand, "sourced"), _has(stand, "other")) == (False, False, True)
    ((url, headers, body),) = stand.web.posts
    assert url == "https://hooks.example/in"
    signature = Webhook(made["webhook_secret"]).sign(headers["webhook-id"], stand.clock.now(), body.decode())
    assert headers["webhook-signature"] == signature
    told = json.loads(body)
    assert (told["type"], told["data"]["changed"], told["data"]["invalidated"]) == ("listener.changed", ["content"], 2)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["webhook_secret"]).verify(body, {**headers, "webhook-signature": "v1,AAAA"})
    stand.turn(minutes=11)
    assert len(stand.web.posts) == 1


def test_a_webhook_that_is_not_taken_comes_again_with_the_same_id_and_is_given_up_at_last(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    _register(stand, webhook="https://hooks.example/in")
    stand.web.show(PAGE, b"two")
    stand.web.hook_status = 500
    stand.turn(minutes=11)
    for _ in range(40):
        stand.clock.advance(hours=6)
        stand.worker.run_due()
    assert len(stand.web.posts) == 10
    assert len({headers["webhook-id"] for _, headers, _ in stand.web.posts}) == 1


def test_freshness_goes_from_fresh_to_stale_to_expired_when_the_address_is_silent(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    _register(stand)
    del stand.web.pages[PAGE]

    def state() -> tuple[str, str | None]:
        (row,) = stand.api.get("/api/listeners").json()
        return row["freshness"], row["trouble"]

    assert state() == ("fresh", None)
    stand.turn(minutes=16)
    assert state() == ("stale", "no answer")
    stand.turn(minutes=16)
    assert state() == ("expired", "no answer")
    stand.web.show(PAGE, b"one")
    stand.turn(minutes=11)
    assert state() == ("fresh", None)


def test_an_internal_address_cannot_be_listened_to(stand: Stand) -> None:
    for body in ({"url": "http://10.0.0.1/"}, {"url": PAGE, "webhook": "http://10.0.0.1/"}):
        answer = stand.api.post("/api/listeners/register", json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "address_refused")


def test_prewarming_stores_values_and_pages_and_tells_what_it_could_not_do(stand: Stand) -> None:
    stand.web.show("https://data.example/x.json", b'{"a": 1}', content_type="application/json")
    items = [
        {"key": "plain", "value": {"v": 1}, "usd_micros": 700},
        {"provider": "openai", "request": {"model": "m", "messages": []}, "response": "r"},
        {"url": "https://data.example/x.json", "ttl": 60},
        {"provider": "openai", "request": {"model": "m", "messages": [1]}},
        {"url": "https://gone.example/"},
    ]
    job = stand.api.post("/api/cache/prewarm", json={"requests": items})
    assert job.status_code == 202
    path = f"/api/cache/prewarm/{job.json()['job']}"
    assert stand.api.get(path).json()["state"] == "queued"
    stand.turn()
    told = stand.api.get(path).json()
    assert (told["state"], told["done"], told["total"]) == ("done", 5, 5)
    assert told["cost"] == {"usd_micros": 700, "bytes": 8}
    assert [line.partition(":")[0] for line in told["log"]] == ["item 3", "item 4"]
    assert stand.api.post("/api/cache/get", json={"key": "plain"}).json()["saved"]["usd_micros"] == 700
    assert stand.api.post("/api/cache/get", json={"key": "https://data.example/x.json"}).json()["value"] == {"a": 1}


def test_a_schedule_runs_again_and_again(stand: Stand) -> None:
    stand.web.show("https://data.example/list.json", json.dumps([{"key": "k", "value": 1}]).encode())
    body = {"source": "https://data.example/list.json", "schedule": "nightly"}
    assert stand.api.post("/api/cache/prewarm", json=body).status_code == 202
    for _ in range(3):
        stand.turn(days=1)
        assert _has(stand, "k")
        stand.api.post("/api/cache/invalidate", json={"key": "k"})
        assert not _has(stand, "k")


@pytest.mark.parametrize("schedule", ["hourly", "* * * * *", "*/5 * * * *", "61 * * * *"])
def test_schedules_that_are_wrong_or_too_frequent_are_refused(stand: Stand, schedule: str) -> None:
    answer = stand.api.post("/api/cache/prewarm", json={"requests": [], "schedule": schedule})
    assert (answer.status_code, answer.json()["error"]) == (422, "schedule")


def test_nightly_is_three_in_the_morning(clock: FixedClock) -> None:
    at = prewarm.next_run(prewarm.cron_of("nightly"), clock.now())
    assert f"{at:%Y-%m-%d %H:%M}" == "2026-01-16 03:00"


def test_an_asset_is_stored_once_and_read_in_parts_by_key_and_by_link(stand: Stand) -> None:
    content = bytes(range(256)) * 2000
    first = stand.api.post("/api/assets", params={"key": "fw/1.bin"}, content=content).json()
    again = stand.api.post("/api/assets", params={"key": "fw/copy.bin"}, content=content).json()
    assert (first["deduplicated"], again["deduplicated"]) == (False, True)
    assert again["url"] == first["url"]
    with stand.service.db.read() as session:
        row = session.scalars(select(UsageCounter).where(UsageCounter.metric == "asset_bytes")).one()
    assert (row.period, row.used) == (quota.STOCK, len(content))
    path = first["url"].removeprefix("http://testserver")
    assert stand.api.get(path).content == content
    part = stand.api.get(path, headers={"range": "bytes=1000-1009"})
    assert (part.status_code, part.content) == (206, content[1000:1010])
    assert stand.api.get(path, headers={"range": "bytes=-5"}).content == content[-5:]
    anybody = TestClient(build_app(service=stand.service))
    link = first["signed_url"].removeprefix("http://testserver")
    assert anybody.get(link).content == content
    assert anybody.get(link.replace(first["asset"], "ast_other")).status_code == 404
    assert anybody.get(link[:-2]).status_code == 404
    assert anybody.get(path).status_code == 401
    stand.clock.advance(hours=2)
    assert anybody.get(link).status_code == 404
    assert stand.api.get(path).status_code == 200


def test_assets_need_a_plan_that_includes_them(tmp_path: Any) -> None:
    service = make_service(make_settings(tmp_path), FixedClock())
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user, plan="free"), user, use_in="cdn")
    client = TestClient(build_app(service=service), headers=dict(key.headers))
    answer = client.post("/api/assets", params={"key": "k"}, content=b"x")
    assert (answer.status_code, answer.json()["error"]) == (402, "feature_not_in_plan")
    service.close()
