"""What the cache API does in the background: listeners, webhooks, prewarming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from service_stand import Stand, stand_in
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from agentcache_service.cacheapi import schedules
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import Org


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


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


def test_a_receiver_that_answers_410_is_called_no_more_and_the_listener_says_so(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    made = _register(stand, webhook="https://hooks.example/in")
    stand.web.hook_status = 410
    for content in (b"two", b"three"):
        stand.web.show(PAGE, content)
        stand.turn(minutes=11)
    assert len(stand.web.posts) == 1
    (row,) = stand.api.get("/api/listeners").json()
    assert (row["webhook"], bool(row["webhook_gone_at"])) == ("https://hooks.example/in", True)
    (told,) = stand.api.get(f"/api/listeners/{made['listener']}/deliveries").json()
    assert (told["state"], told["trouble"]) == ("failed", "answered 410: the receiver wants no more")


def test_failed_deliveries_are_listed_and_sent_again_with_their_id(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    path = f"/api/listeners/{_register(stand, webhook='https://hooks.example/in')['listener']}/deliveries"
    stand.web.show(PAGE, b"two")
    stand.web.hook_status = 500
    stand.turn(minutes=11)
    (waiting,) = stand.api.get(path).json()
    assert (waiting["state"], waiting["attempts"], waiting["trouble"]) == ("queued", 1, "answered 500")
    again = f"{path}/{waiting['delivery']}/replay"
    assert stand.api.post(again).status_code == 409
    for _ in range(40):
        stand.clock.advance(hours=6)
        stand.worker.run_due()
    (failed,) = stand.api.get(path).json()
    assert (failed["state"], failed["attempts"], failed["trouble"]) == ("failed", 10, "answered 500")
    stand.web.hook_status = 200
    assert stand.api.post(again).json()["state"] == "queued"
    stand.worker.run_due()
    (done,) = stand.api.get(path).json()
    assert (done["state"], done["trouble"]) == ("done", None)
    assert len({headers["webhook-id"] for _, headers, _ in stand.web.posts}) == 1
    elsewhere = stand.key(namespaces=["cdn"], use_in="cdn")
    assert elsewhere.get(path).status_code == 404
    assert elsewhere.post(again).status_code == 404


def test_listeners_pause_while_the_plan_has_none_and_go_on_when_it_has(stand: Stand) -> None:
    stand.web.show(PAGE, b"one")
    _register(stand, webhook="https://hooks.example/in")
    _fill(stand)

    def move_to(plan: str) -> None:
        with stand.service.db.write() as session:
            session.get_one(Org, stand.org_id).plan = plan

    move_to("free")
    stand.web.show(PAGE, b"two")
    looked = stand.web.looks
    stand.turn(minutes=11)
    stand.turn(minutes=60)
    assert (stand.web.looks, stand.web.posts, _has(stand, "tagged")) == (looked, [], True)
    (row,) = stand.api.get("/api/listeners").json()
    assert row["trouble"] == "Paused: the Free plan does not include listeners."
    move_to("pro")
    stand.turn(minutes=61)
    assert (len(stand.web.posts), _has(stand, "tagged")) == (1, False)
    (row,) = stand.api.get("/api/listeners").json()
    assert (row["trouble"], row["freshness"]) == (None, "fresh")


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
    at = schedules.next_run(schedules.cron_of("nightly"), clock.now())
    assert f"{at:%Y-%m-%d %H:%M}" == "2026-01-16 03:00"
