"""Rendering: the template environment, what every page knows (caller, organization, banners, navigation), errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from agentcache_service.errors import ServiceError
from agentcache_service.identity import orgs
from agentcache_service.identity.credentials import cookie_name
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.usage import alerts
from agentcache_service.web import words


def span(seconds: int) -> str:
    """A length of time in its largest whole unit: "7 days"."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} seconds"


def effects(settings: Mapping[str, Any]) -> list[str]:
    """What the settings of a namespace's nodes mean, as short phrases."""
    told = [f"kept {span(settings['ttl_s'])}"] if "ttl_s" in settings else []
    if settings.get("semantic") is True:
        told.append("matched by meaning")
    elif settings.get("semantic"):
        told.append(f"matched by meaning from {settings['semantic']:.2f}")
    elif "semantic" in settings:
        told.append("exact matches only")
    if "assets" in settings:
        told.append("takes assets" if settings["assets"] else "no assets")
    if settings.get("stale_while_revalidate_s"):
        told.append(f"served {span(settings['stale_while_revalidate_s'])} longer as stale")
    return told


@dataclass(frozen=True, slots=True)
class NavItem:
    """A line of the dashboard's navigation. `icon` is a name known to `templates/parts/macros.html`."""

    label: str
    href: str
    icon: str = "other"


STAFF_NAVIGATION: list[tuple[str, list[NavItem]]] = [("Installation", [NavItem("Platform", "/admin", "platform")])]
STAFF_ONLY: list[tuple[str, list[NavItem]]] = [
    ("", [NavItem("Platform", "/admin", "platform"), NavItem("Settings", "/dashboard/settings", "settings")])
]

# group title -> items; areas add theirs here
NAVIGATION: list[tuple[str, list[NavItem]]] = [
    (
        "",
        [
            NavItem("Overview", "/dashboard", "overview"),
            NavItem("API keys", "/dashboard/keys", "keys"),
            NavItem("Namespaces", "/dashboard/namespaces", "namespaces"),
            NavItem("Listeners", "/dashboard/listeners", "listeners"),
            NavItem("Usage", "/dashboard/usage", "usage"),
        ],
    ),
    (
        "Marketplaces",
        [
            NavItem("Integrations", "/dashboard/integrations", "integrations"),
            NavItem("Marketplace", "/market", "market"),
            NavItem("Purchases", "/market/purchases", "purchases"),
            NavItem("Creator", "/creator", "creator"),
            NavItem("Earnings", "/dashboard/affiliates", "earnings"),
        ],
    ),
    (
        "Account",
        [
            NavItem("Plan", "/dashboard/plan", "plan"),
            NavItem("Billing", "/dashboard/billing", "billing"),
            NavItem("Settings", "/dashboard/settings", "settings"),
        ],
    ),
]


@cache
def environment() -> Environment:
    """The Jinja environment: everything is escaped, an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("agentcache_service.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number, size=size, money=money, percent=percent, day=day, ago=ago, effects=effects, span=span
    )
    made.filters.update(action=words.action, browser=words.browser)
    return made


def number(value: float | None) -> str:
    """A whole number with thin groups: 12,345."""
    return "–" if value is None else f"{value:,.0f}"


def size(value: int | None) -> str:
    """Bytes for people: 1.5 MB (1 MB = 1,048,576 bytes)."""
    if value is None:
        return "unlimited"
    amount, unit = float(value), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1024 or unit == "TB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 or amount == int(amount) else f"{amount:.1f} {unit}"


def money(micros: int | None) -> str:
    """Micro-USD as dollars: $12.34; amounts below a cent keep the digits that tell them from nothing."""
    if micros is None:
        return "–"
    dollars = micros / 1_000_000
    return f"${dollars:,.4f}" if 0 < abs(dollars) < 0.01 else f"${dollars:,.2f}"


def percent(share: float | None) -> str:
    """A share from 0 to 1 as a percentage."""
    return "–" if share is None else f"{100 * share:.1f} %"


def day(moment: datetime | None) -> str:
    """A date: 15 Jan 2026."""
    return "–" if moment is None else f"{moment.day} {moment:%b %Y}"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago: "3 minutes ago"."""
    if moment is None:
        return "never"
    seconds = max(0, (now - moment).total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def page(request: Request, caller: Principal, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A rendered page. Dashboard templates find `org`, `plan`, `banners`, `nav` and `path` beside `context`."""
    service = service_of(request)
    shared: dict[str, Any] = {
        "caller": caller,
        "path": request.url.path,
        "nav": _navigation(caller),
        "signed_in": caller.kind == "session",
        "now": service.clock.now(),
        "notice": None,
        "problem": None,
        "public_url": service.settings.public_url,
        **_organization(service, caller),
    }
    html = environment().get_template(template).render({**shared, **context})
    return HTMLResponse(html, status_code=status)


def _navigation(caller: Principal) -> list[tuple[str, list[NavItem]]]:
    """The menu: the organization's pages, and for platform admins theirs; without an organization theirs alone."""
    if caller.org_id is None:
        return STAFF_ONLY
    return [*NAVIGATION, *STAFF_NAVIGATION] if caller.is_staff else NAVIGATION


def _organization(service: Service, caller: Principal) -> dict[str, Any]:
    if caller.kind != "session" or caller.org_id is None:
        return {"org": None, "plan": None, "trial_days_left": None, "banners": []}
    now = service.clock.now()
    with service.db.read() as session:
        org = orgs.get(session, caller.org_id)
        banners = alerts.banners(service, session, org)
    left = None
    if org.trial_ends_at is not None and org.trial_ends_at > now:
        left = math.ceil((org.trial_ends_at - now) / timedelta(days=1))
    return {"org": org, "plan": orgs.plan_of(service, org), "trial_days_left": left, "banners": banners}


def see_other(where: str) -> RedirectResponse:
    """The answer to a form that was carried out: look there."""
    return RedirectResponse(where, status_code=303)


_HEADINGS = {
    401: "Please sign in",
    403: "Not allowed",
    404: "Not found",
    402: "Not in your plan",
    429: "Too many tries",
}


_SENTENCES = {  # what the framework says in two words
    "Not Found": "There is nothing at this address.",
    "Method Not Allowed": "This address is not opened that way. Go back and use the button on the page.",
}


def error_page(request: Request, error: ServiceError) -> HTMLResponse | RedirectResponse:
    """A refusal as a page; who is not signed in is led to the login, who owes a second factor to its form."""
    if error.status == 401 and request.method == "GET":
        return see_other("/login")
    if error.code == "second_factor_required":
        return see_other("/second-factor")
    is_signed_in = cookie_name(is_https=service_of(request).settings.is_https) in request.cookies
    html = (
        environment()
        .get_template("error.html")
        .render(
            caller=Principal(),
            signed_in=is_signed_in,
            heading=_HEADINGS.get(error.status, "Something is not right"),
            message=_SENTENCES.get(error.message, error.message),
            upgrade_url="/dashboard/billing" if "upgrade_url" in error.extra else None,
        )
    )
    return HTMLResponse(html, status_code=error.status, headers=error.headers)
