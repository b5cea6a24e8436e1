"""Odd values in every field of every JSON body, path and query, on both databases: refused or taken, never a crash.

A fuzzer draws values by chance and seldom draws the one that hurts: a number that a database cannot hold, the
character PostgreSQL does not keep, half of a surrogate pair, a list a thousand deep. Here every field gets all of
them, and every numeric field each small number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpcore2
import pytest
import service_world as world_module
from fastapi import FastAPI
from fastapi.routing import APIRoute
from service_conftest import make_service, make_settings
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.areas import ROUTER_MODULES
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import Org
from agentcache_service.matrix import Row
from agentcache_service.safe_http import SafeClient
from agentcache_service.service import Service

ROUTES = {
    (method, route.path): route
    for module in ROUTER_MODULES
    for route in module.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods - {"HEAD"}
}
ROWS = {(row.method, row.path): row for module in ROUTER_MODULES for row in module.ACCESS if not row.streams}
UPSTREAM = {502, 503}
DEEP = "[" * 900 + "]" * 900

# as JSON texts, for some of them Python would not write
ODD = (
    "null",
    "true",
    '""',
    '" "',
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud800"',
    f'"{"x" * 300}"',
    f'"{"ü" * 5000}"',
    '"🦄"',
    "0",
    "-1",
    str(2**31),
    str(2**63),
    str(2**70),
    "1e308",
    "1e999",
    "NaN",
    "-0.0",
    "[]",
    "{}",
    '{"\\u0000": 1}',
    '{"\\ud800": 1}',
    '["\\u0000"]',
    '["\\ud800"]',
    "[null]",
    DEEP,
    '"../../etc/passwd"',
    '"http://[::bad/"',
    '"https://exämple.test:99999/"',
    '"2026-02-30T00:00:00Z"',
    '"9999-12-31T23:59:59.999999Z"',
)
SMALL = tuple(str(number) for number in range(1, 34))
HARD_ON_POSTGRES = (
    '"\\u0000"',
    '"a\\u0000b"',
    '["\\u0000"]',
    '"\\ud800"',
    f'"{"x" * 300}"',
    str(2**63),
    str(2**70),
    "1e308",
)


def _only_numbers(host: str, _port: int) -> list[str]:
    if re.fullmatch(r"[0-9.]+", host):
        return [host]
    raise OSError(f"{host} does not exist here")


def _nobody(address: str, port: int, _timeout: float | None) -> Any:
    raise httpcore2.ConnectError(f"nobody is called, not {address}:{port}")


@dataclass
class Place:
    """A running app on one database, and the callers in it."""

    service: Service
    app: FastAPI
    world: Any
    http: TestClient
    odd: tuple[str, ...]
    small: tuple[str, ...]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("odd")
    changes: dict[str, Any] = {}
    if request.param == "postgres":
        changes["database_url"] = request.getfixturevalue("postgres_server")
    service = make_service(make_settings(folder, **changes), FixedClock())
    service.outgoing = SafeClient(resolver=_only_numbers, connector=_nobody)
    app = build_app(service=service)
    made = world_module.build_world(service, scope=None)
    is_sqlite = request.param == "sqlite"
    browser = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
    yield Place(service, app, made, browser, ODD if is_sqlite else HARD_ON_POSTGRES, SMALL if is_sqlite else ())
    service.close()


def _fields(app: FastAPI, route: APIRoute, body: Mapping[str, Any]) -> dict[str, bool]:
    """The fields of a route's JSON body, each with whether a number may be meant."""
    schema = app.openapi()["components"]["schemas"]
    annotation = route.body_field.field_info.annotation if route.body_field else None
    names = [part.__name__ for part in (annotation, *getattr(annotation, "__args__", ())) if hasattr(part, "__name__")]
    found = next((schema[name]["properties"] for name in names if name in schema and "properties" in schema[name]), {})
    return {
        **{name: re.search(r'"(integer|number)"', json.dumps(said)) is not None for name, said in found.items()},
        **{name: isinstance(value, int | float) for name, value in body.items() if name not in found},
    }


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w+)(?::path)?\}", lambda found: str(names.get(found[1], found[0])), value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    return [_filled(inner, names) for inner in value] if isinstance(value, list | tuple) else value


def _headers(place: Place, row: Row) -> dict[str, str]:
    """The headers of whom the row is for; a session is new, for some calls end it."""
    if row.staff is not None:
        return dict(place.world.callers["staff"].headers)
    if row.expect["admin"] not in {401, 403}:
        return dict(world_module.sign_in(place.service, place.world.admin_id).headers)
    return {**place.world.callers["key"].headers, **row.headers}


def _ready(place: Place, row: Row) -> dict[str, str]:
    with place.service.db.write() as session:
        session.get_one(Org, place.world.org_id).plan = "enterprise"
    return dict(row.seed(place.service, place.world.org_id, place.world.admin_id)) if row.seed else {}


def _is_fine(answer: Any, what: str) -> None:
    assert answer.status_code < 500 or answer.status_code in UPSTREAM, (what, answer.status_code, answer.text[:300])
    if answer.status_code >= 400 and answer.headers.get("content-type", "").startswith("application/json"):
        assert answer.json()["success"] is False, what


BODIES = [key for key, row in ROWS.items() if row.body is not None]


@pytest.mark.parametrize("key", BODIES, ids=" ".join)
def test_no_value_of_any_field_of_a_body_crashes_its_operation(key: tuple[str, str], place: Place) -> None:
    row, route = ROWS[key], ROUTES[key]
    names = _ready(place, row)
    path, body = _filled(row.path, names), _filled(row.body, names)
    headers = {**_headers(place, row), "content-type": "application/json"}
    for field, is_number in _fields(place.app, route, body).items():
        for odd in (*place.odd, *(place.small if is_number else ())):
            rest = {name: value for name, value in body.items() if name != field}
            text = json.dumps(rest)[:-1] + (", " if rest else "") + f"{json.dumps(field)}: {odd}}}"
            answer = place.http.request(row.method, path, content=text.encode(), headers=headers)
            _is_fine(answer, f"{field} = {odd[:60]}")


FORMS = [key for key, row in ROWS.items() if row.form is not None]


@pytest.mark.parametrize("key", FORMS, ids=" ".join)
def test_no_value_of_any_field_of_a_form_crashes_its_page(key: tuple[str, str], place: Place) -> None:
    row = ROWS[key]
    names = _ready(place, row)
    path, form = _filled(row.path, names), _filled(row.form, names)
    headers = _headers(place, row)
    known = [param.alias for param in ROUTES[key].dependant.body_params]
    for field in dict.fromkeys([*form, *known]):
        for odd in ("", "\x00", "a\x00b", "x" * 300, "ü" * 3000, "-1", str(2**63), "9" * 30, "1e308", "nan", "[]"):
            answer = place.http.request(row.method, path, data={**form, field: odd}, headers=headers)
            _is_fine(answer, f"{field} = {odd[:60]!r}")


NAMED = [key for key in ROWS if "{" in key[1]]
QUERIES = [key for key, route in ROUTES.items() if route.dependant.query_params and key in ROWS]
ODD_TEXTS = (
    "%00",
    "a%00b",
    "x" * 300,
    "%FF",
    "%ED%A0%80",
    "..%2F..",
    "0",
    "-1",
    "9" * 30,
    "%F0%9F%A6%84",
    "nan",
    "1e999",
)


@pytest.mark.parametrize("key", NAMED, ids=" ".join)
def test_no_name_in_a_path_crashes_its_operation(key: tuple[str, str], place: Place) -> None:
    row = ROWS[key]
    headers = _headers(place, row)
    for odd in ODD_TEXTS:
        path = re.sub(r"\{\w+(?::path)?\}", odd, row.path)
        sent: dict[str, Any] = {"headers": headers}
        if row.body is not None:
            sent["json"] = _filled(row.body, {})
        _is_fine(place.http.request(row.method, path, **sent), path[:120])


@pytest.mark.parametrize("key", QUERIES, ids=" ".join)
def test_no_value_of_a_query_crashes_its_operation(key: tuple[str, str], place: Place) -> None:
    row, route = ROWS[key], ROUTES[key]
    names = _ready(place, row)
    path, headers = _filled(row.path, names), _headers(place, row)
    for parameter in route.dependant.query_params:
        for odd in ODD_TEXTS:
            rest = {name: quote(value) for name, value in (row.query or {}).items() if name != parameter.alias}
            query = "&".join(f"{name}={value}" for name, value in {**rest, parameter.alias: odd}.items())
            answer = place.http.request(row.method, f"{path}?{query}", headers=headers, content=row.content)
            _is_fine(answer, query[:120])
