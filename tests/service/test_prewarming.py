"""Prewarming: one bad item, one bad night, one long job: each harms itself only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from service_stand import Stand, stand_in

from agentcache_service import app
from agentcache_service.cacheapi import calls, prewarm
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.usage import quota

LIST = "https://data.example/list.json"


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def _start(stand: Stand, items: list[Any] | None = None, **body: Any) -> dict[str, Any]:
    given = {"requests": items, **body} if items is not None else body
    answer = stand.api.post(
        "/api/cache/prewarm", content=json.dumps(given), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()


def _status(stand: Stand, job: str) -> dict[str, Any]:
    return stand.api.get(f"/api/cache/prewarm/{job}").json()


def _requests(stand: Stand) -> int:
    stand.service.meter.flush(everything=True)
    with stand.service.db.read() as session:
        return quota.used(session, stand.org_id, "requests", f"{stand.clock.now():%Y-%m}") or 0


ODD = [
    {"key": "a", "value": 1, "ttl": 1e300},
    {"key": "b", "value": 1, "ttl": float("inf")},
    {"key": "c", "value": 2**80},
    {"key": "d", "value": "\ud800"},
    {"key": ["list"], "value": 1},
    {"key": {"a": 1}, "value": 1},
    {"key": "e", "value": 1, "tags": "text"},
    {"key": "f", "value": 1, "tags": ["t" * 300]},
    {"key": "g", "value": 1, "usd_micros": 2**70},
    {"key": "h"},
    {"provider": 3, "request": {"\ud800": 1}, "value": 1},
]


def test_odd_items_are_told_and_left_and_the_others_are_stored(stand: Stand) -> None:
    job = _start(stand, [*ODD, {"key": "good", "value": 1}])["job"]
    stand.turn()
    told = _status(stand, job)
    assert (told["state"], told["done"], told["total"]) == ("done", len(ODD) + 1, len(ODD) + 1)
    assert stand.api.post("/api/cache/get", json={"key": "good"}).json()["hit"]
    assert len(told["log"]) >= 9


def test_an_item_that_breaks_our_own_code_is_told_and_nothing_is_charged_twice(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = calls.put

    def breaking(service: Any, place: Any, address: Any, value: Any, **options: Any) -> Any:
        if value == "breaks":
            raise ZeroDivisionError
        return put(service, place, address, value, **options)

    monkeypatch.setattr(calls, "put", breaking)
    job = _start(stand, [{"key": f"k{n}", "value": "breaks" if n == 3 else n} for n in range(6)])["job"]
    stand.turn()
    stand.turn(hours=1)
    told = _status(stand, job)
    assert (told["state"], told["done"], told["log"]) == ("done", 6, ["item 3: failed (ZeroDivisionError)"])
    assert _requests(stand) == 6


def test_a_job_that_is_cut_off_goes_on_where_it_was(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = prewarm.note_progress

    def cut(database: Any, clock: Any, claim: Claim, progress: Any) -> bool:
        told = tell(database, clock, claim, progress)
        if progress["done"] == 4 and claim.attempt == 1:
            raise KeyError("the process is gone")
        return told

    monkeypatch.setattr(prewarm, "note_progress", cut)
    job = _start(stand, [{"key": f"k{n}", "value": n} for n in range(7)])["job"]
    stand.turn()
    assert (_status(stand, job)["state"], _status(stand, job)["done"]) == ("queued", 4)
    stand.turn(hours=1)
    assert (_status(stand, job)["state"], _status(stand, job)["done"]) == ("done", 7)
    assert _requests(stand) == 7


def test_a_long_job_lets_others_have_a_turn(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prewarm, "SLICE", 0.0)
    stand.web.show(LIST, json.dumps([{"key": f"k{n}", "value": n} for n in range(20)]).encode())
    job = _start(stand, source=LIST)["job"]
    turns: list[str] = []
    functions = dict(stand.worker._functions)
    stand.worker._functions.update(
        {kind: (lambda claim, kind=kind: (turns.append(kind), functions[kind](claim))) for kind in functions}
    )
    stand.worker._functions["other"] = lambda claim: turns.append("other")
    assert stand.worker.run_one()
    del stand.web.pages[LIST]  # it was fetched once and for all
    with stand.service.db.write() as session:
        enqueue(session, stand.clock, "other", {}, run_at=stand.clock.now() - timedelta(seconds=1))
    stand.worker.run_due()
    assert turns.index("other") < len(turns) - 10
    assert (_status(stand, job)["state"], _status(stand, job)["done"]) == ("done", 20)
    assert _requests(stand) == 20


def test_a_full_plan_ends_the_job_at_the_first_refusal(stand: Stand) -> None:
    with stand.service.db.write() as session:
        limit = stand.service.plans.by_name["pro"].limits["requests"] or 0
        quota.take(session, stand.org_id, "requests", f"{stand.clock.now():%Y-%m}", amount=limit - 3, limit=None)
    job = _start(stand, [{"key": f"k{n}", "value": n} for n in range(50)])["job"]
    stand.turn()
    told = _status(stand, job)
    assert (told["state"], told["done"], len(told["log"])) == ("done", 4, 1)


def test_a_schedule_survives_nights_without_its_source_is_listed_and_can_be_stopped(stand: Stand) -> None:
    begun = _start(stand, source=LIST, schedule="nightly")
    for _ in range(3):  # the source is away for three nights: every job is given up after its tries
        for _ in range(24):
            stand.turn(hours=1)
    (listed,) = stand.api.get("/api/cache/prewarm").json()
    assert (listed["schedule"], listed["source"], listed["items"]) == (begun["schedule"], LIST, None)
    assert _status(stand, begun["job"])["state"] == "failed"
    stand.web.show(LIST, b'[{"key": "k", "value": 1}]')
    stand.turn(days=1)
    assert stand.api.post("/api/cache/get", json={"key": "k"}).json()["hit"]
    elsewhere = stand.key(namespaces=["cdn"], use_in="cdn")
    assert elsewhere.get("/api/cache/prewarm").json() == []
    assert elsewhere.delete(f"/api/cache/prewarm/{begun['schedule']}").status_code == 404
    assert stand.api.delete(f"/api/cache/prewarm/{begun['schedule']}").status_code == 200
    stand.api.post("/api/cache/invalidate", json={"key": "k"})
    stand.turn(days=1)
    assert not stand.api.post("/api/cache/get", json={"key": "k"}).json()["hit"]
    assert stand.api.get("/api/cache/prewarm").json() == []


def test_schedules_are_bounded_per_organization(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcache_service.cacheapi.schedules.PER_ORG", 2)
    for _ in range(2):
        _start(stand, [], schedule="weekly")
    answer = stand.api.post("/api/cache/prewarm", json={"requests": [], "schedule": "weekly"})
    assert (answer.status_code, answer.json()["error"]) == (422, "schedules_many")


def test_mails_and_sweeps_are_done_while_a_slow_job_waits_for_somebody(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, done, stopping = threading.Event(), threading.Event(), threading.Event()

    def functions(_service: Any) -> dict[str, Any]:
        return {prewarm.PREWARM: lambda _claim: waiting.wait(60), "mail": lambda _claim: done.set()}

    monkeypatch.setattr(app, "job_functions", functions)
    monkeypatch.setattr(app, "REPEATED", ())
    with stand.service.db.write() as session:
        enqueue(session, stand.clock, prewarm.PREWARM, {})
        enqueue(session, stand.clock, "mail", {})
    thread = threading.Thread(target=app.work_until, args=(stand.service, stopping), daemon=True)
    thread.start()
    assert done.wait(60)
    assert not waiting.is_set()
    waiting.set()
    stopping.set()
    thread.join()
