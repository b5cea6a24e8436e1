"""The marketplaces on both databases: what is written in SQL works on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from agentcache_service.clock import FixedClock
from agentcache_service.errors import ServiceError
from agentcache_service.market import (
    affiliates,
    creator_analytics,
    earnings,
    forwarding,
    partner_jobs,
    platform_analytics,
    purchases,
    recommendations,
    reviews,
    search,
    seeds,
    usage_charges,
)
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.market.search import ORDERS, Filters
from agentcache_service.market.tables import Listing, ModelCall
from agentcache_service.money import invoices
from agentcache_service.money.billing_tables import Payout
from agentcache_service.money.finance import billing_records, month_of, monthly_report
from agentcache_service.money.payouts import request_payout, send
from agentcache_service.money.reconcile import reconcile
from agentcache_service.orm import new_id
from agentcache_service.service import Service

_spec = importlib.util.spec_from_file_location("databases_world", Path(__file__).parents[1] / "world.py")
assert _spec is not None
assert _spec.loader is not None
world: Any = importlib.util.module_from_spec(_spec)
sys.modules["databases_world"] = world
_spec.loader.exec_module(world)


def test_a_sale_its_search_its_figures_and_its_payout(any_service: Service, clock: FixedClock) -> None:
    service = any_service
    user = world.make_user(service, "ada")
    org = world.make_org(service, user)
    names = seeds.a_purchase(service, org, user)
    listing = names["listing_id"]
    with service.db.write() as session:
        reviews.write(service, session, seeds.owner(org, user), listing_id=listing, rating=5, words="Good.")
    with service.db.read() as session:
        row = session.get_one(Listing, listing)
        for order in ORDERS:
            wanted = Filters(
                words="seeded",
                tag="seed",
                use_case="test",
                category="text",
                most_price=5_000_000,
                least_rating=4.5,
                order=order,
            )
            assert [found.id for found in search.find(session, wanted).rows] == [listing]
        assert search.find(session, Filters(most_latency=10)).rows == []
        assert recommendations.similar(session, row) == []
        assert recommendations.bought_together(session, row) == []
        overview = creator_analytics.overview(session, row.org_id, clock.now())
    assert (overview["revenue"], overview["sales"]) == (4_400_000, 1)
    assert overview["days"][-1]["revenue"] == 4_400_000
    with service.db.write() as session:
        payout = request_payout(session, "creator", org_id=row.org_id, minimum=1, gateway="local", now=clock.now())
    assert send(service.db, service.money.gateway, clock, payout.id) == "paid"
    month = month_of(None, clock.now())
    assert monthly_report(service, month)["revenue"] == 600_000
    assert len(list(billing_records(service, month))) == 2
    figures = platform_analytics.overview(service, month)
    assert figures["sales"] == {"count": 1, "amount": 5_000_000}
    assert "mrr" in platform_analytics.as_csv(figures)
    assert reconcile(service.db, CHECKS).problems == ()


def test_usage_subscriptions_jobs_and_earnings(any_service: Service, clock: FixedClock) -> None:
    service = any_service
    user = world.make_user(service, "ada")
    org = world.make_org(service, user)
    names = seeds.a_key(service, org, user)
    with service.db.write() as session:
        session.add(
            ModelCall(
                id=new_id("mcl"),
                purchase_id=names["purchase_id"],
                listing_id=names["listing_id"],
                key_id=names["key_id"],
                at=clock.now(),
                method="POST",
                path="chat",
                status=200,
                request_bytes=1,
                request_sha256="0" * 64,
                response_bytes=1,
                input_tokens=1,
                output_tokens=1,
                milliseconds=5,
                cached=False,
                cost=2_000_000,
                saved=0,
            )
        )
    assert usage_charges.settle_due(service) == 1
    seeds.a_subscription_purchase(service, org, user)
    clock.advance(days=32)
    assert purchases.renew_due(service) == 1
    seeds.a_connection(service, org, user)
    assert partner_jobs.advance(service) == 0
    service.market.tap.note(org, {"provider": "modal"}, hit=True, milliseconds=1, saved=5, at=clock.now())
    assert forwarding.flush(service) == 0
    link = seeds.a_link(service, org, user)
    with service.db.write() as session:
        landing = affiliates.click(service, session, link["code"], visitor=None, consent=True, utm={})
    named = landing.address.split("ac_click=")[1]
    modal = service.market.catalog.by_slug["modal"]
    for kind, amount in (("signup", 0), ("conversion", 100_000_000)):
        event = affiliates.Event(kind, kind, "c", named, amount, 0, None)
        with service.db.write() as session:
            affiliates.receive(service, session, modal, event, body_sha256=kind)
    clock.advance(days=31)
    assert affiliates.approve_due(service) == 1
    assert affiliates.settle_finished_payouts(service) == 0
    assert len(affiliates.invoice_partners(service, month_of(None, clock.now()))) == 1
    with service.db.read() as session:
        summary = earnings.summary(session, org, clock.now() + timedelta(seconds=1))
    assert summary["all_time"] == 7_500_000
    assert reconcile(service.db, CHECKS).problems == ()


def test_two_clicks_at_once_buy_once_and_two_requests_pay_once(any_service: Service, clock: FixedClock) -> None:
    service = any_service
    user = world.make_user(service, "ada")
    org = world.make_org(service, user)
    names = seeds.somebody_elses_listing(service, org, user)
    service.money.customers.attach_card(org, "a@example.com", card="card_ok", key="k")
    with service.db.read() as session:
        seller = session.get_one(Listing, names["listing_id"]).org_id

    def buy() -> str:
        return purchases.buy(service, seeds.owner(org, user), names["listing_id"]).status

    def ask() -> str:
        with service.db.write() as session:
            return request_payout(session, "creator", org_id=seller, minimum=1, gateway="local", now=clock.now()).status

    def at_once(do: Callable[[], str]) -> list[str]:
        def tried(_number: int) -> str:
            try:
                return do()
            except ServiceError as refused:
                return refused.code

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(tried, range(8)))

    assert at_once(buy).count("completed") == 1
    assert at_once(ask).count("pending") == 1
    with service.db.read() as session:
        assert session.scalar(select(func.sum(Payout.amount))) == 4_400_000


def test_invoices_written_at_once_get_numbers_without_gaps(any_service: Service, clock: FixedClock) -> None:
    def write(number: int) -> str:
        with any_service.db.write() as session:
            row = invoices.issue(
                session,
                "plan",
                invoices.Party(f"org{number}", "x"),
                lines=[invoices.Line("x", 10_000)],
                period=(clock.now(), clock.now()),
                now=clock.now(),
                reference="first",
            )
            return row.number

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(write, range(8)))
    assert made == [f"2026-{number:06d}" for number in range(1, 9)]
