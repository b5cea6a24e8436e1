"""The local outbox in the browser: mails of an installation that sends none."""

from __future__ import annotations

import re
from ipaddress import ip_address

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from agentcache_service.errors import NotFound
from agentcache_service.mail import Outbox
from agentcache_service.matrix import Row, for_everybody
from agentcache_service.operations_routes import is_direct_loopback
from agentcache_service.policy import public
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page

router = APIRouter(prefix="/outbox", include_in_schema=False)
_LINK = re.compile(r"https?://[^\s<>\"']+")


def _outbox(request: Request, caller: Principal) -> Outbox:
    """The outbox, for a browser on this machine (directly, not through a proxy) or a platform admin; else 404."""
    service = service_of(request)
    if not isinstance(service.mail, Outbox):
        raise NotFound("Mails are sent, not kept.")
    local = service.settings.is_loopback and is_direct_loopback(request) and _is_local_name(request)
    if not (local or caller.is_staff):
        raise NotFound("There is no such page.")
    return service.mail


def _is_local_name(request: Request) -> bool:
    """True when the browser asked for this machine by a local name: a foreign page's name must not lead here."""
    host = request.url.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def linked(text: str) -> Markup:
    """Text with its addresses as links, everything else escaped."""
    parts, end = [], 0
    for found in _LINK.finditer(text):
        address = escape(found.group())
        parts += [escape(text[end : found.start()]), Markup('<a href="{0}">{0}</a>').format(address)]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@router.get("")
def list_mails(request: Request, caller: Principal = public()) -> HTMLResponse:
    """The newest mails."""
    outbox = _outbox(request, caller)
    mails = [(name, outbox.read(name)) for name in outbox.names()[:100]]
    return page(request, caller, "public/outbox.html", mails=[(name, mail) for name, mail in mails if mail])


@router.get("/{name}")
def read_mail(name: str, request: Request, caller: Principal = public()) -> HTMLResponse:
    """One mail."""
    mail = _outbox(request, caller).read(name)
    if mail is None:
        raise NotFound("There is no such mail.")
    body = mail.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    return page(request, caller, "public/mail.html", mail=mail, text=linked(text))


ACCESS: tuple[Row, ...] = (
    Row("GET", "/outbox", for_everybody(404), staff=200),
    Row("GET", "/outbox/{name}", for_everybody(404), staff=404),
)
