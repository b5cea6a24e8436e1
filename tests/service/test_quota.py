"""Quotas: exact under concurrency on both databases, reserved before, recounted after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import service_world as world
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from agentcache_service.clock import FixedClock
from agentcache_service.errors import QuotaExceeded
from agentcache_service.service import Service
from agentcache_service.usage import figures, quota, stock
from agentcache_service.usage.meter import Meter, Place
from agentcache_service.usage.plans import load_plans


def _org(service: Service, plan: str = "starter") -> str:
    return world.make_org(service, world.make_user(service, "ada"), plan=plan)


def _in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_thirty_two_writers_are_admitted_exactly_up_to_the_limit(any_service: Service) -> None:
    org_id, admitted = _org(any_service), []

    def work() -> None:
        for _ in range(5):
            with any_service.db.write() as session:
                if quota.take(session, org_id, "requests", "2026-01", amount=1, limit=100):
                    admitted.append(1)

    _in_threads(32, work)
    assert len(admitted) == 100
    with any_service.db.read() as session:
        assert quota.used(session, org_id, "requests", "2026-01") == 100


def test_the_meter_admits_exactly_up_to_the_limit_under_thirty_two_threads(any_service: Service) -> None:
    org_id, admitted = _org(any_service), []
    now = any_service.clock.now()

    def work() -> None:
        for _ in range(40):
            try:
                any_service.meter.admit(org_id, "requests", amount=1, limit=1000, now=now)
            except QuotaExceeded:
                continue
            admitted.append(1)

    _in_threads(32, work)
    assert len(admitted) == 1000
    any_service.meter.flush(everything=True)
    with any_service.db.read() as session:
        assert quota.used(session, org_id, "requests", "2026-01") == 1000


def test_nobody_waits_for_a_statement_of_somebody_else(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    org_id, now, meter = _org(service), service.clock.now(), service.meter
    meter.admit(org_id, "requests", amount=1, limit=25_000, now=now)  # a block is held now
    writing, finish = threading.Event(), threading.Event()
    take = Meter._take

    def slow(self: Meter, *given: Any) -> int | None:
        writing.set()
        assert finish.wait(60)
        return take(self, *given)

    monkeypatch.setattr(Meter, "_take", slow)
    writer = threading.Thread(
        target=meter.admit, args=(org_id, "bandwidth_bytes"), kwargs={"amount": 5, "limit": 10**9, "now": now}
    )
    writer.start()
    assert writing.wait(60)
    meter.admit(org_id, "requests", amount=1, limit=25_000, now=now)
    meter.count(org_id, "storage", now, requests=1)
    assert not meter.holds(org_id, now)
    finish.set()
    writer.join()
    assert meter._turns == {}
    meter.flush(everything=True)
    with service.db.read() as session:
        assert quota.used(session, org_id, "requests", "2026-01") == 2
        assert quota.used(session, org_id, "bandwidth_bytes", "2026-01") == 5


def test_a_block_that_a_flush_returns_while_more_is_taken_is_counted_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    org_id, now, meter = _org(service), service.clock.now(), service.meter
    put_back = Meter._put_back

    def flushing(self: Meter, place: Place, left: int) -> None:
        monkeypatch.setattr(Meter, "_put_back", put_back)
        meter.flush(everything=True)
        put_back(self, place, left)

    meter.admit(org_id, "bandwidth_bytes", amount=3, limit=10**9, now=now)
    monkeypatch.setattr(Meter, "_put_back", flushing)
    meter.admit(org_id, "bandwidth_bytes", amount=40 << 20, limit=10**9, now=now)
    meter.flush(everything=True)
    with service.db.read() as session:
        assert quota.used(session, org_id, "bandwidth_bytes", "2026-01") == 3 + (40 << 20)


def test_the_quota_answer_has_the_numbers_of_the_contract(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user, plan="pro"), user)
    answer = client.get("/api/v1/storage/quota", headers=dict(key.headers))
    shape = (
        '{"tier":"pro","storage":{"redis":{"limit_mb":500,"used_mb":0,"available_mb":500},'
        '"jettythunder":{"limit_gb":20,"used_gb":0.0,"available_gb":20.0,"percent_used":0.0}},'
        '"bandwidth":{"limit_gb":50,"used_gb":0.0,"available_gb":50.0},'
        '"requests":{"limit":150000,"used":0,"available":150000}}'
    )
    assert answer.text == shape


def test_two_processes_together_never_pass_the_limit_and_leave_nothing_over(service: Service) -> None:
    org_id, now = _org(service), service.clock.now()
    meters = [Meter(service), Meter(service)]
    admitted = 0
    for turn in range(3000):
        try:
            meters[turn % 2].admit(org_id, "requests", amount=1, limit=2500, now=now)
            admitted += 1
        except QuotaExceeded:
            for meter in meters:
                meter.flush()
    assert admitted == 2500


def test_what_a_process_took_ahead_and_did_not_use_goes_back(service: Service) -> None:
    org_id, now = _org(service, "business"), service.clock.now()
    service.meter.admit(org_id, "requests", amount=1, limit=500_000, now=now)
    with service.db.read() as session:
        assert (quota.used(session, org_id, "requests", "2026-01") or 0) > 1
    service.meter.flush()
    service.meter.flush()
    with service.db.read() as session:
        assert quota.used(session, org_id, "requests", "2026-01") == 1


def _item(org_id: str, name: str, size: int, *, digest: str | None = None) -> stock.Item:
    return stock.Item(org_id, "storage", name, "hot_bytes", size, digest or f"digest of {name}")


def _store(service: Service, item: stock.Item) -> bool:
    return stock.commit(service, stock.reserve(service, item), item)


def _used(service: Service, org_id: str) -> int:
    with service.db.read() as session:
        return quota.used(session, org_id, "hot_bytes", quota.STOCK) or 0


def test_storage_is_reserved_before_and_refused_in_the_words_of_the_contract(any_service: Service) -> None:
    org_id = _org(any_service, "free")
    _store(any_service, _item(org_id, "a", 10_000_000))
    with pytest.raises(QuotaExceeded) as refused:
        stock.reserve(any_service, _item(org_id, "b", 1_000_000))
    assert refused.value.status == 402
    assert refused.value.message == "Storage limit exceeded. Used: 0.009GB / 0.010GB"
    assert refused.value.extra == {"upgrade_url": "http://testserver/pricing"}


def test_replacing_an_item_charges_the_difference_and_removing_it_frees_it(any_service: Service) -> None:
    org_id = _org(any_service)
    _store(any_service, _item(org_id, "a", 100, digest="one"))
    _store(any_service, _item(org_id, "a", 70, digest="two"))
    assert _used(any_service, org_id) == 70
    with any_service.db.write() as session:
        stock.remove(session, org_id, [("storage", "a")])
    assert _used(any_service, org_id) == 0


def test_equal_content_of_one_organization_is_charged_once(any_service: Service) -> None:
    org_id = _org(any_service)
    assert not _store(any_service, _item(org_id, "a", 100, digest="same"))
    assert _store(any_service, _item(org_id, "b", 100, digest="same"))
    assert _used(any_service, org_id) == 100
    with any_service.db.write() as session:
        stock.remove(session, org_id, [("storage", "a")])
    assert _used(any_service, org_id) == 100
    with any_service.db.write() as session:
        stock.remove(session, org_id, [("storage", "b")])
    assert _used(any_service, org_id) == 0


def test_equal_content_of_another_organization_is_nobodys_duplicate(service: Service) -> None:
    ours = _org(service)
    theirs = world.make_org(service, world.make_user(service, "eve"), name="Others")
    _store(service, _item(ours, "a", 100, digest="same"))
    assert not _store(service, _item(theirs, "a", 100, digest="same"))


def test_a_reservation_nobody_came_back_for_is_swept(any_service: Service, clock: FixedClock) -> None:
    org_id = _org(any_service)
    hold = stock.reserve(any_service, _item(org_id, "a", 100))
    assert _used(any_service, org_id) == 100
    clock.advance(minutes=11)
    with any_service.db.write() as session:
        assert quota.sweep(any_service, session) == 1
    assert _used(any_service, org_id) == 0
    with any_service.db.write() as session:
        assert not quota.release(session, hold)
    assert _used(any_service, org_id) == 0


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["store", "remove", "abandon"]),
            st.sampled_from("abcd"),
            st.sampled_from(["x", "y", "z"]),
        ),
        max_size=25,
    )
)
def test_the_counter_always_equals_the_recount(
    steps: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from service_conftest import make_service, make_settings

    service = make_service(make_settings(tmp_path_factory.mktemp("law")), FixedClock())
    org_id, sizes = _org(service), {"x": 10, "y": 200, "z": 3000}
    for step, name, digest in steps:
        item = _item(org_id, name, sizes[digest], digest=digest)
        if step == "store":
            _store(service, item)
        elif step == "abandon":
            stock.give_up(service, stock.reserve(service, item))
        else:
            with service.db.write() as session:
                stock.remove(session, org_id, [("storage", name)])
        with service.db.read() as session:
            assert stock.recount(session, org_id, "hot_bytes") == _used(service, org_id)
    service.close()


def test_the_quota_answer_has_the_shape_of_the_contract(service: Service) -> None:
    assert figures.quota_answer(service, _org(service, "pro")) == {
        "tier": "pro",
        "storage": {
            "redis": {"limit_mb": 500, "used_mb": 0, "available_mb": 500},
            "jettythunder": {"limit_gb": 20, "used_gb": 0.0, "available_gb": 20.0, "percent_used": 0.0},
        },
        "bandwidth": {"limit_gb": 50, "used_gb": 0.0, "available_gb": 50.0},
        "requests": {"limit": 150000, "used": 0, "available": 150000},
    }


def test_percent_used_is_null_where_the_limit_is_zero(service: Service) -> None:
    assert figures.quota_answer(service, _org(service, "free"))["storage"]["jettythunder"]["percent_used"] is None


def test_the_plan_table_is_the_contracts(service: Service) -> None:
    plans = load_plans(service.settings).by_name
    mb, gb = 1 << 20, 1 << 30
    table = {
        name: (
            plan.price_micros // 1_000_000,
            plan.limits["requests"],
            plan.limits["hot_bytes"],
            plan.limits["asset_bytes"],
            plan.limits["namespaces"],
            plan.limits["api_keys"],
            sorted(plan.features & {"multimodal", "accelerated_transfer", "anti_cache", "teams"}),
        )
        for name, plan in plans.items()
    }
    some, every = ["anti_cache", "multimodal"], ["accelerated_transfer", "anti_cache", "multimodal", "teams"]
    assert table == {
        "free": (0, 1_000, 10 * mb, 0, 2, 1, []),
        "starter": (19, 25_000, 100 * mb, 2 * gb, 5, 3, some),
        "pro": (49, 150_000, 500 * mb, 20 * gb, 20, 10, every),
        "business": (149, 500_000, 2 * gb, 100 * gb, 50, 25, every),
        "enterprise": (500, None, 10 * gb, 1024 * gb, None, None, every),
    }
