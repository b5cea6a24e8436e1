"""Which headers and query fields count in a key, which are credentials, and which may be stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agentcache_adapters.credentials import digest, is_credential
from agentcache_adapters.http.messages import Headers, HttpCall, ResponseHead

CONTROL_PREFIX = "x-agentcache"

_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
# Transport noise: differs between two sends of the same question, or says nothing about the answer.
_NOISE = _HOP | frozenset(
    [
        "host",
        "content-length",
        "accept-encoding",
        "user-agent",
        "date",
        "idempotency-key",
        "x-idempotency-key",
        "x-request-id",
        "x-client-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "sentry-trace",
        "x-amzn-trace-id",
        "expect",
        "origin",
        "referer",
    ]
)
_NOISE_PREFIXES = ("x-stainless-", "x-b3-", CONTROL_PREFIX)
# Load balancers set these cookies on every client, libraries send them back, and they say nothing about who asks.
_BALANCER_COOKIE = re.compile(
    r"__cf|_cfuvid|cf_clearance|AWSALB|AWSELB|GCLB|ARRAffinity|BIGip|incap_ses|visid_incap|TS01"
)
_NOT_STORED = _HOP | frozenset(
    [
        "content-encoding",
        "content-length",
        "set-cookie",
        "set-cookie2",
        "www-authenticate",
        "retry-after",
        "age",
        "alt-svc",
        "nel",
        "report-to",
        "strict-transport-security",
        "authorization",
        "x-api-key",
        "api-key",
    ]
)
_NOT_STORED_PATTERN = re.compile(r"ratelimit|rate-limit|^cf-|^" + CONTROL_PREFIX)


def counted_headers(call: HttpCall) -> dict[str, str]:
    """Headers that take part in the key in clear, by name; repeated ones are joined with a comma."""
    counted: dict[str, str] = {}
    for name, value in sorted(call.headers, key=lambda pair: pair[0]):
        if name in _NOISE or name.startswith(_NOISE_PREFIXES) or is_credential(name):
            continue
        if name == "content-type" and value.lower().startswith("multipart/"):
            value = value.partition(";")[0]
        counted[name] = f"{counted[name]}, {value}" if name in counted else value
    return counted


def split_url(url: str) -> tuple[str, list[tuple[str, str]]]:
    """The URL without credentials, and the credentials it held: user info and secret query fields."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    secrets = [("userinfo", parts.netloc.rpartition("@")[0])] if "@" in parts.netloc else []
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(is_credential(name) for name, _ in pairs):
        secrets += [pair for pair in pairs if is_credential(pair[0])]
        query = urlencode([pair for pair in pairs if not is_credential(pair[0])])
    return urlunsplit((parts.scheme, host, parts.path, query, "")), secrets


def address(call: HttpCall, *, secret: bytes = b"") -> tuple[str, str]:
    """The call's URL without credentials, and a keyed digest (hex) over every credential it sent, in URL or headers.

    The credentials themselves go nowhere else.
    """
    url, secrets = split_url(call.url)
    found = [_without_balancers(pair) for pair in call.headers if is_credential(pair[0])]
    return url, digest(found + secrets, secret=secret)


def _without_balancers(pair: tuple[str, str]) -> tuple[str, str]:
    name, value = pair
    if name != "cookie":
        return pair
    cookies = (cookie.strip() for cookie in value.split(";"))
    return name, "; ".join(sorted(cookie for cookie in cookies if not _BALANCER_COOKIE.match(cookie)))


def stored_headers(head: ResponseHead) -> Headers:
    """The headers kept with an answer: no cookies, nothing hop-by-hop, no rate limits, no encoding of the body."""
    dropped = _NOT_STORED | _named_by_connection(head.headers)
    return tuple(
        (name, value) for name, value in head.headers if name not in dropped and not _NOT_STORED_PATTERN.search(name)
    )


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(
        token.strip().lower() for name, value in headers if name == "connection" for token in value.split(",")
    )
