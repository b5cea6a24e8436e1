"""From an outgoing request to a plan: the key it has, or the reason why it bypasses the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from agentcache_adapters.http.directives import Directives, parse_directives
from agentcache_adapters.http.headers import CONTROL_PREFIX, address, counted_headers
from agentcache_adapters.http.messages import HttpCall
from agentcache_adapters.http.rules import CacheRules, Rule
from agentcache_adapters.http.verdict import parsed, text
from agentcache_adapters.http.wire import Wire
from agentcache_core.keys import EmbeddingRequest, HttpRequest

KeyedRequest = Mapping[str, Any] | EmbeddingRequest | HttpRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with one call. `request` is what the cache keys, None when `bypass` says why there is none."""

    request: KeyedRequest | None
    directives: Directives
    wire: Wire | None = None
    rule: Rule | None = None
    bypass: str = ""
    ttl: float | str | None = None
    tags: tuple[str, ...] = ()
    max_body: int = 0


def plan(call: HttpCall, rules: CacheRules, *, secret: bytes = b"") -> Plan:
    """The plan for `call`. `secret` keys the digest of its credentials. Never raises: what it cannot read bypasses."""
    try:
        return _plan(call, rules, secret=secret)
    except Exception as error:  # noqa: BLE001 - the call must not suffer for what it looks like
        return Plan(None, Directives(), bypass=f"the request cannot be planned: {type(error).__name__}: {error}")


def _plan(call: HttpCall, rules: CacheRules, *, secret: bytes) -> Plan:
    directives = parse_directives(call.headers)
    if len(call.body) > rules.max_body:
        return Plan(None, directives, bypass=f"the request body is larger than {rules.max_body} bytes")
    body = _json_object(call)
    wire = None if body is None else next((w for w in rules.wires_for(call) if w.recognises(call.path, body)), None)
    if wire is not None and body is not None:
        if reason := wire.bypass(body, provider_tools=rules.provider_tools):
            return Plan(None, directives, wire=wire, bypass=reason)
        tags = rules.tags + directives.tags
        return Plan(
            _model_request(call, body, wire=wire, directives=directives, secret=secret), directives, wire, None, "",
            directives.ttl or rules.ttl, tags, rules.max_body,
        )  # fmt: skip
    rule = rules.rule_for(call)
    if rule is None:
        return Plan(None, directives, bypass="no rule covers this call")
    return Plan(
        _plain_request(call, directives=directives, secret=secret), directives, None, rule, "",
        directives.ttl or rule.ttl or rules.ttl, rules.tags + rule.tags + directives.tags, rules.max_body,
    )  # fmt: skip


def _json_object(call: HttpCall) -> dict[str, Any] | None:
    if not call.body or "json" not in call.header("content-type").lower():
        return None
    try:
        body = parsed(call.body)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _counted(call: HttpCall, directives: Directives) -> dict[str, str]:
    headers = counted_headers(call)
    if directives.sample:
        headers[f"{CONTROL_PREFIX}-sample"] = str(directives.sample)
    return headers


def _model_request(
    call: HttpCall, body: dict[str, Any], *, wire: Wire, directives: Directives, secret: bytes
) -> Mapping[str, Any] | EmbeddingRequest:
    """A chat or embedding request: the body itself, so that volatile ids are treated as such, plus where it goes."""
    url, credentials = address(call, secret=secret)
    envelope: dict[str, Any] = {
        "method": call.method,
        "url": url,
        "headers": _counted(call, directives),
        "credentials": credentials,
    }
    # Routers such as OpenRouter have fields of these names in their bodies: they count, beside ours.
    shadowed = {name: body[name] for name in ("provider", "http") if name in body}
    if shadowed:
        envelope["body"] = shadowed
    if wire.embeds:
        rest = {name: value for name, value in body.items() if name not in ("model", "input")}
        return EmbeddingRequest(
            text(body.get("model")), body["input"], provider=wire.provider, parameters={**rest, "http": envelope}
        )
    return {**body, "provider": wire.provider, "http": envelope}


def _plain_request(call: HttpCall, *, directives: Directives, secret: bytes) -> HttpRequest:
    url, credentials = address(call, secret=secret)
    return HttpRequest(call.method, url, _counted(call, directives), _plain_body(call), credential=credentials)


def _plain_body(call: HttpCall) -> object:
    body = _json_object(call)
    if body is not None:
        return body
    content = call.body
    kind, _, parameters = call.header("content-type").partition(";")
    if kind.strip().lower().startswith("multipart/"):
        # The boundary is drawn anew for every send and means nothing.
        boundary = next((p.partition("=")[2].strip().strip('"') for p in parameters.split(";") if "boundary=" in p), "")
        if boundary:
            content = content.replace(boundary.encode("latin-1"), b"boundary")
    return blake3(content).hexdigest() if content else ""
