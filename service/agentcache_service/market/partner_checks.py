"""Does a credential work? Asked of the partner before it is kept; the answer is the account's name for the customer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.safe_http import Caps, Fetched, FetchFailed
from agentcache_service.service import Service

from . import neon, upstash
from .partner_catalog import Partner

CAPS = Caps(max_bytes=2 << 20, seconds=15.0, hops=0)


class PartnerFailed(ServiceError):
    """The partner could not be reached or answered with an error of its own."""

    status, code = 502, "partner_failed"


def ask(
    service: Service,
    method: str,
    address: str,
    *,
    bearer: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    caps: Caps = CAPS,
) -> Fetched:
    """One call of a partner's API with a bearer token; `PartnerFailed` when it cannot be reached."""
    sent = {"accept": "application/json", **(headers or {})}
    if bearer:
        sent["authorization"] = f"Bearer {bearer}"
    data = b""
    if body is not None:
        data = json.dumps(body).encode()
        sent["content-type"] = "application/json"
    try:
        return service.outgoing.fetch(method, address, headers=sent, body=data, caps=caps, follow=False)
    except FetchFailed as error:
        raise PartnerFailed(f"The partner could not be reached: {error.message}") from error


def parsed(got: Fetched, partner: str) -> Any:
    """The JSON of a good answer; `PartnerFailed` otherwise."""
    if not 200 <= got.status < 300:
        raise PartnerFailed(f"{partner} answered {got.status}.")
    try:
        return json.loads(got.body)
    except ValueError:
        raise PartnerFailed(f"{partner} did not answer with JSON.") from None


def check(service: Service, partner: Partner, fields: Mapping[str, str]) -> str:
    """The account's name at the partner; `Unprocessable` when the credential is refused there."""
    special: dict[str, Callable[[Service, Mapping[str, str]], str]] = {"neon": neon.check, "upstash": upstash.check}
    if partner.slug in special:
        return special[partner.slug](service, fields)
    bearer = fields.get("access_token") or fields.get("api_key") or ""
    base = fields.get("url") or partner.api_base
    path = partner.api_check.replace("{endpoint_id}", _segment(fields.get("endpoint_id", "")))
    got = ask(service, "GET", base.rstrip("/") + path, bearer=bearer, headers=proxy_headers(fields))
    if got.status in {401, 403}:
        raise Unprocessable(f"{partner.name} refuses this credential.", code="credential_refused")
    answer = parsed(got, partner.name)
    return _account(answer) if isinstance(answer, Mapping) else ""


def proxy_headers(fields: Mapping[str, str]) -> dict[str, str]:
    """The token pair in the headers that Modal's proxy authentication asks for; nothing for other partners."""
    if "token_id" not in fields:
        return {}
    return {"modal-key": fields["token_id"], "modal-secret": fields["token_secret"]}


def _segment(text: str) -> str:
    """A text fit to be one part of a path."""
    if any(char in text for char in "/?#\\ ") or ".." in text:
        raise Unprocessable("endpoint_id holds a character it cannot have.")
    return text


def _account(answer: Mapping[str, Any]) -> str:
    for name in ("username", "account", "organization", "workspace", "name", "id"):
        value = answer.get(name)
        if isinstance(value, str) and value:
            return value[:120]
    return ""
