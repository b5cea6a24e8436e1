"""The whole OpenAPI, fuzzed: every operation, by the caller it is for and by nobody.

No call crashes the service; every status, content type and shape is the documented one; refusals have one shape. The
access rows that every router declares say who may call an operation and make the things its path names.
`AGENTCACHE_FUZZ` multiplies the number of examples.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpcore2
import pytest
import schemathesis
import service_world as world_module
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_conftest import make_service, make_settings

from agentcache_service.app import build_app
from agentcache_service.areas import ROUTER_MODULES
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import Org
from agentcache_service.matrix import Row
from agentcache_service.safe_http import SafeClient
from agentcache_service.service import Service

EXAMPLES = 3 * int(os.environ.get("AGENTCACHE_FUZZ", "1"))
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDS_THE_SESSION = {"/api/account/logout", "/api/account/me", "/api/account/sessions/{session_id}"}
ROUTES = {
    (method, route.path): route
    for module in ROUTER_MODULES
    for route in module.router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in route.methods - {"HEAD"}
}
ROWS = {(row.method, row.path): row for module in ROUTER_MODULES for row in module.ACCESS}


@schemathesis.serializer("application/msgpack")
def packed(_context: Any, value: Any) -> Any:
    """Bodies of batches: whatever was generated, as bytes; most of it is no MessagePack at all."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _only_numbers(host: str, _port: int) -> list[str]:
    """A resolver that knows no names, only addresses written as numbers."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        raise OSError(f"{host} does not exist here") from None


def _nobody(address: str, port: int, _timeout: float | None) -> Any:
    raise httpcore2.ConnectError(f"a fuzzer calls nobody, not {address}:{port}")


@dataclass
class Fuzzed:
    """A running app's document, the world it lives in, and its service."""

    document: Any
    service: Service
    world: Any


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    service = make_service(make_settings(tmp_path_factory.mktemp("fuzz")), FixedClock())
    service.outgoing = SafeClient(resolver=_only_numbers, connector=_nobody)
    made = world_module.build_world(service, scope=None)
    yield Fuzzed(schemathesis.openapi.from_asgi("/openapi.json", build_app(service=service)), service, made)
    service.close()


def _caller_of(row: Row) -> str:
    """Whom an operation is for: a platform admin, a key, an admin's session, else anybody."""
    if row.staff is not None:
        return "staff"
    good = [name for name in ("admin", "key") if row.expect[name] not in {401, 403}]
    return good[0] if good and row.expect["anonymous"] in {401, 403} else "anonymous"


def _says_something(route: APIRoute) -> bool:
    """True for an operation with a body or a query: without them there is nothing in a call that could be broken."""
    return route.body_field is not None or bool(route.openapi_extra) or bool(route.dependant.query_params)


@pytest.mark.parametrize("method_and_path", ROUTES, ids=" ".join)
def test_no_call_crashes_and_every_answer_is_the_documented_one(
    method_and_path: tuple[str, str], fuzzed: Fuzzed
) -> None:
    _fuzz(method_and_path, GenerationMode.POSITIVE, fuzzed)


@pytest.mark.parametrize(
    "method_and_path", [key for key, route in ROUTES.items() if _says_something(route)], ids=" ".join
)
def test_no_broken_call_crashes_or_is_answered_in_another_way_than_documented(
    method_and_path: tuple[str, str], fuzzed: Fuzzed
) -> None:
    _fuzz(method_and_path, GenerationMode.NEGATIVE, fuzzed)


def _fuzz(method_and_path: tuple[str, str], mode: GenerationMode, fuzzed: Fuzzed) -> None:
    method, path = method_and_path
    row = ROWS[method_and_path]
    operation: Any = fuzzed.document[re.sub(r"\{(\w+):path\}", r"{\1}", path)][method]
    with fuzzed.service.db.write() as session:  # other operations have changed it
        session.get_one(Org, fuzzed.world.org_id).plan = "enterprise"
    names = dict(row.seed(fuzzed.service, fuzzed.world.org_id, fuzzed.world.admin_id)) if row.seed else {}
    headers = {**fuzzed.world.callers[_caller_of(row)].headers, **row.headers}
    if path in ENDS_THE_SESSION:
        headers = dict(world_module.sign_in(fuzzed.service, fuzzed.world.admin_id).headers)
    turn = 0

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal turn
        turn += 1
        sent = dict(headers) if turn % 3 else {}
        for given_name in [known for known in case.headers or {} if known.lower() in headers]:
            del case.headers[given_name]
        if turn % 2:  # every other call names something that exists
            case.path_parameters.update({name: value for name, value in names.items() if name in case.path_parameters})
        response = case.call(headers=sent)
        is_as_generated = turn % 2 == 0 and "x-namespace" not in sent  # what was broken is not mended by us
        _judge(case, response, broken=mode is GenerationMode.NEGATIVE and bool(sent) and is_as_generated)
        if not sent and row.expect["anonymous"] == 401:
            assert response.status_code >= 400, "nobody was let in"

    ask()


UPSTREAM = {502, 503}


def _judge(case: Any, response: Any, *, broken: bool) -> None:
    """Check one answer. 502 and 503 say that somebody else failed, and only where they are documented."""
    checks = CHECKS if response.status_code in UPSTREAM else [not_a_server_error, *CHECKS]
    if broken:
        checks = [*checks, negative_data_rejection]
    case.validate_response(response, checks=checks)
    if response.status_code >= 400 and response.content and case.method != "HEAD":
        body = response.json()
        assert (body["success"], bool(body["error"]), bool(body["message"])) == (False, True, True)
