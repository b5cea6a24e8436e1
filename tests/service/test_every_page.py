"""Every page, service and market, with a month of use and empty: axe, both colour schemes, desktop and phone width."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import service_axe
import service_gallery as gallery
import service_world as world
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, Page, sync_playwright
from service_conftest import LiveServer, make_service, make_settings

from agentcache_service.areas import ROUTER_MODULES
from agentcache_service.clock import SystemClock

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
CHROMIUM = os.environ.get("AGENTCACHE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SHOTS = os.environ.get("AGENTCACHE_SCREENSHOTS")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# looked at elsewhere: what redirects, what never ends, what needs a mail or a login half done
ELSEWHERE = {
    "/portal/signup.html",
    "/portal/dashboard.html",
    "/dashboard/live",
    "/creator/live",
    "/dashboard/billing/card",
    "/outbox/{name}",
}


class Site:
    """The running service and whose pages it has."""

    def __init__(self, server: LiveServer, made: gallery.Gallery) -> None:
        self.server, self.made = server, made

    def page(self, browser: Browser, who: str) -> Page:
        """A browser window of somebody."""
        service = self.server.service
        context = browser.new_context(reduced_motion="reduce")
        user = {"admin": self.made.admin, "newcomer": self.made.newcomer, "staff": self.made.staff}.get(who)
        if user is not None:
            caller = world.sign_in(service, user, second_factor=who == "staff")
            name, _, value = caller.headers["cookie"].partition("=")
            context.add_cookies([{"name": name, "value": value, "url": self.server.url}])
        page = context.new_page()
        page.set_default_timeout(60_000)
        return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    service = make_service(make_settings(tmp_path_factory.mktemp("pages")), SystemClock())
    people = {
        name: world.make_user(service, name, role="admin" if name == "root" else "user")
        for name in ("ada", "bob", "root", "zoe")
    }
    org = world.make_org(service, people["ada"], name="Analytical Engines", plan="pro")
    world.make_org(service, people["bob"], name="Bob & Sons", plan="starter")
    shop = world.make_org(service, people["zoe"], name="Zoe's Models")
    made = gallery.build(
        service,
        admin=people["ada"],
        newcomer=people["bob"],
        staff=people["root"],
        seller=people["zoe"],
        org=org,
        shop=shop,
    )
    server = LiveServer(service)
    service.settings.public_url = server.url
    yield Site(server, made)
    server.stop()
    service.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        raise RuntimeError("these tests need Chromium (apt-get install chromium), or AGENTCACHE_CHROMIUM=/path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def test_no_page_is_left_out(site: Site) -> None:
    """Every route that gives a page is among those looked at below; a new one must be added to the gallery."""
    looked_at = {path.partition("?")[0] for paths in site.made.pages().values() for path in paths}
    routes = {
        route.path
        for module in ROUTER_MODULES
        for route in module.router.routes
        if isinstance(route, APIRoute) and not route.include_in_schema and "GET" in route.methods
    }
    forgotten = [
        route
        for route in routes - ELSEWHERE
        if not any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path) for path in looked_at)
    ]
    assert forgotten == []


@pytest.mark.parametrize("who", ["anybody", "newcomer", "admin", "staff"])
def test_axe_finds_nothing_serious_nothing_complains_and_no_page_is_too_wide(
    who: str, site: Site, browser: Browser
) -> None:
    page = site.page(browser, who)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
    source = service_axe.axe_source()
    found: dict[str, Any] = {}
    for path in site.made.pages()[who]:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{site.server.url}{path}")
        session = page.context.new_cdp_session(page)
        session.send("Runtime.evaluate", {"expression": source})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
            for size, (width, height) in SIZES.items():
                page.set_viewport_size({"width": width, "height": height})
                is_new = (scheme, size) in {("light", "desktop"), ("dark", "phone")}
                problems = _axe(session, only_colours=not is_new)
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if problems or wide > 0:
                    found[f"{path} {scheme} {size}"] = [*problems, *([f"{wide} px too wide"] if wide > 0 else [])]
                if SHOTS:
                    name = re.sub(r"\W+", "-", f"{who}{path}-{scheme}-{size}")
                    page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
        session.detach()
    page.context.close()
    assert found == {}
    assert complaints == []


def _is_complaint(said: Any) -> bool:
    """True for errors of scripts and of the content policy; an answer of 404 to a page that is not there is none."""
    return said.type == "error" and "the server responded with a status of 4" not in said.text


def _axe(session: Any, *, only_colours: bool) -> list[str]:
    """The serious and critical findings of the checker, run outside the page's own script policy.

    What depends neither on the colours nor on the width was found in the first of the four looks at a page.
    """
    options = '{resultTypes: ["violations"]' + (', runOnly: ["color-contrast"]}' if only_colours else "}")
    run = f"axe.run(document, {options}).then(found => JSON.stringify(found.violations))"
    answer = session.send("Runtime.evaluate", {"expression": run, "awaitPromise": True, "returnByValue": True})
    return [
        f"{item['id']}: {node['html'][:160]}"
        for item in json.loads(answer["result"]["value"])
        if item["impact"] in {"serious", "critical"}
        for node in item["nodes"]
    ]
