"""Integrations against strict local counterparts: connecting, cached calls, jobs, forwarding."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from agentcache_service import schema
from agentcache_service.areas import job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.crypto import SealBroken
from agentcache_service.identity.passwords import Passwords
from agentcache_service.jobs import Worker
from agentcache_service.jobs_tables import Job
from agentcache_service.market import connections, forwarding, oauth_client, partner_jobs
from agentcache_service.market.integration_tables import Connection, ForwardEvent
from agentcache_service.market.oauth_client import OAuthRefused
from agentcache_service.market.partner_catalog import CatalogError, load_catalog
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings

_spec = importlib.util.spec_from_file_location("counterpart", Path(__file__).with_name("partners_counterpart.py"))
assert _spec is not None
assert _spec.loader is not None
counterpart = importlib.util.module_from_spec(_spec)
sys.modules["counterpart"] = counterpart
_spec.loader.exec_module(counterpart)

PREDICTION = {"version": "abc123", "input": {"prompt": "a fox"}}


@pytest.fixture
def partners() -> Iterator[Any]:
    state = counterpart.Partners()
    stop = counterpart.serve(state)
    yield state
    stop()


@pytest.fixture
def shop(tmp_path: Path, clock: FixedClock, partners: Any) -> Iterator[Service]:
    """A service whose partners are the counterparts."""
    folder = tmp_path / "partners"
    folder.mkdir()
    for slug, text in counterpart.partner_files(partners).items():
        (folder / f"{slug}.toml").write_text(text)
    clients = {"replicate": {"id": partners.client_id, "secret": partners.client_secret}}
    settings = Settings(
        data_dir=tmp_path,
        public_url="http://testserver",
        worker_in_process=False,
        rate_limits=False,
        outgoing_allow=["127.0.0.0/8"],
        partners_dir=folder,
        partner_clients=json.dumps(clients),
    )
    built = build_service(settings, clock=clock)
    built.passwords = Passwords(memory_kib=64, passes=1)
    schema.upgrade(built.db)
    yield built
    built.close()


def oauth(ada: Any, partners: Any, *, expect: int = 303, **changes: str) -> Any:
    """A browser's way through an OAuth connect; `changes` spoil what the partner sends back."""
    away = ada.send("GET", "/api/integrations/replicate/connect", expect=303).headers["location"]
    answer = {**partners.authorize(away), **changes}
    answer = {name: value for name, value in answer.items() if value}
    return ada.send("GET", "/api/integrations/replicate/callback", params=answer, expect=expect)


def key(ada: Any, slug: str, *, expect: int = 200, **fields: str) -> Any:
    return ada.send("POST", f"/api/integrations/{slug}/key", json={"fields": fields}, expect=expect)


def mine(ada: Any) -> dict[str, Any]:
    return {row["partner"]: row for row in ada.send("GET", "/api/integrations/mine")}


def test_the_catalogue_has_all_eight_with_the_agreed_commissions(person: Callable[..., Any]) -> None:
    found = person("ada").send("GET", "/api/integrations")
    terms = {row["slug"]: (row["category"], row["commission"].split(" of ")[0]) for row in found["partners"]}
    assert terms == {
        "replicate": ("compute", "20 %"),
        "modal": ("compute", "15 %"),
        "helicone": ("monitoring", "20 %"),
        "neon": ("storage", "30 %"),
        "upstash": ("storage", "no commission"),
        "together": ("compute", "no commission"),
        "runpod": ("compute", "$0.01 per cached call"),
        "vercel": ("deployment", "10 %"),
    }
    assert found["featured"] == ["replicate", "helicone", "modal"]
    assert len(found["bundles"]) == 3


def test_the_catalogue_is_searched_by_words_and_category(person: Callable[..., Any]) -> None:
    ada = person("ada")
    redis = ada.send("GET", "/api/integrations?q=redis%20tier")["partners"]
    assert [row["slug"] for row in redis] == ["upstash"]
    storage = ada.send("GET", "/api/integrations?category=storage")["partners"]
    assert {row["slug"] for row in storage} == {"neon", "upstash"}
    ada.send("GET", "/api/integrations/nobody", expect=404)


@pytest.mark.parametrize(
    "text",
    [
        'category = "toys"',
        '[affiliate]\nlanding = "https://evil.example/"',
        '[commission]\ntype = "percentage"\npercent = 101',
        '[commission]\ntype = "magic"',
    ],
)
def test_a_partner_file_that_cannot_be_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "replicate.toml").write_text(text)
    with pytest.raises(CatalogError, match=r"replicate\.toml"):
        load_catalog(tmp_path)


def test_replicate_is_connected_its_calls_cached_and_the_savings_shown(
    person: Callable[..., Any], partners: Any
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    assert mine(ada)["replicate"]["account"] == "ada"
    path = "/api/integrations/replicate/actions/predict"
    first, second = ada.send("POST", path, json=PREDICTION), ada.send("POST", path, json=PREDICTION)
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["output"] == first["output"]
    assert (first["cost"], second["saved"]) == (900, 900)
    assert len(partners.predictions) == 1
    stats = ada.send("GET", "/api/integrations/replicate/stats")
    assert stats["words"] == "Cached 1 Replicate call (saved $0.000900)"
    assert (stats["hits"], stats["misses"], stats["saved"]) == (1, 1, 900)
    assert "seconds" in stats["formula"]
    ada.send("POST", path, json={"input": {}}, expect=422)


def test_answers_of_one_organization_are_not_anothers(person: Callable[..., Any], partners: Any) -> None:
    path = "/api/integrations/replicate/actions/predict"
    for name in ("ada", "bob"):
        someone = person(name)
        oauth(someone, partners)
        assert someone.send("POST", path, json=PREDICTION)["cached"] is False
    person("cyd").send("POST", path, json=PREDICTION, expect=409)


@pytest.mark.parametrize(
    "spoiled",
    [{"state": "forged"}, {"state": ""}, {"iss": "https://evil.example"}, {"iss": ""}, {"code": ""}, {"code": "x"}],
)
def test_a_doubtful_answer_connects_nothing(person: Callable[..., Any], partners: Any, spoiled: dict[str, str]) -> None:
    ada = person("ada")
    oauth(ada, partners, expect=502 if spoiled == {"code": "x"} else 400, **spoiled)
    assert mine(ada) == {}


def test_an_answer_counts_once_and_only_in_the_session_that_asked(
    person: Callable[..., Any], partners: Any, clock: FixedClock
) -> None:
    ada, eve = person("ada"), person("eve")
    callback = "/api/integrations/replicate/callback"
    away = ada.send("GET", "/api/integrations/replicate/connect", expect=303).headers["location"]
    answer = partners.authorize(away)
    eve.send("GET", callback, params=answer, expect=400)
    ada.send("GET", callback, params=answer, expect=400)
    oauth(ada, partners)
    again = partners.authorize(ada.send("GET", "/api/integrations/replicate/connect", expect=303).headers["location"])
    ada.send("GET", callback, params=again, expect=303)
    ada.send("GET", callback, params=again, expect=400)
    late = partners.authorize(ada.send("GET", "/api/integrations/replicate/connect", expect=303).headers["location"])
    clock.advance(minutes=11)
    ada.send("GET", callback, params=late, expect=400)


TOKEN = {"access_token": "t", "token_type": "Bearer"}


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (400, "application/problem+json", {"title": "no"}),
        (200, "application/problem+json", TOKEN),
        (201, "application/json", TOKEN),
        (200, "text/html", TOKEN),
        (200, "application/json", {"error": "invalid_grant", **TOKEN}),
        (200, "application/json", {"token_type": "Bearer"}),
        (200, "application/json", {**TOKEN, "access_token": ""}),
        (200, "application/json", {**TOKEN, "token_type": "mac"}),
        (200, "application/json", ["t"]),
    ],
)
def test_an_error_body_is_never_taken_for_a_token(
    person: Callable[..., Any], partners: Any, status: int, kind: str, body: Any
) -> None:
    ada = person("ada")
    partners.token_answer = lambda: (status, kind, json.dumps(body).encode())
    oauth(ada, partners, expect=502)
    assert mine(ada) == {}
    with pytest.raises(OAuthRefused):
        oauth_client.accept_token(status, kind, json.dumps(body).encode())


def test_the_credential_is_sealed_for_its_row(person: Callable[..., Any], partners: Any, shop: Service) -> None:
    ada, bob = person("ada"), person("bob")
    oauth(ada, partners)
    oauth(bob, partners)
    with shop.db.write() as session:
        rows = {row.org_id: row for row in session.scalars(select(Connection))}
        assert b"r8-access" not in (rows[ada.org_id].sealed or b"")
        rows[bob.org_id].sealed = rows[ada.org_id].sealed
    bob.send("POST", "/api/integrations/replicate/actions/predict", json=PREDICTION, expect=409)
    with pytest.raises(SealBroken):
        shop.vault.open(rows[ada.org_id].sealed or b"", place="elsewhere")
    assert not [path for path in shop.settings.data_dir.rglob("*.db*") if b"r8-access" in path.read_bytes()]


def test_an_old_token_is_refreshed_once_before_it_is_used(
    person: Callable[..., Any], partners: Any, clock: FixedClock
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    before = set(partners.tokens)
    clock.advance(hours=1)
    partners.tokens -= before
    ada.send("POST", "/api/integrations/replicate/actions/predict", json=PREDICTION)
    assert partners.tokens
    assert partners.asked.count(("POST", "/oauth/token")) == 2


def test_disconnecting_revokes_at_the_partner_and_erases_here(
    person: Callable[..., Any], partners: Any, shop: Service
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    assert partners.tokens
    assert ada.send("DELETE", "/api/integrations/replicate")["revoked"] is True
    assert (partners.tokens, partners.refresh) == (set(), set())
    assert mine(ada) == {}
    with shop.db.read() as session:
        assert session.scalars(select(Connection)).one().sealed is None
    ada.send("DELETE", "/api/integrations/replicate", expect=404)


def test_erasing_the_person_revokes_at_the_partner_and_keeps_nothing_that_opens_the_token(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    ada.send("DELETE", "/api/account/me", json={"password": "plain old horse 77"})
    assert partners.tokens
    clock.advance(minutes=1)
    Worker(shop.db, clock, job_functions(shop)).run_due()
    assert (partners.tokens, partners.refresh) == (set(), set())
    with shop.db.read() as session:
        assert session.scalars(select(Connection)).all() == []
        assert not any("sealed" in job.payload for job in session.scalars(select(Job)))


def test_a_partner_that_is_down_is_asked_to_revoke_later(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    partners.down = True
    assert ada.send("DELETE", "/api/integrations/replicate")["revoked"] is False
    assert mine(ada) == {}
    partners.down = False
    clock.advance(minutes=2)
    Worker(shop.db, shop.clock, job_functions(shop)).run_due()
    assert partners.tokens == set()


def test_without_a_client_of_ours_connecting_says_what_is_missing(person: Callable[..., Any], shop: Service) -> None:
    shop.market = replace(shop.market, clients={})
    refused = person("ada").send("GET", "/api/integrations/replicate/connect", expect=503)
    assert "partner_clients" in refused["message"]


@pytest.mark.parametrize(
    ("slug", "good", "bad"),
    [
        ("helicone", {"api_key": "sk-helicone-good"}, {"api_key": "sk-helicone-bad"}),
        ("together", {"api_key": "tgp-good"}, {"api_key": "tgp-bad"}),
        ("runpod", {"api_key": "rpa_good", "endpoint_id": "ep1"}, {"api_key": "rpa_bad", "endpoint_id": "ep1"}),
        ("upstash", {"url": "{base}/upstash", "token": "upstash-token"}, {"url": "{base}/upstash", "token": "no"}),
        (
            "modal",
            {"url": "{base}/modal", "token_id": "ak-1", "token_secret": "as-1"},
            {"url": "{base}/modal", "token_id": "ak-1", "token_secret": "as-2"},
        ),
    ],
)
def test_a_key_is_checked_with_the_partner_before_it_is_kept(
    person: Callable[..., Any], partners: Any, slug: str, good: dict[str, str], bad: dict[str, str]
) -> None:
    ada = person("ada")
    fill = {"base": partners.address}
    refused = key(ada, slug, expect=422, **{name: value.format(**fill) for name, value in bad.items()})
    assert refused["error"] == "credential_refused"
    assert mine(ada) == {}
    kept = key(ada, slug, **{name: value.format(**fill) for name, value in good.items()})
    assert kept["status"] == "connected"
    assert not [value for value in good.values() if value in json.dumps(kept)]
    key(ada, slug, expect=422, other="x")


def test_a_key_partners_address_cannot_lead_inside(person: Callable[..., Any], service: Service) -> None:
    ada = person("ada")
    refused = key(ada, "upstash", expect=422, url="http://169.254.169.254/", token="t")
    assert refused["error"] == "address_refused"
    assert service.settings


def test_together_answers_openai_shaped_chats_through_the_cache(person: Callable[..., Any], partners: Any) -> None:
    ada = person("ada")
    key(ada, "together", api_key="tgp-good")
    body = {"model": "meta-llama/Llama-3-8b-chat-hf", "messages": [{"role": "user", "content": "hi"}]}
    path = "/api/integrations/together/actions/chat"
    first, second = ada.send("POST", path, json=body), ada.send("POST", path, json=body)
    assert second["choices"] == first["choices"]
    assert (second["cached"], second["saved"], len(partners.chats)) == (True, 100, 1)


def test_a_modal_job_is_triggered_watched_and_costs_what_it_ran(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    key(ada, "modal", url=f"{partners.address}/modal", token_id="ak-1", token_secret="as-1")
    made = ada.send("POST", "/api/integrations/modal/actions/warm", json={"namespace": "storage"})
    path = f"/api/integrations/modal/jobs/{made['job']}"
    partner_jobs.advance(shop)
    assert ada.send("GET", path)["state"] == "running"
    assert partner_jobs.advance(shop) == 0
    clock.advance(seconds=30)
    partner_jobs.advance(shop)
    job = ada.send("GET", path)
    assert (job["state"], job["cost"], job["result"]) == ("succeeded", 1_300, {"output": {"warmed": 12}})
    assert [line["text"] for line in job["log"]] == ["started", "warmed 12 entries"]
    ada.send("POST", f"{path}/cancel", expect=409)
    ada.send("POST", "/api/integrations/modal/actions/dance", json={}, expect=404)


def test_a_job_is_cancelled_here_and_there(person: Callable[..., Any], partners: Any, shop: Service) -> None:
    ada = person("ada")
    key(ada, "modal", url=f"{partners.address}/modal", token_id="ak-1", token_secret="as-1")
    made = ada.send("POST", "/api/integrations/modal/actions/invalidate", json={"tag": "policy"})
    partner_jobs.advance(shop)
    assert ada.send("POST", f"/api/integrations/modal/jobs/{made['job']}/cancel")["state"] == "canceled"
    assert [job["status"] for job in partners.jobs.values()] == ["canceled"]


def test_a_scheduled_job_runs_at_its_hour_and_plans_the_next(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    key(ada, "modal", url=f"{partners.address}/modal", token_id="ak-1", token_secret="as-1")
    ada.send("POST", "/api/integrations/modal/actions/warm", json={"schedule": "sometimes"}, expect=422)
    ada.send("POST", "/api/integrations/modal/actions/warm", json={"schedule": "nightly"})
    assert partner_jobs.advance(shop) == 0
    clock.advance(hours=16)
    for _ in range(2):
        partner_jobs.advance(shop)
        clock.advance(seconds=30)
    rows = ada.send("GET", "/api/integrations/modal/jobs")
    assert sorted(row["state"] for row in rows) == ["queued", "succeeded"]
    assert [row["next_at"] for row in rows if row["state"] == "queued"] == ["2026-01-17T03:00:00Z"]


def test_a_runpod_job_ends_with_its_output(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    key(ada, "runpod", api_key="rpa_good", endpoint_id="ep1")
    made = ada.send("POST", "/api/integrations/runpod/actions/run", json={"input": {"prompt": "hi"}})
    partner_jobs.advance(shop)
    clock.advance(seconds=30)
    partner_jobs.advance(shop)
    job = ada.send("GET", f"/api/integrations/runpod/jobs/{made['job']}")
    assert (job["state"], job["cost"], job["result"]["output"]) == ("succeeded", 220, {"text": "done"})


def look_up(ada: Any, shop: Service, times: int) -> None:
    """Cache calls of an organization, half of them hits."""
    for number in range(times):
        shop.market.tap.note(
            ada.org_id,
            {"provider": "openai", "model": "m"},
            hit=number % 2 == 0,
            milliseconds=1.5,
            saved=10,
            at=shop.clock.now(),
        )


def test_helicone_receives_lookups_in_batches(person: Callable[..., Any], partners: Any, shop: Service) -> None:
    ada, bob = person("ada"), person("bob")
    key(ada, "helicone", api_key="sk-helicone-good")
    look_up(ada, shop, 120)
    look_up(bob, shop, 5)
    assert forwarding.flush(shop) == 120
    assert [len(batch["events"]) for batch in partners.batches.values()] == [50, 50, 20]
    event = next(iter(partners.batches.values()))["events"][0]
    assert set(event) == {"id", "timestamp", "provider", "model", "cache", "latency_ms", "saved_usd_micros"}
    row = mine(ada)["helicone"]
    assert (row["hits"], row["misses"], row["saved"]) == (60, 60, 1_200)
    assert forwarding.flush(shop) == 0


def test_a_batch_that_is_not_accepted_is_sent_again_later_and_given_up_at_last(
    person: Callable[..., Any], partners: Any, shop: Service, clock: FixedClock
) -> None:
    ada = person("ada")
    key(ada, "helicone", api_key="sk-helicone-good")
    look_up(ada, shop, 3)
    partners.down = True
    assert forwarding.flush(shop) == 0
    assert mine(ada)["helicone"]["status"] == "trouble"
    partners.down = False
    assert forwarding.flush(shop) == 0
    clock.advance(minutes=1)
    assert forwarding.flush(shop) == 3
    assert mine(ada)["helicone"]["status"] == "connected"
    partners.down = True
    look_up(ada, shop, 1)
    for _ in range(forwarding.MAX_ATTEMPTS):
        forwarding.flush(shop)
        clock.advance(hours=10)
    with shop.db.read() as session:
        assert list(session.scalars(select(ForwardEvent))) == []


def test_a_full_tap_drops_the_oldest_and_counts_them(person: Callable[..., Any], shop: Service) -> None:
    from agentcache_service.market.tap import Tap

    tap = Tap(capacity=2)
    for number in range(3):
        tap.note("org", {}, hit=True, milliseconds=number, saved=0, at=shop.clock.now())
    assert (tap.dropped, [lookup.milliseconds for lookup in tap.drain()]) == (1, [1, 2])
    assert person


def test_cache_calls_with_a_providers_name_count_for_its_connection(
    person: Callable[..., Any], partners: Any, shop: Service
) -> None:
    ada = person("ada")
    oauth(ada, partners)
    made = ada.send("POST", "/api/keys", json={"name": "app"}, expect=201)["key"]
    headers = {"X-API-Key": made, "X-Namespace": "storage"}
    request = {"version": "abc", "input": {"prompt": "a fox"}}
    body = {"provider": "replicate", "request": request, "response": {"output": 1}, "cost": {"usd_micros": 12_340_000}}
    assert ada.http.post("/api/cache/set", json=body, headers=headers).status_code == 200
    for _ in range(3):
        got = ada.http.post("/api/cache/get", json={"provider": "replicate", "request": request}, headers=headers)
        assert got.json()["hit"] is True
    forwarding.flush(shop)
    assert mine(ada)["replicate"]["words"] == "Cached 3 Replicate calls (saved $37.02)"


def test_the_vercel_recipe_names_this_installation(person: Callable[..., Any]) -> None:
    recipe = person("ada").send("GET", "/api/integrations/vercel")["recipe"]
    assert "AGENTCACHE_URL=http://testserver" in recipe
    assert "%(" not in recipe


def test_state_and_verifier_never_appear_in_the_database(
    person: Callable[..., Any], partners: Any, shop: Service
) -> None:
    ada = person("ada")
    away = ada.send("GET", "/api/integrations/replicate/connect", expect=303).headers["location"]
    answer = partners.authorize(away)
    files = list(shop.settings.data_dir.glob("service.db*"))
    assert files
    assert not [path for path in files if answer["state"].encode() in path.read_bytes()]
    assert urlsplit(away).hostname == "127.0.0.1"
    assert connections.redirect_address(shop, "replicate") == partners.redirect


def test_together_answers_an_unchanged_openai_client_through_the_transport(partners: Any) -> None:
    openai = pytest.importorskip("openai")
    from agentcache_adapters.openai import cached
    from agentcache_core import Cache

    with Cache() as cache, openai.OpenAI(base_url=f"{partners.address}/together/v1", api_key="tgp-good") as plain:
        client = cached(plain, cache)
        said = [
            client.chat.completions.create(
                model="meta-llama/Llama-3-8b-chat-hf", messages=[{"role": "user", "content": "hi"}], temperature=0
            )
            .choices[0]
            .message.content
            for _ in range(3)
        ]
    assert said == ["answer 1"] * 3
    assert len(partners.chats) == 1
