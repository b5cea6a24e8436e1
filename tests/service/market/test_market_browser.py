"""The whole journeys in a real browser: a creator lists and is paid; a user connects, saves, refers and earns."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import service_keyboard as keyboard
import uvicorn

from agentcache_adapters.agents.pack import pack
from agentcache_adapters.agents.templates import new_agent
from agentcache_service import schema
from agentcache_service.app import build_app
from agentcache_service.areas import job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.identity.credentials import cookie_name
from agentcache_service.identity.passwords import Passwords
from agentcache_service.jobs import Worker
from agentcache_service.market import affiliates, seeds
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.money.reconcile import reconcile
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
SHOTS = os.environ.get("AGENTCACHE_SCREENSHOTS")

_here = Path(__file__).parent


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


counterpart = _load("browser_counterpart", _here / "partners_counterpart.py")
world = _load("browser_world", _here.parent / "world.py")


@dataclass
class Site:
    """A running service, its clock, and the counterparts of its partners."""

    service: Service
    clock: FixedClock
    address: str
    partners: Any

    def run_jobs(self) -> None:
        Worker(self.service.db, self.service.clock, job_functions(self.service)).run_due()
        affiliates.settle_finished_payouts(self.service)


@pytest.fixture
def site(tmp_path: Path, clock: FixedClock) -> Iterator[Site]:
    """The service on a port of this machine, with partners that are strict counterparts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    state = counterpart.Partners(redirect=f"{address}/api/integrations/replicate/callback")
    stop = counterpart.serve(state)
    folder = tmp_path / "partners"
    folder.mkdir()
    for slug, text in counterpart.partner_files(state).items():
        (folder / f"{slug}.toml").write_text(text)
    home = f'[affiliate]\nhosts = ["127.0.0.1"]\nlanding = "{state.address}/welcome"\n'
    (folder / "replicate.toml").write_text((folder / "replicate.toml").read_text() + home)
    clients = {"replicate": {"id": state.client_id, "secret": state.client_secret, "postback": "pb-secret"}}
    settings = Settings(
        data_dir=tmp_path,
        public_url=address,
        port=port,
        worker_in_process=False,
        rate_limits=False,
        outgoing_allow=["127.0.0.0/8"],
        partners_dir=folder,
        partner_clients=json.dumps(clients),
    )
    service = build_service(settings, clock=clock)
    service.passwords = Passwords(memory_kib=64, passes=1)
    schema.upgrade(service.db)
    server = uvicorn.Server(
        uvicorn.Config(build_app(service=service), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(200):
        if server.started:
            break
        pause.wait(0.05)
    assert server.started
    yield Site(service, clock, address, state)
    server.should_exit = True
    thread.join(20)
    stop()
    service.close()


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.fail("no chromium: run scripts/setup/10-browser.sh")
    with playwright_api.sync_playwright() as api:
        opened = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(site: Site, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a browser window for a person (None: a stranger); every error in a page fails the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_window(user: str | None, **options: Any) -> Any:
        context = browser.new_context(base_url=site.address, viewport={"width": 1280, "height": 860}, **options)
        contexts.append(context)
        if user is not None:
            headers = world.sign_in(site.service, user, second_factor=True).headers
            name = cookie_name(is_https=False)
            value = headers["cookie"].split("=", 1)[1]
            context.add_cookies([{"name": name, "value": value, "url": site.address}])
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if _is_our_error(site, message) else None)
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert errors == []


def _is_our_error(site: Site, message: Any) -> bool:
    return bool(message.type == "error" and message.location.get("url", "").startswith(site.address))


def shot(page: Any, name: str) -> None:
    """Keep a picture of a page for people, where they asked for it."""
    if SHOTS:
        page.wait_for_load_state("load")
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def someone(site: Site, name: str, *, staff: bool = False) -> tuple[str, str]:
    user = world.make_user(site.service, name, role="admin" if staff else "user")
    return user, world.make_org(site.service, user, name=f"{name.title()} Ltd")


def renew(site: Site, page: Any, user: str) -> None:
    """A new session after the clock has moved on."""
    value = world.sign_in(site.service, user, second_factor=True).headers["cookie"].split("=", 1)[1]
    page.context.add_cookies([{"name": cookie_name(is_https=False), "value": value, "url": site.address}])


def test_creator_lists_buyer_finds_pays_calls_reviews_and_the_creator_is_paid(
    site: Site, visit: Callable[..., Any], upstream: Any, tmp_path: Path
) -> None:
    ada, _ = someone(site, "ada")
    bob, _ = someone(site, "bob")
    seller, buyer = visit(ada), visit(bob)

    seller.goto("/creator")
    seller.get_by_label("Name shown to buyers").fill("Ada's models")
    seller.get_by_role("button", name="Become a creator").click()
    seller.goto("/dashboard/billing")
    seller.get_by_label("E-mail for payouts").fill("ada@example.com")
    seller.get_by_role("button", name="Save").click()
    seller.goto("/creator/listings/new")
    seller.get_by_label("Name", exact=True).fill("Polite support model")
    seller.get_by_label("Summary").fill("Answers support questions in two sentences.")
    seller.get_by_label("Description").fill("A small chat model tuned on support tickets. Fast, polite, and brief.")
    seller.get_by_label("Use case").fill("support desk")
    seller.get_by_label("Tags").fill("chat, support")
    seller.get_by_label("Model name in calls").fill("polite-1")
    seller.get_by_label("Price, $").fill("15")
    shot(seller, "creator-new")
    seller.get_by_role("button", name="Make draft").click()
    seller.get_by_label("Endpoint", exact=True).fill(upstream.address)
    seller.get_by_label("API key").fill("sk-adas-own-key")
    seller.get_by_role("button", name="Seal credentials").click()
    seller.get_by_label("New version").fill("1.0.0")
    seller.get_by_label("What is new").fill("First release.")
    seller.get_by_role("button", name="Add version").click()
    shot(seller, "creator-editor")
    seller.get_by_role("button", name="Publish").click()
    playwright_api.expect(seller.get_by_text("On sale.")).to_be_visible()

    buyer.goto("/dashboard/billing")
    buyer.get_by_role("button", name="Add card").click()
    playwright_api.expect(buyer.get_by_text("VISA ···· 4242")).to_be_visible()
    shot(buyer, "billing")
    buyer.goto("/market")
    buyer.get_by_label("Search", exact=True).fill("support")
    buyer.get_by_label("Highest price, $").fill("20")
    buyer.get_by_role("button", name="Search").click()
    shot(buyer, "market-search")
    buyer.get_by_role("link", name="Polite support model").click()
    shot(buyer, "market-listing")
    buyer.get_by_role("button", name="Buy now").click()
    playwright_api.expect(buyer.get_by_text("It is yours")).to_be_visible()
    buyer.get_by_role("button", name="Make key").click()
    key = buyer.locator("#the-key").inner_text()
    assert key.startswith("acm_")
    shot(buyer, "market-access")
    listing = seller.url.split("/")[-1].split("?")[0]
    body = {"model": "polite-1", "messages": [{"role": "user", "content": "Hello"}]}
    for expected in ("miss", "hit"):
        answer = buyer.request.post(
            f"/api/market/run/{listing}/chat/completions",
            data=body,
            headers={"X-API-Key": key, "Origin": site.address},
        )
        assert (answer.status, answer.headers["x-agentcache"]) == (200, expected)
    buyer.get_by_label("Rating").select_option("4")
    buyer.get_by_label("Words").fill("Brief and right.")
    buyer.get_by_role("button", name="Save review").click()
    buyer.get_by_label("Message").fill("Does it speak French?")
    buyer.get_by_role("button", name="Send").click()

    seller.goto("/creator")
    playwright_api.expect(seller.locator('[data-live="revenue"]')).to_have_text("$13.20")
    playwright_api.expect(seller.locator(".live")).to_have_attribute("data-state", "on")
    playwright_api.expect(seller.locator('[data-live="calls"]')).to_have_text("2")
    seller.locator("[data-money-chart] svg").first.wait_for()
    shot(seller, "creator")
    seller.get_by_role("button", name="Request payout").click()
    playwright_api.expect(seller.get_by_text("The payout is on its way.")).to_be_visible()
    site.run_jobs()
    seller.reload()
    playwright_api.expect(seller.get_by_text("paid", exact=True)).to_be_visible()
    report = reconcile(site.service.db, CHECKS)
    assert report.problems == ()
    assert report.balances["revenue:commission"] == -1_800_000


def test_figures_follow_a_sale_within_two_seconds(site: Site, visit: Callable[..., Any], tmp_path: Path) -> None:
    from agentcache_service.market import purchases

    ada, org = someone(site, "ada")
    bob, other = someone(site, "bob")
    names = seeds.an_active_listing(site.service, org, ada)
    page = visit(ada)
    page.goto("/creator")
    playwright_api.expect(page.locator('[data-live="sales"]')).to_have_text("0")
    playwright_api.expect(page.locator(".live")).to_have_attribute("data-state", "on")
    site.service.money.customers.attach_card(other, "b@example.com", card="card_ok", key="k")
    purchases.buy(site.service, seeds.owner(other, bob), names["listing_id"])
    playwright_api.expect(page.locator('[data-live="sales"]')).to_have_text("1", timeout=2_500)


def test_user_connects_replicate_sees_savings_refers_a_friend_and_earns(site: Site, visit: Callable[..., Any]) -> None:
    ada, org = someone(site, "ada")
    page = visit(ada)
    page.goto("/dashboard/integrations")
    shot(page, "integrations")

    page.get_by_role("link", name="Connect Replicate").first.click()
    playwright_api.expect(page.get_by_text("Replicate is connected.")).to_be_visible()
    token = page.locator('input[name="csrf_token"]').first.input_value()
    for _ in range(3):
        answer = page.request.post(
            "/api/integrations/replicate/actions/predict",
            data={"version": "v1", "input": {"prompt": "a fox"}},
            headers={"X-CSRF-Token": token, "Origin": site.address},
        )
        assert answer.status == 200
    page.goto("/dashboard/integrations")
    playwright_api.expect(page.get_by_text("Cached 2 Replicate calls (saved $0.001800)")).to_be_visible()
    shot(page, "integrations-connected")
    page.goto("/dashboard/integrations/replicate")
    shot(page, "integration-replicate")

    page.goto("/dashboard/affiliates")
    page.get_by_role("button", name="Start earning").click()
    link = page.locator("#link-replicate").inner_text()
    friend = visit(None)
    landed: list[str] = []
    friend.on("request", lambda request: landed.append(request.url))
    friend.goto(f"{link}?consent=yes")
    there = urlsplit(next(url for url in landed if "/welcome" in url))
    click = parse_qs(there.query)["ac_click"][0]
    assert parse_qs(there.query)["utm_source"] == ["agentcache"]

    def tell(**event: Any) -> None:
        body = json.dumps(event).encode()
        moment = int(site.clock.now().timestamp())
        answer = friend.request.post(
            "/api/affiliates/postback/replicate",
            data=body,
            headers={
                "content-type": "application/json",
                "x-timestamp": str(moment),
                "x-signature": affiliates.sign_postback("pb-secret", body, moment),
                "Origin": site.address,
            },
        )
        assert answer.status == 200, answer.text()

    tell(id="s1", event="signup", customer="friend", click=click)
    tell(id="e1", event="conversion", customer="friend", amount=250_000_000)
    page.reload()
    playwright_api.expect(page.locator('[data-live="this_month"]')).to_have_text("$25.00")
    page.locator("[data-money-chart] svg").first.wait_for()
    shot(page, "earnings")

    site.service.money.customers.payee(org, "ada@example.com")
    site.clock.advance(days=31)
    renew(site, page, ada)
    affiliates.approve_due(site.service)
    page.goto("/dashboard/affiliates")
    with page.expect_navigation():
        page.get_by_role("button", name="Request Payout").click()
    site.run_jobs()
    page.reload()
    playwright_api.expect(page.locator('[data-live="payable"]')).to_have_text("$0.00")
    assert reconcile(site.service.db, CHECKS).problems == ()
    page.goto("/dashboard/integrations/replicate")
    page.get_by_role("button", name="Disconnect").click()
    playwright_api.expect(page.get_by_text("Replicate is disconnected")).to_be_visible()
    assert site.partners.tokens == set()


def test_an_agent_is_uploaded_held_decided_and_downloaded(
    site: Site, visit: Callable[..., Any], tmp_path: Path
) -> None:
    ada, org = someone(site, "ada")
    bob, other = someone(site, "bob")
    staff, _ = someone(site, "staff", staff=True)
    site.service.money.customers.payee(org, "ada@example.com")
    site.service.money.customers.attach_card(other, "b@example.com", card="card_ok", key="k")
    new_agent("triage", tmp_path)
    (tmp_path / "triage" / "src" / "keys.py").write_text("KEY = '" + "AKIA" + "IOSFODNN7EXAMPLQ'\n")
    package = pack(tmp_path / "triage").path
    seller = visit(ada)
    seller.goto("/creator")
    seller.get_by_label("Name shown to buyers").fill("Ada")
    seller.get_by_role("button", name="Become a creator").click()
    seller.goto("/creator/listings/new")
    seller.get_by_label("Kind").select_option("agent")
    seller.get_by_label("Name", exact=True).fill("Ticket triage")
    seller.get_by_label("Summary").fill("Says who should answer a ticket.")
    seller.get_by_label("Description").fill("Reads tickets and says who in the team should answer them.")
    seller.get_by_label("Price, $").fill("20")
    seller.get_by_role("button", name="Make draft").click()
    seller.get_by_label("New version").fill("1.0.0")
    seller.get_by_label("Package").set_input_files(str(package))
    seller.get_by_role("button", name="Add version").click()
    seller.get_by_role("button", name="Publish").click()
    playwright_api.expect(seller.get_by_text("src/keys.py:1: AWS access key")).to_be_visible()
    moderator = visit(staff)
    moderator.goto("/admin")
    shot(moderator, "admin")
    moderator.get_by_role("button", name="Let it stand").click()
    playwright_api.expect(moderator.get_by_text("The decision is recorded.")).to_be_visible()
    buyer = visit(bob)
    buyer.goto("/market?kind=agent")
    buyer.get_by_role("link", name="Ticket triage").click()
    buyer.get_by_role("button", name="Buy now").click()
    with buyer.expect_download() as parcel:
        buyer.get_by_role("link", name="Download").click()
    assert Path(parcel.value.path()).read_bytes() == package.read_bytes()


def test_connecting_buying_and_moderating_by_keyboard_alone(site: Site, visit: Callable[..., Any]) -> None:
    ada, org = someone(site, "ada")
    bob, other = someone(site, "bob")
    staff, _ = someone(site, "staff", staff=True)
    site.service.money.customers.attach_card(org, "a@example.com", card="card_ok", key="k")
    names = seeds.an_open_case(site.service, other, bob)
    page = visit(ada)
    page.goto("/dashboard/integrations")
    keyboard.press(page, "[aria-label='Connect Helicone']")
    keyboard.fill(page, "#f-api_key", "sk-helicone-good")
    keyboard.press(page, "main button:has-text('Connect')")
    playwright_api.expect(page.get_by_text("Helicone is connected.")).to_be_visible()
    page.goto("/market")
    keyboard.fill(page, "#q", "seeded")
    page.keyboard.press("Enter")
    keyboard.press(page, "h3 a:has-text('Seeded listing')")
    keyboard.press(page, "button:has-text('Buy now')")
    playwright_api.expect(page.get_by_text("It is yours")).to_be_visible()
    keyboard.press(page, "button:has-text('Make key')")
    page.locator("#the-key").wait_for()
    moderator = visit(staff)
    moderator.goto("/admin")
    keyboard.fill(moderator, f"#n-{names['case_id']}", "It does what it says.")
    keyboard.press(moderator, "button[value='approve']")
    playwright_api.expect(moderator.get_by_text("The decision is recorded.")).to_be_visible()


@pytest.mark.parametrize(
    "path", ["/market", "/dashboard/integrations", "/dashboard/affiliates", "/dashboard/billing", "/creator"]
)
def test_pages_fit_a_phone_and_the_dark(site: Site, visit: Callable[..., Any], path: str) -> None:
    ada, org = someone(site, "ada")
    seeds.an_active_listing(site.service, org, ada)
    seeds.a_link(site.service, org, ada)
    page = visit(ada, color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    wide = page.evaluate("document.documentElement.scrollWidth")
    shot(page, f"phone-dark{path.replace('/', '-')}")
    assert wide <= 390
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
        ".filter(e => !e.labels.length && !e.ariaLabel).map(e => e.name)"
    )
    assert unlabelled == []
    assert page.locator("h1").count() == 1
