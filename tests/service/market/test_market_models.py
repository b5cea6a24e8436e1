"""Models on the marketplace: listed, bought, called through the proxy, limited, metered, cached, refunded, paid out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from agentcache_service.areas import job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.jobs import Worker
from agentcache_service.jobs_tables import Job
from agentcache_service.market import health, purchases, usage_charges
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.market.tables import ListingCredential, ModelCall, Purchase, SaleRecord
from agentcache_service.money.billing_tables import PaymentAttempt
from agentcache_service.money.jobs import deliver_local_events
from agentcache_service.money.reconcile import reconcile
from agentcache_service.service import Service

CHAT = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "sk-creators-own-secret"


def credentials(address: str, **changes: Any) -> dict[str, Any]:
    limits = {"requestsPerMinute": 5, "requestsPerHour": 100}
    return {
        "modelId": "m-1",
        "externalApiEndpoint": address,
        "apiKey": SECRET,
        "rateLimits": limits,
        "permissions": ["POST chat/*", "GET models"],
        "expiresAt": None,
        **changes,
    }


def listed(creator: Any, upstream: Any, *, creds: dict[str, Any] | None = None, **changes: Any) -> str:
    """A published model of a creator."""
    creator.send("PUT", "/api/market/creator", json={"display_name": "Ada's models"})
    creator.send("PUT", "/api/billing/payout-method", json={"email": "ada@example.com"})
    body = {
        "kind": "model",
        "name": "Tiny chat",
        "summary": "Answers politely.",
        "category": "text",
        "use_case": "support",
        "description": "A small chat model that answers politely and quickly.",
        "tags": ["chat"],
        "price": 5_000_000,
        **changes,
    }
    listing = creator.send("POST", "/api/market/listings", json=body, expect=201)["id"]
    creator.send("PUT", f"/api/market/listings/{listing}/credentials", json=creds or credentials(upstream.address))
    creator.send("POST", f"/api/market/listings/{listing}/versions", data={"version": "1.0.0"}, expect=201)
    assert creator.send("POST", f"/api/market/listings/{listing}/publish")["status"] == "active"
    return str(listing)


def bought(buyer: Any, listing: str) -> tuple[str, dict[str, str]]:
    """A purchase and the headers of a key for it."""
    purchase = buyer.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)["id"]
    key = buyer.send("POST", f"/api/market/purchases/{purchase}/keys", expect=201)["key"]
    return purchase, {"x-api-key": key}


def call(buyer: Any, listing: str, key: dict[str, str], body: Any = None, **headers: str) -> Any:
    path = f"/api/market/run/{listing}/chat/completions"
    return buyer.http.post(path, json=body or CHAT, headers={**key, **headers})


def test_a_model_is_listed_found_bought_called_reviewed_and_paid(
    person: Callable[..., Any], upstream: Any, books: Any, shop: Service
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    found = bob.send("GET", "/api/market/search?q=polite&category=text&max_price=6000000")
    assert [row["id"] for row in found["results"]] == [listing]

    purchase, key = bought(bob, listing)
    assert bob.send("GET", f"/api/market/purchases/{purchase}/access")["purchase"]["access"] is True
    answer = call(bob, listing, key)
    assert answer.json()["choices"][0]["message"]["content"] == "answer 1"
    assert upstream.asked[0]["path"] == "/v1/chat/completions"
    assert upstream.asked[0]["headers"]["authorization"] == f"Bearer {SECRET}"
    assert "x-api-key" not in upstream.asked[0]["headers"]

    bob.send("POST", f"/api/market/listings/{listing}/reviews", json={"rating": 4, "words": "Quick."})
    assert bob.send("GET", f"/api/market/listings/{listing}")["rating"] == 4.0
    assert books() == {"cash:local": 5_000_000, "revenue:commission": -600_000, f"creator:{ada.org_id}": -4_400_000}

    refused = ada.send("POST", "/api/market/creator/payouts", expect=422)
    assert refused["error"] == "below_minimum"
    others = [person(name, card="card_ok") for name in ("cyd", "dee")]
    for other in others:
        other.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)
    ada.send("POST", "/api/market/creator/payouts", expect=202)
    Worker(shop.db, shop.clock, job_functions(shop)).run_due()
    assert ada.send("GET", "/api/market/creator/payouts")["payouts"][0]["status"] == "paid"
    assert books() == {"cash:local": 1_800_000, "revenue:commission": -1_800_000}
    overview = ada.send("GET", "/api/market/creator/analytics")
    assert (overview["sales"], overview["revenue"], overview["payable"]) == (3, 13_200_000, 0)


def test_nobody_ever_sees_the_creators_key(person: Callable[..., Any], upstream: Any, shop: Service) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    _purchase, key = bought(bob, listing)
    upstream.answer = lambda asked: (
        200,
        {"content-type": "application/json", "set-cookie": "a=b"},
        json.dumps({"echo": asked["headers"]["authorization"]}).encode(),
    )
    answer = call(bob, listing, key)
    assert SECRET not in answer.text
    assert "withheld" in answer.text
    assert "set-cookie" not in answer.headers
    assert SECRET not in ada.http.get(f"/api/market/listings/{listing}", headers=ada.headers).text
    with shop.db.read() as session:
        kept = session.scalars(select(ListingCredential)).one()
        assert SECRET.encode() not in kept.wrapped_key
    files = [path for path in shop.settings.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_erasing_credentials_makes_them_unreadable_even_when_the_ciphertext_stays(
    person: Callable[..., Any], upstream: Any, shop: Service
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    _purchase, key = bought(bob, listing)
    ada.send("DELETE", f"/api/market/listings/{listing}/credentials")
    assert call(bob, listing, key).json()["error"] == "model_unavailable"


def test_credentials_changed_in_the_store_are_refused(person: Callable[..., Any], upstream: Any, shop: Service) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    _purchase, key = bought(bob, listing)
    (blob,) = (path for path in (shop.settings.data_dir / "credentials").rglob("*") if path.is_file())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    assert call(bob, listing, key).status_code == 503
    assert upstream.asked == []


def test_an_equal_call_is_answered_from_the_cache_and_not_billed_as_usage(
    person: Callable[..., Any], upstream: Any, shop: Service, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream, pricing="usage_based", price=0, price_per_call=1_000, price_per_1k_tokens=500_000)
    purchase, key = bought(bob, listing)
    first, second = call(bob, listing, key), call(bob, listing, key)
    assert (first.headers["x-agentcache"], first.headers["x-agentcache-cost"]) == ("miss", "7000")
    assert (second.headers["x-agentcache"], second.headers["x-agentcache-cost"]) == ("hit", "0")
    assert second.headers["x-agentcache-saved"] == "7000"
    assert second.content == first.content
    assert len(upstream.asked) == 1
    assert usage_charges.unpaid_usage(shop, purchase) == 7_000
    third = call(bob, listing, key, **{"cache-control": "no-cache"})
    assert third.headers["x-agentcache"] == "miss"
    call(bob, listing, key, {**CHAT, "seed": 1}, **{"cache-control": "no-store"})
    assert call(bob, listing, key, {**CHAT, "seed": 1}).headers["x-agentcache"] == "miss"
    assert usage_charges.charge(shop, purchase) is True
    assert books() == {"cash:local": 20_000, "revenue:commission": -2_400, f"creator:{ada.org_id}": -17_600}
    assert usage_charges.unpaid_usage(shop, purchase) == 0


def test_the_buyer_turns_the_cache_off(person: Callable[..., Any], upstream: Any) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    purchase, key = bought(bob, listing)
    bob.send("PATCH", f"/api/market/purchases/{purchase}", json={"cache_calls": False})
    assert [call(bob, listing, key).headers["x-agentcache"] for _ in range(2)] == ["miss", "miss"]


def test_one_buyers_answers_are_never_anothers(person: Callable[..., Any], upstream: Any) -> None:
    ada = person("ada")
    listing = listed(ada, upstream)
    buyers = [person(name, card="card_ok") for name in ("bob", "cyd")]
    answers = [call(buyer, listing, bought(buyer, listing)[1]).headers["x-agentcache"] for buyer in buyers]
    assert answers == ["miss", "miss"]


def test_the_creators_limits_hold_and_say_when_to_come_back(
    person: Callable[..., Any], upstream: Any, clock: FixedClock
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    limits = {"requestsPerMinute": 2, "requestsPerHour": 3}
    listing = listed(ada, upstream, creds=credentials(upstream.address, rateLimits=limits))
    _purchase, key = bought(bob, listing)
    clock.advance(seconds=10)
    statuses = [call(bob, listing, key).status_code for _ in range(3)]
    refused = call(bob, listing, key)
    assert (statuses, refused.headers["retry-after"]) == ([200, 200, 429], "51")
    clock.advance(minutes=1)
    assert [call(bob, listing, key).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "chat/completions", 200),
        ("POST", "embeddings", 403),
        ("DELETE", "chat/completions", 403),
        ("POST", "chat/../admin", 403),
        ("POST", "chat/%2e%2e/admin", 403),
    ],
)
def test_only_what_was_granted_may_be_called(
    person: Callable[..., Any], upstream: Any, method: str, path: str, status: int
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    _purchase, key = bought(bob, listing)
    request = bob.http.build_request(method, f"/api/market/run/{listing}/x", headers=key, json=CHAT)
    request.url = request.url.copy_with(raw_path=f"/api/market/run/{listing}/{path}".encode())
    assert bob.http.send(request).status_code == status
    assert all("admin" not in asked["path"] for asked in upstream.asked)


def test_a_key_is_narrowed_revoked_and_expires(person: Callable[..., Any], upstream: Any, clock: FixedClock) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    purchase, _key = bought(bob, listing)
    soon = (clock.now() + timedelta(hours=1)).isoformat()
    body = {"permissions": ["GET models"], "expires_at": soon}
    made = bob.send("POST", f"/api/market/purchases/{purchase}/keys", json=body, expect=201)
    narrow = {"x-api-key": made["key"]}
    assert call(bob, listing, narrow).status_code == 403
    assert bob.http.get(f"/api/market/run/{listing}/models", headers=narrow).status_code == 200
    clock.advance(hours=1)
    assert bob.http.get(f"/api/market/run/{listing}/models", headers=narrow).status_code == 401
    other = bob.send("POST", f"/api/market/purchases/{purchase}/keys", expect=201)
    bob.send("DELETE", f"/api/market/purchases/{purchase}/keys/{other['details']['id']}")
    assert call(bob, listing, {"x-api-key": other["key"]}).status_code == 401


def test_expired_credentials_answer_nobody(person: Callable[..., Any], upstream: Any, clock: FixedClock) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    end = (clock.now() + timedelta(days=1)).isoformat()
    listing = listed(ada, upstream, creds=credentials(upstream.address, expiresAt=end))
    _purchase, key = bought(bob, listing)
    assert call(bob, listing, key).status_code == 200
    clock.advance(days=1)
    assert call(bob, listing, key).status_code == 503


def test_a_failing_endpoint_is_not_billed_and_a_fallback_answers(
    person: Callable[..., Any], upstream: Any, shop: Service
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    creds = credentials("http://127.0.0.1:9/v1", fallbackEndpoint=upstream.address)
    listing = listed(ada, upstream, creds=creds, pricing="usage_based", price=0, price_per_call=1_000)
    purchase, key = bought(bob, listing)
    assert call(bob, listing, key).status_code == 200
    upstream.answer = lambda _asked: (500, {}, b"broken")
    assert call(bob, listing, key, {**CHAT, "n": 2}).status_code == 502
    upstream.answer = lambda _asked: (401, {}, b"bad key")
    assert call(bob, listing, key, {**CHAT, "n": 3}).status_code == 502
    assert usage_charges.unpaid_usage(shop, purchase) == 1_000


def test_an_endpoint_inside_the_network_cannot_be_stored(person: Callable[..., Any], upstream: Any) -> None:
    ada = person("ada")
    listing = listed(ada, upstream)
    for address in ("http://169.254.169.254/latest", "http://10.0.0.1/v1", "file:///etc/passwd"):
        refused = ada.send("PUT", f"/api/market/listings/{listing}/credentials", json=credentials(address), expect=422)
        assert refused["error"] == "address_refused"


def test_a_purchase_is_idempotent_and_a_key_with_another_body_is_422(
    person: Callable[..., Any], upstream: Any, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    path, key = f"/api/market/listings/{listing}/purchase", {"Idempotency-Key": "k-1"}
    first = bob.send("POST", path, headers=key, json={"expected_price": 5_000_000}, expect=201)
    assert bob.send("POST", path, headers=key, json={"expected_price": 5_000_000}, expect=201) == first
    bob.send("POST", path, headers=key, json={}, expect=422)
    assert bob.send("POST", path, json={}, expect=409)["error"] == "already_bought"
    assert books()["cash:local"] == 5_000_000


def test_a_refused_card_gives_no_access_and_books_nothing(
    person: Callable[..., Any], upstream: Any, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_declined")
    listing = listed(ada, upstream)
    refused = bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=402)
    assert refused["reason"] == "card_declined"
    assert bob.send("GET", f"/api/market/purchases/{refused['purchase']}/access")["purchase"]["status"] == "failed"
    bob.send("POST", f"/api/market/purchases/{refused['purchase']}/keys", expect=409)
    assert books() == {}
    bob.send("POST", "/api/billing/card", json={"card": "card_ok"})
    bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)


def test_a_price_that_changed_meanwhile_is_not_charged(person: Callable[..., Any], upstream: Any) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    ada.send("PATCH", f"/api/market/listings/{listing}", json={"price": 9_000_000})
    path = f"/api/market/listings/{listing}/purchase"
    assert bob.send("POST", path, json={"expected_price": 5_000_000}, expect=409)["error"] == "price_changed"


def payment_of(shop: Service, purchase: str) -> str:
    with shop.db.read() as session:
        return session.get_one(Purchase, purchase).payment_intent or ""


def test_a_refund_revokes_access_and_reverses_the_ledger(
    person: Callable[..., Any], upstream: Any, shop: Service, books: Any
) -> None:
    ada, bob, staff = person("ada"), person("bob", card="card_ok"), person("staff", staff=True)
    listing = listed(ada, upstream)
    purchase, key = bought(bob, listing)
    staff.send("POST", "/api/admin/refunds", json={"payment": payment_of(shop, purchase), "reason": "asked for"})
    staff.send("POST", "/api/admin/refunds", json={"payment": payment_of(shop, purchase)})
    assert call(bob, listing, key).status_code == 401
    assert bob.send("GET", f"/api/market/purchases/{purchase}/access")["purchase"]["status"] == "refunded"
    assert books() == {}
    deliver_local_events(shop)
    assert books() == {}


def test_a_disputed_sale_is_held_and_decided(
    person: Callable[..., Any], upstream: Any, shop: Service, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_disputed")
    listing = listed(ada, upstream)
    _purchase, key = bought(bob, listing)
    deliver_local_events(shop)
    assert books()["disputes:held"] == 5_000_000
    with shop.db.read() as session:
        attempt = session.scalars(select(PaymentAttempt)).one()
    shop.money.gateway.decide_dispute(attempt.charge_id, won=False)  # type: ignore[attr-defined]  # the local gateway
    deliver_local_events(shop)
    assert books() == {"cash:local": -15_000_000, "expense:dispute_fees": 15_000_000}
    assert call(bob, listing, key).status_code == 401


def test_a_subscription_renews_until_it_is_cancelled_and_stops_when_the_card_fails(
    person: Callable[..., Any], upstream: Any, shop: Service, clock: FixedClock, books: Any
) -> None:
    ada, bob, cyd = person("ada"), person("bob", card="card_ok"), person("cyd", card="card_fails_later")
    listing = listed(ada, upstream, pricing="subscription")
    purchase, _key = bought(bob, listing)
    bought(cyd, listing)
    clock.advance(days=32)
    assert purchases.renew_due(shop) == 2
    assert purchases.renew_due(shop) == 0
    assert books()["cash:local"] == 15_000_000
    bob.sign_in()
    cyd.sign_in()
    assert [row["access"] for row in cyd.send("GET", "/api/market/purchases")] == [False]
    assert bob.send("POST", f"/api/market/purchases/{purchase}/cancel")["access"] is True
    clock.advance(days=32)
    bob.sign_in()
    assert purchases.renew_due(shop) == 0
    assert bob.send("GET", f"/api/market/purchases/{purchase}/access")["purchase"]["access"] is False


def test_unpaid_usage_closes_access_until_it_is_paid(
    person: Callable[..., Any], upstream: Any, shop: Service, clock: FixedClock, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream, pricing="usage_based", price=0, price_per_call=600_000)
    _purchase, key = bought(bob, listing)
    for number in range(2):
        call(bob, listing, key, {**CHAT, "n": number})
    bob.send("POST", "/api/billing/card", json={"card": "card_declined"})
    assert usage_charges.settle_due(shop) == 1
    assert call(bob, listing, key).status_code == 403
    assert usage_charges.settle_due(shop) == 0
    bob.send("POST", "/api/billing/card", json={"card": "card_ok"})
    clock.advance(days=1, minutes=1)
    assert usage_charges.settle_due(shop) == 1
    assert call(bob, listing, key).status_code == 200
    assert books()["cash:local"] == 1_200_000
    with shop.db.read() as session:
        assert {row.status for row in session.scalars(select(SaleRecord))} == {"failed", "paid"}
        assert len(list(session.scalars(select(ModelCall).where(ModelCall.sale_id.is_(None))))) == 1


def test_a_listing_needs_credentials_a_version_and_a_payout_method(person: Callable[..., Any], upstream: Any) -> None:
    ada = person("ada")
    body = {"kind": "model", "name": "Tiny", "summary": "Small.", "category": "text", "description": "x" * 40}
    assert ada.send("POST", "/api/market/listings", json=body, expect=409)["error"] == "not_a_creator"
    ada.send("PUT", "/api/market/creator", json={"display_name": "Ada"})
    listing = ada.send("POST", "/api/market/listings", json=body, expect=201)["id"]
    path = f"/api/market/listings/{listing}"
    errors = [ada.send("POST", f"{path}/publish", expect=409)["error"]]
    ada.send("PUT", "/api/billing/payout-method", json={"email": "ada@example.com"})
    errors.append(ada.send("POST", f"{path}/publish", expect=409)["error"])
    ada.send("PUT", f"{path}/credentials", json=credentials(upstream.address))
    errors.append(ada.send("POST", f"{path}/publish", expect=409)["error"])
    assert errors == ["payout_method_missing", "credentials_missing", "version_missing"]
    ada.send("POST", f"{path}/versions", data={"version": "1.0.0"}, expect=201)
    assert ada.send("POST", f"{path}/versions", data={"version": "0.9.0"}, expect=409)["error"] == "version_not_newer"
    assert ada.send("POST", f"{path}/publish")["status"] == "active"
    assert ada.send("POST", f"{path}/delist")["status"] == "inactive"
    assert ada.http.get(f"{path}").status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"pricing": "usage_based", "price": 5_000_000, "price_per_call": 1},
        {"price": 5_000_001},
        {"price": 10_000},
        {"pricing": "subscription", "price": 0},
        {"category": "nonsense"},
        {"kind": "agent", "pricing": "usage_based", "price_per_call": 5},
        {"colour": "red"},
    ],
)
def test_a_price_or_field_that_cannot_be_is_422(person: Callable[..., Any], change: dict[str, Any]) -> None:
    ada = person("ada")
    ada.send("PUT", "/api/market/creator", json={"display_name": "Ada"})
    body = {"kind": "model", "name": "Tiny", "summary": "Small.", "category": "text", "price": 0, **change}
    ada.send("POST", "/api/market/listings", json=body, expect=422)


def test_reconcile_names_a_sale_the_ledger_does_not_know(
    person: Callable[..., Any], upstream: Any, shop: Service
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    listing = listed(ada, upstream)
    purchase, _key = bought(bob, listing)
    with shop.db.write() as session:
        session.add(
            SaleRecord(
                id="sal_forged",
                purchase_id=purchase,
                kind="usage",
                serial=0,
                amount=10_000,
                fee_bps=1200,
                status="paid",
                created_at=shop.clock.now(),
            )
        )
    report = reconcile(shop.db, CHECKS)
    assert [line for line in report.problems if "sal_forged" in line]
    assert "PROBLEM" in "\n".join(report.lines)


def test_health_checks_count_uptime_and_latency_use_the_fallback_and_tell_the_creator(
    person: Callable[..., Any], upstream: Any, shop: Service
) -> None:
    ada = person("ada")
    listing = listed(ada, upstream, creds=credentials("http://127.0.0.1:9/v1", fallbackEndpoint=upstream.address))
    assert health.check_all(shop) == (1, 1)
    upstream.answer = lambda _asked: (503, {}, b"")
    for _ in range(9):
        health.check(shop, listing)
    shown = ada.send("GET", f"/api/market/listings/{listing}")
    assert shown["uptime"] == 0.1
    assert shown["latency_ms"] is not None
    with shop.db.read() as session:
        told = [job for job in session.scalars(select(Job)) if (job.dedupe_key or "").startswith("unreachable:")]
    assert len(told) == 1


def test_platform_figures_and_billing_records_come_from_the_ledger(
    person: Callable[..., Any], upstream: Any, shop: Service
) -> None:
    ada, bob, staff = person("ada"), person("bob", card="card_ok"), person("staff", staff=True)
    listing = listed(ada, upstream, pricing="subscription", price=10_000_000)
    bought(bob, listing)
    bob.send("POST", "/api/billing/checkout", json={"plan": "pro"})
    figures = staff.send("GET", "/api/admin/stats")
    assert figures["mrr"] == 49_000_000 + 1_200_000
    assert (figures["subscribers"], figures["churn"], figures["sales"]) == (1, 0.0, {"count": 1, "amount": 10_000_000})
    assert figures["revenue"] == {"plans": 49_000_000, "commission": 1_200_000, "affiliate": 0}
    report = staff.send("GET", "/api/admin/finance/monthly")
    assert report["revenue"] == 50_200_000
    assert report["gross_profit"] == report["revenue"] - report["cost"]
    records = staff.send("GET", "/api/admin/finance/records")
    record = next(row for row in records["records"] if row["user_id"] == bob.org_id)
    assert record["source_platform"] == "agentcache"
    assert record["charged_to_user"] == 49_000_000
    assert record["jettythunder_allocation"] == {"storage_gb": 20.0, "bandwidth_gb": 50.0, "requests": 150_000}
    assert set(record["internal_cost"]) >= {"storage", "bandwidth", "api_calls", "total"}
    assert records["revenue_pool"]["charged"] == 49_000_000
    csv = staff.http.get("/api/admin/stats?format=csv", headers=staff.headers).text
    assert "mrr,50200000" in csv.replace("\r", "")
