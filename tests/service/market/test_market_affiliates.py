"""Affiliate earnings: links, consent, attribution, signed events, holds, payouts, clawbacks, partner invoices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_service import schema
from agentcache_service.areas import job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.identity.passwords import Passwords
from agentcache_service.jobs import Worker
from agentcache_service.market import affiliate_rules as rules
from agentcache_service.market import affiliates
from agentcache_service.market.affiliate_rules import Touch
from agentcache_service.market.partner_catalog import AffiliateTerms, CommissionRule
from agentcache_service.money.finance import month_of
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings

SECRETS = {"replicate": "replicate-secret", "modal": "modal-secret", "neon": "neon-secret", "runpod": "runpod-secret"}
DAY = datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    clients = {slug: {"postback": secret} for slug, secret in SECRETS.items()}
    settings = Settings(
        data_dir=tmp_path,
        public_url="http://testserver",
        worker_in_process=False,
        rate_limits=False,
        partner_clients=json.dumps(clients),
    )
    built = build_service(settings, clock=clock)
    built.passwords = Passwords(memory_kib=64, passes=1)
    schema.upgrade(built.db)
    yield built
    built.close()


def link(ada: Any, partner: str = "replicate") -> str:
    ada.send("POST", "/api/affiliates/opt-in")
    rows = ada.send("GET", "/api/affiliates/links")
    return next(urlsplit(row["url"]).path for row in rows if row["partner"] == partner)


def click(friend: Any, path: str, *, consent: str = "yes") -> str:
    """Follow a referral link; the click id the partner gets."""
    answer = friend.http.get(f"{path}?consent={consent}")
    assert answer.status_code == 302
    return parse_qs(urlsplit(answer.headers["location"]).query)["ac_click"][0]


def tell(shop: Service, ada: Any, partner: str = "replicate", *, expect: int = 200, **event: Any) -> Any:
    """A signed event of a partner."""
    body = json.dumps(event).encode()
    moment = int(shop.clock.now().timestamp())
    headers = {
        "x-timestamp": str(moment),
        "x-signature": affiliates.sign_postback(SECRETS[partner], body, moment),
        "content-type": "application/json",
    }
    answer = ada.http.post(f"/api/affiliates/postback/{partner}", content=body, headers=headers)
    assert answer.status_code == expect, answer.text
    return answer.json().get("outcome")


def run_jobs(shop: Service) -> None:
    affiliates.approve_due(shop)
    Worker(shop.db, shop.clock, job_functions(shop)).run_due()
    affiliates.settle_finished_payouts(shop)


def states(ada: Any) -> list[tuple[str, int]]:
    return sorted((row["state"], row["share"]) for row in ada.send("GET", "/api/affiliates/commissions"))


def test_a_link_leads_to_the_partners_own_host_with_utm_and_our_click(
    person: Callable[..., Any], shop: Service
) -> None:
    ada, friend = person("ada"), person("friend")
    path = link(ada)
    answer = friend.http.get(f"{path}?consent=yes&utm_campaign=blog&next=https://evil.example")
    there = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(there.query).items()}
    assert (there.scheme, there.hostname) == ("https", "replicate.com")
    assert (query["utm_source"], query["utm_medium"], query["utm_campaign"]) == ("agentcache", "affiliate", "blog")
    assert "evil" not in answer.headers["location"]
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert affiliates.read_visitor(shop, cookie.split("=", 1)[1].split(";")[0])
    assert friend.http.get("/r/nonsense").status_code == 404


def test_without_consent_no_cookie_is_set_and_the_click_still_counts(person: Callable[..., Any], shop: Service) -> None:
    ada, friend = person("ada"), person("friend")
    answer = friend.http.get(link(ada))
    assert answer.status_code == 302
    assert "set-cookie" not in answer.headers
    assert ada.send("GET", "/api/affiliates/summary")["funnel"]["clicks"] == 1


def test_a_forged_cookie_is_nobody(shop: Service) -> None:
    good = affiliates.signed_visitor(shop, "visitor1")
    assert affiliates.read_visitor(shop, good) == "visitor1"
    assert affiliates.read_visitor(shop, good.replace("visitor1", "visitor2")) is None
    assert affiliates.read_visitor(shop, "visitor1") is None


def test_earning_is_opt_in_and_opting_out_ends_the_links(person: Callable[..., Any]) -> None:
    ada, friend = person("ada"), person("friend")
    ada.send("GET", "/api/affiliates/links", expect=409)
    path = link(ada)
    ada.send("PATCH", "/api/affiliates/opt-in", json={"opted_in": False})
    assert friend.http.get(path).status_code == 404


def test_from_click_to_payout(person: Callable[..., Any], shop: Service, clock: FixedClock, books: Any) -> None:
    ada, friend = person("ada"), person("friend")
    named = click(friend, link(ada))
    assert tell(shop, ada, id="s1", event="signup", customer="c1", click=named) == "signed_up"
    paid = {"id": "e1", "event": "conversion", "customer": "c1", "amount": 200_000_000}
    assert tell(shop, ada, **paid) == "pending"
    assert tell(shop, ada, **paid) == "pending"
    assert states(ada) == [("pending", 20_000_000)]
    assert books() == {}
    ada.send("POST", "/api/affiliates/payouts", expect=409)
    ada.send("PUT", "/api/billing/payout-method", json={"email": "ada@example.com"})
    assert ada.send("POST", "/api/affiliates/payouts", expect=422)["error"] == "below_minimum"
    clock.advance(days=30)
    ada.sign_in()
    run_jobs(shop)
    assert states(ada) == [("approved", 20_000_000)]
    assert books() == {
        "partner:replicate": 40_000_000,
        "revenue:affiliate": -20_000_000,
        f"affiliate:{ada.org_id}": -20_000_000,
    }
    ada.send("POST", "/api/affiliates/payouts", expect=202)
    run_jobs(shop)
    assert states(ada) == [("paid", 20_000_000)]
    summary = ada.send("GET", "/api/affiliates/summary")
    assert (summary["payable"], summary["all_time"], summary["funnel"]) == (
        0,
        20_000_000,
        {"clicks": 1, "signups": 1, "conversions": 1},
    )
    assert summary["top_partner"] == {"partner": "replicate", "earned": 20_000_000}
    assert summary["chart"][-2] == {"month": "2026-01", "earned": 20_000_000}
    assert books()["cash:local"] == -20_000_000


def test_a_refund_before_the_payout_voids_and_after_it_adds_a_negative_line(
    person: Callable[..., Any], shop: Service, clock: FixedClock, books: Any
) -> None:
    ada, friend = person("ada"), person("friend")
    ada.send("PUT", "/api/billing/payout-method", json={"email": "ada@example.com"})
    named = click(friend, link(ada))
    tell(shop, ada, id="s1", event="signup", customer="c1", click=named)
    for name in ("e1", "e2"):
        tell(shop, ada, id=name, event="conversion", customer="c1", amount=200_000_000)
    assert tell(shop, ada, id="r1", event="refund", customer="c1", refers_to="e1") == "void"
    clock.advance(days=30)
    ada.sign_in()
    run_jobs(shop)
    ada.send("POST", "/api/affiliates/payouts", expect=202)
    run_jobs(shop)
    assert states(ada) == [("paid", 20_000_000), ("void", 20_000_000)]
    assert (
        tell(shop, ada, id="r2", event="refund", customer="c1", refers_to="e2", amount=100_000_000) == "negative_line"
    )
    assert states(ada) == [("approved", -10_000_000), ("paid", 20_000_000), ("void", 20_000_000)]
    assert ada.send("GET", "/api/affiliates/summary")["payable"] == -10_000_000
    tell(shop, ada, id="r3", event="refund", customer="c1", refers_to="e2", expect=409)
    tell(shop, ada, id="r4", event="refund", customer="c1", refers_to="e1", expect=409)
    books()


def test_recurring_commissions_end_and_a_single_one_is_paid_once(
    person: Callable[..., Any], shop: Service, clock: FixedClock
) -> None:
    ada, friend = person("ada"), person("friend")
    tell(shop, ada, id="s1", event="signup", customer="c1", click=click(friend, link(ada)))
    tell(shop, ada, "modal", id="s1", event="signup", customer="m1", click=click(friend, link(ada, "modal")))
    outcomes = []
    for month in range(14):
        outcomes.append(tell(shop, ada, id=f"e{month}", event="conversion", customer="c1", amount=10_000_000))
        clock.advance(days=30.5)
    assert outcomes == ["pending"] * 12 + ["no_commission"] * 2
    modal = [tell(shop, ada, "modal", id=f"e{n}", event="conversion", customer="m1", amount=10_000_000) for n in (1, 2)]
    assert modal == ["pending", "no_commission"]


def test_cached_calls_are_paid_per_call(person: Callable[..., Any], shop: Service) -> None:
    ada, friend = person("ada"), person("friend")
    named = click(friend, link(ada, "runpod"))
    tell(shop, ada, "runpod", id="s", event="signup", customer="c", click=named)
    tell(shop, ada, "runpod", id="u", event="usage", customer="c", calls=250)
    (row,) = ada.send("GET", "/api/affiliates/commissions")
    assert (row["amount"], row["share"]) == (2_500_000, 1_250_000)


def test_the_first_or_the_last_click_gets_the_credit_as_the_partner_says(
    person: Callable[..., Any], shop: Service, clock: FixedClock
) -> None:
    ada, bob, friend = person("ada"), person("bob"), person("friend")
    for partner, winner in (("replicate", bob), ("neon", ada)):
        click(friend, link(ada, partner))
        clock.advance(days=1)
        last = click(friend, link(bob, partner))
        tell(shop, ada, partner, id="s", event="signup", customer="c", click=last)
        before = winner.send("GET", "/api/affiliates/summary")["funnel"]["signups"]
        assert before == 1, partner
    late = click(friend, link(ada))
    clock.advance(days=31)
    assert tell(shop, ada, id="s9", event="signup", customer="c9", click=late) == "outside_window"
    assert tell(shop, ada, id="s8", event="conversion", customer="c8", amount=5) == "unattributed"


@pytest.mark.parametrize("damage", ["secret", "body", "age", "missing"])
def test_an_event_that_is_not_surely_the_partners_changes_nothing(
    person: Callable[..., Any], shop: Service, damage: str
) -> None:
    ada = person("ada")
    body = json.dumps({"id": "e", "event": "signup", "customer": "c"}).encode()
    moment = int(shop.clock.now().timestamp()) - (600 if damage == "age" else 0)
    signature = affiliates.sign_postback("other" if damage == "secret" else SECRETS["replicate"], body, moment)
    headers = {} if damage == "missing" else {"x-timestamp": str(moment), "x-signature": signature}
    sent = body.replace(b'"e"', b'"f"') if damage == "body" else body
    answer = ada.http.post("/api/affiliates/postback/replicate", content=sent, headers=headers)
    assert answer.status_code == 400


def test_an_event_id_with_another_content_is_a_conflict(person: Callable[..., Any], shop: Service) -> None:
    ada = person("ada")
    tell(shop, ada, id="e", event="signup", customer="c")
    tell(shop, ada, id="e", event="signup", customer="d", expect=409)


def test_a_failed_payout_is_owed_again(
    person: Callable[..., Any], shop: Service, clock: FixedClock, books: Any
) -> None:
    ada, friend = person("ada"), person("friend")
    ada.send("PUT", "/api/billing/payout-method", json={"email": "fails@example.com"})
    tell(shop, ada, id="s", event="signup", customer="c", click=click(friend, link(ada)))
    tell(shop, ada, id="e", event="conversion", customer="c", amount=200_000_000)
    clock.advance(days=30)
    ada.sign_in()
    run_jobs(shop)
    ada.send("POST", "/api/affiliates/payouts", expect=202)
    run_jobs(shop)
    listed = ada.send("GET", "/api/affiliates/payouts")
    assert (listed["payable"], listed["payouts"][0]["status"]) == (20_000_000, "failed")
    assert states(ada) == [("approved", 20_000_000)]
    books()


def test_partners_are_invoiced_once_a_month_for_what_was_approved(
    person: Callable[..., Any], shop: Service, clock: FixedClock
) -> None:
    ada, friend = person("ada"), person("friend")
    tell(shop, ada, id="s", event="signup", customer="c", click=click(friend, link(ada)))
    tell(shop, ada, id="e", event="conversion", customer="c", amount=200_000_000)
    clock.advance(days=30)
    affiliates.approve_due(shop)
    month = month_of(None, clock.now())
    (made,) = affiliates.invoice_partners(shop, month)
    assert (made.party, made.total, made.party_name) == ("replicate", 40_000_000, "Replicate")
    assert affiliates.invoice_partners(shop, month) == []
    staff = person("staff", staff=True)
    (shown,) = staff.send("GET", "/api/affiliates/invoices")
    assert staff.send("GET", shown["pdf"]).content.startswith(b"%PDF-")


TERMS = AffiliateTerms(frozenset({"p.example"}), "https://p.example/", 30, "last", 30)


@given(st.lists(st.integers(-100, 10), max_size=8), st.sampled_from(["first", "last"]))
def test_the_credited_click_lies_in_the_window_and_is_its_first_or_last(days: list[int], rule: Any) -> None:
    clicks = [Touch(str(n), DAY + timedelta(days=day)) for n, day in enumerate(days)]
    terms = AffiliateTerms(TERMS.hosts, TERMS.landing, 30, rule, 30)
    chosen = rules.credited(clicks, terms, DAY)
    inside = [item for item in clicks if DAY - timedelta(days=30) <= item.at <= DAY]
    assert (chosen is None) == (not inside)
    if chosen is not None:
        assert chosen.at == (min if rule == "first" else max)(item.at for item in inside)


@given(st.integers(0, 10**12), st.integers(0, 10_000), st.integers(0, 10**12))
def test_a_reversal_never_takes_back_more_than_was_given(base: int, bps: int, refunded: int) -> None:
    amount = rules.commission_of(CommissionRule("percentage", bps), base=base, calls=0, earlier=0, months=0)
    effect = rules.reversal("paid", amount, refunded=refunded, base=base)
    assert -amount <= effect.negative <= 0
    assert not effect.void


@pytest.mark.parametrize(
    "landing", ["https://evil.example/", "https://p.example@evil.example/", "javascript:alert(1)", "//p.example/"]
)
def test_a_landing_outside_the_partners_hosts_is_refused(landing: str) -> None:
    with pytest.raises(ValueError, match="own hosts"):
        rules.tracked(landing, TERMS, code="c", click="k")
