"""Our side of OAuth: authorization code with PKCE S256 at a partner, tokens accepted only when they surely are tokens.

A client library may hand out an error body as if it were a token (it looks for a key `error` only). Here an answer
is a token when its status is 200, its type JSON, `access_token` a non-empty text and `token_type` bearer;
everything else is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from agentcache_service.errors import ServiceError
from agentcache_service.safe_http import Caps, FetchFailed, SafeClient

from .partner_catalog import Connect
from .parts import PartnerClient

CAPS = Caps(max_bytes=256 << 10, seconds=15.0, hops=0)


class OAuthRefused(ServiceError):
    """The partner refused, or answered with something that is not a token."""

    status, code = 502, "partner_refused"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a partner gave; `expires_in` in seconds, None where it was not told."""

    access: str
    refresh: str | None
    expires_in: int | None

    def __repr__(self) -> str:
        return f"Tokens(expires_in={self.expires_in!r})"


def new_verifier() -> str:
    """A PKCE code verifier: 43 URL-safe characters from 256 random bits."""
    return secrets.token_urlsafe(32)


def challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def authorize_address(connect: Connect, client: PartnerClient, *, redirect: str, state: str, verifier: str) -> str:
    """Where the browser goes to ask the partner."""
    parts = urlsplit(connect.authorize)
    query = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": redirect,
        "scope": " ".join(connect.scopes),
        "state": state,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
    }
    given = f"{parts.query}&" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc, parts.path, given + urlencode(query), ""))


def check_issuer(connect: Connect, answered: str | None) -> None:
    """Refuse an answer that another authorization server may have sent (RFC 9207, mix-up attack)."""
    if answered is None:
        if connect.returns_issuer:
            raise OAuthRefused("The partner's answer names no issuer.", code="issuer_missing", status=400)
        return
    if not hmac.compare_digest(answered.encode(), connect.issuer.encode()):
        raise OAuthRefused("The answer comes from another issuer than was asked.", code="issuer_wrong", status=400)


def exchange(
    http: SafeClient, connect: Connect, client: PartnerClient, *, code: str, verifier: str, redirect: str
) -> Tokens:
    """Turn a code into tokens."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "client_id": client.id,
        "code_verifier": verifier,
    }
    return _tokens(http, connect, client, form)


def refresh(http: SafeClient, connect: Connect, client: PartnerClient, token: str) -> Tokens:
    """New tokens for a refresh token; the old refresh token is kept where no new one is given."""
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client.id}
    made = _tokens(http, connect, client, form)
    return Tokens(made.access, made.refresh or token, made.expires_in)


def revoke(http: SafeClient, connect: Connect, client: PartnerClient, token: str) -> None:
    """Have the partner forget a token (RFC 7009); raises `OAuthRefused` unless it says that it did."""
    try:
        got = _post(http, connect.revoke, client, {"token": token, "client_id": client.id})
    except FetchFailed as error:
        raise OAuthRefused("The partner could not be reached to revoke access.") from error
    if got[0] != 200:
        raise OAuthRefused(f"The partner answered {got[0]} to the revocation.")


def accept_token(status: int, content_type: str, body: bytes) -> Tokens:
    """The tokens in an answer, or `OAuthRefused`: the one place that decides what a token is."""
    if status != 200:
        raise OAuthRefused(f"The partner answered {status} instead of a token.")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise OAuthRefused("The partner's answer is not JSON.")
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        raise OAuthRefused("The partner's answer is not JSON.") from None
    if not isinstance(parsed, Mapping) or "error" in parsed:
        raise OAuthRefused("The partner's answer is an error, not a token.")
    access, kind = parsed.get("access_token"), parsed.get("token_type")
    if not isinstance(access, str) or not access or not isinstance(kind, str) or kind.lower() != "bearer":
        raise OAuthRefused("The partner's answer holds no bearer token.")
    again, life = parsed.get("refresh_token"), parsed.get("expires_in")
    return Tokens(
        access, again if isinstance(again, str) and again else None, life if type(life) is int and life > 0 else None
    )


def _tokens(http: SafeClient, connect: Connect, client: PartnerClient, form: Mapping[str, str]) -> Tokens:
    try:
        return accept_token(*_post(http, connect.token, client, form))
    except FetchFailed as error:
        raise OAuthRefused("The partner could not be reached.") from error


def _post(http: SafeClient, address: str, client: PartnerClient, form: Mapping[str, str]) -> tuple[int, str, bytes]:
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if client.secret:
        pair = base64.b64encode(f"{client.id}:{client.secret}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    got = http.fetch("POST", address, headers=headers, body=urlencode(form).encode(), caps=CAPS, follow=False)
    return got.status, got.headers.get("content-type", ""), got.body
