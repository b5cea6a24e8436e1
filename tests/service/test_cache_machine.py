"""The cache API against a dict: any order of calls gives what the dict gives, and the quota is what is there.

A fuzzer of single calls cannot see what a call did to the next one. `AGENTCACHE_FUZZ` multiplies the number of runs.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson
import pytest
import service_world as world
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from service_conftest import make_service, make_settings
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.clock import FixedClock
from agentcache_service.service import Service
from agentcache_service.usage.reconcile import run as reconcile_usage

RUNS = 12 * int(os.environ.get("AGENTCACHE_FUZZ", "1"))
ROOMS = ("storage", "cdn")
KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "ü", "🦄", "a b", "A", " a", "%2F", "0", "*", "a" * 300])
TAGS = st.lists(st.sampled_from(["red", "blue", "ü"]), max_size=2, unique=True)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 40) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=30) | st.sampled_from(["same", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
REQUESTS = st.builds(
    lambda model, text: {"model": model, "messages": [{"role": "user", "content": text}]},
    st.sampled_from(["m-1", "m-2"]),
    st.sampled_from(["hello", "Hello", "hello "]),
)
BODIES = st.binary(max_size=40) | st.just(b"x" * 20_000)


class CacheMachine(RuleBasedStateMachine):
    """One organization; the model maps (namespace, address) to (value, tags)."""

    service: ClassVar[Service]
    http: ClassVar[TestClient]
    serial: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).serial += 1
        user = world.make_user(self.service, f"ada{self.serial}")
        self.org_id = world.make_org(self.service, user, name=f"Org {self.serial}")
        self.headers = dict(world.make_key(self.service, self.org_id, user).headers)
        self.known: dict[tuple[str, str], tuple[Any, tuple[str, ...]]] = {}

    def _call(self, call: str, room: str, body: Any) -> Any:
        answer = self.http.post(f"/api/cache/{call}", json=body, headers={**self.headers, "x-namespace": room})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _payloads(self) -> dict[tuple[str, str], bytes]:
        return {
            place: value if isinstance(value, bytes) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            for place, (value, _tags) in self.known.items()
        }

    def _stored(self, room: str, address: str, value: Any, tags: list[str], told: Any) -> None:
        payload = value if isinstance(value, bytes) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        others = {known for place, known in self._payloads().items() if place != (room, address)}
        assert told["bytes"] == len(payload)
        assert told["deduplicated"] == (payload in others)
        self.known[room, address] = (value, tuple(tags))

    @rule(room=st.sampled_from(ROOMS), key=KEYS, value=VALUES, tags=TAGS, ttl=st.integers(3600, 10**6) | st.none())
    def set(self, room: str, key: str, value: Any, tags: list[str], ttl: int | None) -> None:
        body = {"key": key, "value": value, "tags": tags} | ({} if ttl is None else {"ttl": ttl})
        self._stored(room, key, value, tags, self._call("set", room, body))

    @rule(room=st.sampled_from(ROOMS), request=REQUESTS, value=VALUES, tags=TAGS)
    def set_request(self, room: str, request: dict[str, Any], value: Any, tags: list[str]) -> None:
        told = self._call("set", room, {"provider": "openai", "request": request, "response": value, "tags": tags})
        self._stored(room, _name(request), value, tags, told)

    @rule(room=st.sampled_from(ROOMS), key=KEYS, body=BODIES)
    def put_raw(self, room: str, key: str, body: bytes) -> None:
        answer = self.http.put(
            "/api/cache/value", params={"key": key}, content=body, headers={**self.headers, "x-namespace": room}
        )
        assert answer.status_code == 200, answer.text
        self._stored(room, key, body, [], answer.json())

    @rule(room=st.sampled_from(ROOMS), key=KEYS)
    def get(self, room: str, key: str) -> None:
        self._compare(self._call("get", room, {"key": key}), (room, key))

    @rule(room=st.sampled_from(ROOMS), request=REQUESTS)
    def get_request(self, room: str, request: dict[str, Any]) -> None:
        turned = json.loads(json.dumps(dict(reversed(request.items()))))  # the order of fields is not meant
        told = self._call("get", room, {"provider": "openai", "request": turned, "semantic": False})
        self._compare(told, (room, _name(request)))

    @rule(room=st.sampled_from(ROOMS), key=KEYS)
    def get_raw(self, room: str, key: str) -> None:
        headers = {**self.headers, "x-namespace": room}
        answer = self.http.get("/api/cache/value", params={"key": key}, headers=headers)
        if (room, key) not in self.known:
            assert answer.status_code == 404
            return
        value = self.known[room, key][0]
        assert answer.status_code == 200
        assert answer.content == value if isinstance(value, bytes) else orjson.loads(answer.content) == value

    def _compare(self, told: Any, place: tuple[str, str]) -> None:
        if place not in self.known:
            assert told == {"hit": False}
            return
        value = self.known[place][0]
        assert told["hit"]
        assert told["how"] == "exact"
        if isinstance(value, bytes):
            assert told["encoding"] == "base64"
        else:
            assert _exactly(told["value"]) == _exactly(value)

    @rule(room=st.sampled_from(ROOMS), keys=st.lists(KEYS, min_size=1, max_size=3, unique=True))
    def invalidate_keys(self, room: str, keys: list[str]) -> None:
        gone = [(room, key) for key in keys if (room, key) in self.known]
        self._gone(self._call("invalidate", room, {"keys": keys}), gone)

    @rule(room=st.sampled_from(ROOMS), tag=st.sampled_from(["red", "blue", "green"]))
    def invalidate_tag(self, room: str, tag: str) -> None:
        gone = [place for place, (_value, tags) in self.known.items() if place[0] == room and tag in tags]
        self._gone(self._call("invalidate", room, {"tag": tag}), gone)

    @rule(room=st.sampled_from(ROOMS), pattern=st.sampled_from(["a/*", "*b", "🦄", "nothing*"]))
    def invalidate_pattern(self, room: str, pattern: str) -> None:
        gone = [
            place
            for place in self.known
            if place[0] == room and not place[1].startswith("{") and fnmatch.fnmatchcase(place[1], pattern)
        ]
        self._gone(self._call("invalidate", room, {"pattern": pattern}), gone)

    @rule(room=st.sampled_from(ROOMS))
    def invalidate_namespace(self, room: str) -> None:
        gone = [place for place in self.known if place[0] == room]
        self._gone(self._call("invalidate", room, {"namespace": room}), gone)

    def _gone(self, told: Any, places: list[tuple[str, str]]) -> None:
        assert told == {"invalidated": len(places)}
        for place in places:
            del self.known[place]

    @invariant()
    def the_quota_is_the_sum_of_what_is_there_with_equal_content_once(self) -> None:
        told = self.http.get("/api/v1/storage/quota", headers=self.headers).json()["storage"]["redis"]["used_mb"]
        assert told == round(sum(map(len, set(self._payloads().values()))) / (1 << 20), 6)


def _name(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _exactly(value: Any) -> str:
    """A value with the kinds of its numbers: 1 and 1.0 and true are three things."""
    return repr(value) if not isinstance(value, dict) else repr(sorted((k, _exactly(v)) for k, v in value.items()))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def service(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Service]:
    url = {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("postgres_url")}
    built = make_service(make_settings(tmp_path, **url), FixedClock())
    yield built
    built.close()


def test_any_order_of_calls_gives_what_a_dict_gives(service: Service) -> None:
    CacheMachine.service = service
    CacheMachine.http = TestClient(build_app(service=service))
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=20,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert reconcile_usage(service) == []
