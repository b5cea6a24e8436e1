"""Every route x every kind of caller: generated from the tables the routers declare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import service_world as world_module
from fastapi import FastAPI
from fastapi.routing import APIRoute
from service_conftest import make_service, make_settings
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.areas import ROUTER_MODULES
from agentcache_service.clock import FixedClock
from agentcache_service.matrix import CALLERS, Row
from agentcache_service.policy import KEY_SCOPES, guards_of
from agentcache_service.service import Service

ROWS = [row for module in ROUTER_MODULES for row in module.ACCESS]


def _routes() -> Iterator[tuple[str, APIRoute]]:
    for module in ROUTER_MODULES:
        for route in module.router.routes:
            assert isinstance(route, APIRoute), route
            for method in route.methods - {"HEAD"}:
                yield method, route


def _scope_of(row: Row) -> str | None:
    for method, route in _routes():
        if (method, route.path) == (row.method, row.path):
            permissions = [guard.permission for guard in guards_of(route) if guard.permission]
            return KEY_SCOPES.get(permissions[0]) if permissions else None
    raise AssertionError(f"the row {row.method} {row.path} belongs to no route")


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    routes = {(method, route.path) for method, route in _routes()}
    rows = {(row.method, row.path) for row in ROWS}
    assert routes - rows == set(), "routes without a row in their module's ACCESS"
    assert rows - routes == set(), "rows without a route"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_row_names_every_caller(row: Row) -> None:
    assert set(row.expect) == set(CALLERS)


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w+)(?::path)?\}", lambda found: str(names.get(found[1], found[0])), value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, names) for inner in value]
    return value


@pytest.fixture(scope="module")
def service_and_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, FastAPI]]:
    """One service and app for all rows: building them takes longer than a row does."""
    service = make_service(make_settings(tmp_path_factory.mktemp("matrix")), FixedClock())
    yield service, build_app(service=service)
    service.close()


def _head_status(app: FastAPI, row: Row, headers: Mapping[str, str]) -> int:
    """The status of an answer without end: the app is left as soon as it has sent its head."""
    import asyncio

    started: list[int] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not started:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": row.method,
        "path": row.path,
        "raw_path": row.path.encode(),
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode()) for name, value in {"host": "testserver", **headers}.items()
        ],
        "client": ("testclient", 1),
        "server": ("testserver", 80),
        "scheme": "http",
    }
    asyncio.run(app(scope, receive, send))
    return started[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_caller_gets_the_status_the_table_says(row: Row, service_and_app: tuple[Service, FastAPI]) -> None:
    service, app = service_and_app
    world = world_module.build_world(service, scope=_scope_of(row))
    expected = dict(row.expect)
    if row.staff is not None:
        expected["staff"] = row.staff
    # entering the app as a context would start its threads
    browser = TestClient(app, follow_redirects=False)
    got = {}
    for name in expected:
        names = dict(row.seed(service, world.org_id, world.admin_id)) if row.seed else {}
        sent: dict[str, Any] = {"headers": {**world.callers[name].headers, **row.headers}}
        if row.body is not None:
            sent["json"] = _filled(row.body, names)
        if row.form is not None:
            sent["data"] = _filled(row.form, names)
        if row.content is not None:
            sent["content"] = row.content
        if row.query is not None:
            sent["params"] = _filled(row.query, names)
        browser.cookies.clear()
        if row.streams:
            got[name] = _head_status(app, row, sent["headers"])
            continue
        got[name] = browser.request(row.method, _filled(row.path, names), **sent).status_code
    assert got == expected
