"""The whole OpenAPI, fuzzed: no call crashes the service, every status is documented, refusals have one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
import service_world as world
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance
from service_conftest import make_service, make_settings

from agentcache_service.app import build_app
from agentcache_service.clock import FixedClock

KEYED = ("/api/cache", "/api/listeners", "/api/assets", "/api/v1")
SIGNED_IN = ("/api/account", "/api/keys", "/api/orgs", "/api/sectors", "/api/stats")
ENDS_THE_SESSION = {"/api/account/logout", "/api/account/sessions/{session_id}"}


@schemathesis.serializer("application/msgpack")
def packed(_context: Any, value: Any) -> Any:
    """Bodies of batches: whatever was generated, as bytes; most of it is no MessagePack at all."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Mapping[str, str], Mapping[str, str]]]:
    """The document of a running app, the headers of a key, and those of a signed-in admin."""
    service = make_service(make_settings(tmp_path_factory.mktemp("fuzz")), FixedClock())
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="enterprise")
    document = schemathesis.openapi.from_asgi("/openapi.json", build_app(service=service))
    yield document, world.make_key(service, org_id, user).headers, world.sign_in(service, user).headers
    service.close()


@pytest.mark.parametrize("prefix", [*KEYED, *SIGNED_IN])
def test_no_call_crashes_and_every_status_is_documented(prefix: str, fuzzed: Any) -> None:
    document, key, session = fuzzed
    operations = [found.ok() for found in document.get_all_operations() if found.ok().path.startswith(prefix)]
    assert operations, f"no route begins with {prefix}"
    for operation in operations:
        headers = key if prefix in KEYED else {} if operation.path in ENDS_THE_SESSION else session
        _fuzz(operation, dict(headers))


def _fuzz(operation: Any, headers: dict[str, str]) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        for name in headers:
            for given_name in [known for known in case.headers or {} if known.lower() == name]:
                del case.headers[given_name]
        response = case.call(headers=headers)
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance])
        if response.status_code >= 400 and response.content:
            body = response.json()
            assert (body["success"], bool(body["error"]), bool(body["message"])) == (False, True, True)

    ask()
