"""Login and reset do the same work for unknown addresses as for known ones, statement by statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import service_world as world
from sqlalchemy import event
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.service import Service


@contextmanager
def _work_of(service: Service) -> Iterator[list[str]]:
    """Notes every statement of the database (without values) and every password hash, in their order."""
    done: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        done.append(statement)

    plain = service.passwords.verify

    def verify(stored: str | None, password: str) -> bool:
        done.append("argon2")
        return plain(stored, password)

    event.listen(service.db.engine, "before_cursor_execute", note)
    service.passwords.verify = verify  # type: ignore[method-assign]
    try:
        yield done
    finally:
        event.remove(service.db.engine, "before_cursor_execute", note)
        service.passwords.verify = plain  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/api/account/login", "login", 401),
        ("/api/account/request-reset", "email", 202),
        ("/api/account/resend-verification", "email", 202),
    ],
)
def test_known_and_unknown_addresses_cost_the_same_work_and_get_the_same_answer(
    service: Service, path: str, field: str, status: int
) -> None:
    world.make_user(service, "ada")
    client = TestClient(build_app(service=service))
    seen = []
    for address in ("ada@example.com", "nobody@example.com"):
        body = {field: address, **({"password": "not the right one"} if field == "login" else {})}
        with _work_of(service) as done:
            answer = client.post(path, json=body)
        assert answer.status_code == status
        seen.append((answer.json(), list(done)))
    assert seen[0] == seen[1]
    assert seen[0][1], "something was done"


def test_registering_known_and_unknown_addresses_hashes_and_inserts_the_same(service: Service) -> None:
    world.make_user(service, "ada")
    client = TestClient(build_app(service=service))
    inserted = []
    for address in ("ada@example.com", "nobody@example.com"):
        body = {"email": address, "password": "a long enough phrase", "organization": "X", "sector": "rag"}
        with _work_of(service) as done:
            assert client.post("/api/account/register", json=body).status_code == 202
        inserted.append([text.split("(")[0] for text in done if text.startswith("INSERT INTO") and "job" not in text])
    shared = [text for text in inserted[0] if "one_time" not in text and "audit" not in text]
    assert shared == [text for text in inserted[1] if "one_time" not in text and "audit" not in text]
