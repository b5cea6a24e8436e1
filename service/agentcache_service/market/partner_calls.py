"""Calls of compute partners through the customer's cache: Replicate predictions, Together.ai chats.

What an answer from the cache saves is what it cost when it was computed: the seconds or tokens the partner
reported, times the price in the partner's file. The formula is shown with the figure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from agentcache_service.errors import NotFound, Unprocessable
from agentcache_service.money.postings import dollars
from agentcache_service.principal import Principal
from agentcache_service.safe_http import Caps
from agentcache_service.service import Service

from . import connections, partner_checks
from .partner_catalog import Partner
from .partner_checks import PartnerFailed, parsed
from .response_cache import KeptAnswer

CAPS = Caps(max_bytes=20 << 20, seconds=75.0, hops=0)
TTL_S = 7 * 24 * 3600
MICROS = 1_000_000
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def predict(service: Service, principal: Principal, *, given: Mapping[str, Any]) -> dict[str, Any]:
    """A Replicate prediction: from the cache when the same one was computed before, else from Replicate."""
    chosen = connections.partner(service, "replicate")
    version, model, inputs = given.get("version"), given.get("model"), given.get("input")
    if not isinstance(inputs, Mapping) or not (isinstance(version, str) or isinstance(model, str)):
        raise Unprocessable("Give `input` and the `version` (or `model`) of a Replicate model.")
    request = {"provider": "replicate", "version": version or "", "model": model or "", "input": dict(inputs)}
    kept = _kept(service, principal, chosen, request)
    if kept is not None:
        return kept
    token = connections.credential(service, principal.tenant, "replicate").bearer
    path = "/v1/predictions" if version else f"/v1/models/{_model_path(str(model))}/predictions"
    body = {"version": version, "input": inputs} if version else {"input": inputs}
    got = partner_checks.ask(
        service, "POST", chosen.api_base + path, bearer=token, body=body, headers={"prefer": "wait=60"}, caps=CAPS
    )
    answer = parsed(got, chosen.name)
    if not isinstance(answer, Mapping) or answer.get("status") != "succeeded":
        state = answer.get("status") if isinstance(answer, Mapping) else "unknown"
        return {"cached": False, "status": state, "id": answer.get("id") if isinstance(answer, Mapping) else None}
    seconds = _number((answer.get("metrics") or {}).get("predict_time"))
    result = {"output": answer.get("output"), "id": answer.get("id"), "model": model or version}
    return _computed(service, principal, chosen, request, result=result, cost=round(seconds * chosen.second_price))


def chat(service: Service, principal: Principal, *, given: Mapping[str, Any]) -> dict[str, Any]:
    """A chat completion of Together.ai, OpenAI-shaped, through the cache."""
    chosen = connections.partner(service, "together")
    if not isinstance(given.get("messages"), list) or not isinstance(given.get("model"), str) or given.get("stream"):
        raise Unprocessable("Give `model` and `messages`; streams are for the client library's own transport.")
    request = {"provider": "together", **given}
    kept = _kept(service, principal, chosen, request)
    if kept is not None:
        return kept
    key = connections.credential(service, principal.tenant, "together").bearer
    got = partner_checks.ask(
        service, "POST", f"{chosen.api_base}/v1/chat/completions", bearer=key, body=dict(given), caps=CAPS
    )
    answer = parsed(got, chosen.name)
    if not isinstance(answer, Mapping) or not isinstance(answer.get("choices"), list):
        raise PartnerFailed(f"{chosen.name} did not answer with a completion.")
    tokens = _number((answer.get("usage") or {}).get("total_tokens"))
    cost = round(tokens * chosen.million_tokens_price / MICROS)
    return _computed(service, principal, chosen, request, result=dict(answer), cost=cost)


def savings_words(name: str, hits: int, saved: int) -> str:
    """The sentence on the card: `Cached 3 Replicate calls (saved $0.01)`."""
    places = 2 if saved >= 10_000 or saved == 0 else 6
    return f"Cached {hits:,} {name} call{'' if hits == 1 else 's'} (saved {dollars(saved, places)})"


def _kept(service: Service, principal: Principal, chosen: Partner, request: Mapping[str, Any]) -> dict[str, Any] | None:
    connections.credential(service, principal.tenant, chosen.slug)
    kept = service.market.responses.get(principal.tenant, request)
    if kept is None:
        return None
    with service.db.write() as session:
        connections.note_use(session, principal.tenant, chosen.slug, hits=1, misses=0, saved=kept.cost, service=service)
    return {"cached": True, "status": "succeeded", "saved": kept.cost, **json.loads(kept.body)}


def _computed(
    service: Service,
    principal: Principal,
    chosen: Partner,
    request: Mapping[str, Any],
    *,
    result: dict[str, Any],
    cost: int,
) -> dict[str, Any]:
    answer = KeptAnswer(json.dumps(result).encode(), "application/json", cost)
    service.market.responses.put(principal.tenant, request, answer, ttl_s=TTL_S)
    with service.db.write() as session:
        connections.note_use(session, principal.tenant, chosen.slug, hits=0, misses=1, saved=0, service=service)
    return {"cached": False, "status": "succeeded", "cost": cost, **result}


def _model_path(model: str) -> str:
    owner, _, name = model.partition("/")
    if not all(_PART.fullmatch(part) for part in (owner, name)):
        raise NotFound("A model is written like owner/name.")
    return f"{owner}/{name}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0.0
