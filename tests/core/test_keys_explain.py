"""`explain` and `diff`: what a key is made of, and where two requests differ."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from agentcache_core.errors import KeyingError
from agentcache_core.keys import (
    DENYLIST_VERSION,
    EmbeddingRequest,
    FunctionCall,
    HttpRequest,
    KeyBuilder,
    ToolCall,
    diff,
    explain,
    nearest,
)


@dataclasses.dataclass
class Account:
    api_key: str


CALL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5",
    "temperature": 0.7,
    "user": "ann",
    "extra_headers": {"Authorization": "Bearer sk-very-secret", "Idempotency-Key": "k1"},
    "messages": [
        {"role": "system", "content": "Be brief. " * 50},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
        {"role": "user", "content": "thanks"},
    ],
    "tools": [{"name": "f"}, {"name": "g"}],
}


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(CALL) | changes


def test_every_component_is_told_with_its_hash_or_the_rule_that_leaves_it_out() -> None:
    told = explain(CALL, tenant="t", namespace="n", sample=2)
    assert told.digest == KeyBuilder(tenant="t", namespace="n").key(CALL, sample=2).digest.hex()
    assert (told.kind, told.provider, told.tenant, told.namespace, told.sample) == ("chat", "openai", "t", "n", 2)
    paths = "model temperature extra_headers tools[0] tools[1] messages[0] messages[1] messages[2] messages[3]"
    assert [part.path for part in told.counted] == paths.split()
    assert {part.path: part.rule for part in told.excluded} == {
        "user": f"openai/{DENYLIST_VERSION} user",
        "extra_headers.Idempotency-Key": f"openai/{DENYLIST_VERSION} extra_headers.Idempotency-Key",
        "messages[1].content": f"messages/{DENYLIST_VERSION} messages[*].* when null",
    }
    assert all(part.reason for part in told.excluded)
    assert "volatile id 0" in next(part.reason for part in told.counted if part.path == "messages[2]")


def test_hashes_agree_exactly_where_the_requests_agree() -> None:
    ours = {part.path: part.hash for part in explain(CALL).counted}
    theirs = {part.path: part.hash for part in explain(changed(temperature=1, user="bob")).counted}
    assert [path for path in ours if ours[path] != theirs[path]] == ["temperature"]
    assert all(len(short) == 16 for path, short in ours.items() if path != "extra_headers")
    elsewhere = {part.path: part.hash for part in explain(CALL, tenant="other").counted}
    assert ours["model"] != elsewhere["model"], "a fingerprint tells nothing to another tenant"


@pytest.mark.parametrize(
    "request_",
    [
        CALL,
        changed(api_key="sk-very-secret"),
        changed(tools=[{"type": "mcp", "headers": {"X-Api-Key": "sk-very-secret"}, "auth_token": "sk-very-secret"}]),
        {"password": "sk-very-secret", "nested": [{"client_secret": "sk-very-secret"}]},
        ToolCall("t", {"token": "sk-very-secret", "x": 1}),
        ToolCall("t", {"pin": "sk-very-secret", "x": 1}, secret=("pin",)),
        HttpRequest("GET", "u", {"Authorization": "sk-very-secret", "Cookie": "sk-very-secret"}),
        HttpRequest("GET", "u", credential="sk-very-secret"),
        FunctionCall("f", kwargs={"password": "sk-very-secret"}),
        FunctionCall("f", args=(Account("sk-very-secret"),)),
    ],
)
def test_secret_values_are_never_shown_and_still_count(request_: Any) -> None:
    other = eval(repr(request_).replace("very-secret", "other"))
    if isinstance(request_, HttpRequest) and request_.credential:
        other = HttpRequest("GET", "u", credential="sk-other")
    assert KeyBuilder().key(other) != KeyBuilder().key(request_)
    told = explain(request_, secret=b"sk-very-secret")
    found = diff(request_, other)
    assert any(part.change != "ignored" for part in found)
    texts = [str(told), json.dumps(told.to_dict()), *map(str, found), json.dumps([part.to_dict() for part in found])]
    assert all("very-secret" not in text and "sk-other" not in text for text in texts)
    unlike = changed(model="x") if isinstance(request_, dict) else type(request_)("z", "z")
    assert all("very-secret" not in str(part) for part in diff(request_, unlike))


def test_what_holds_a_secret_shows_no_fingerprint_either() -> None:
    hashes = {part.path: part.hash for part in explain(ToolCall("t", {"token": "1234", "n": 5})).components}
    assert hashes["arguments.token"] == ""
    assert hashes["arguments.n"]
    assert {part.path: part.hash for part in explain(CALL).components}["extra_headers"] == ""


def test_an_explanation_reads_as_text_and_as_json() -> None:
    told = explain(CALL)
    text = str(told)
    assert "chat request for openai" in text
    assert "does not count (deny-list version 1)" in text
    again = json.loads(json.dumps(told.to_dict()))
    assert again["digest"] == told.digest
    assert len(again["components"]) == len(told.components)
    assert max(map(len, text.splitlines())) < 220


@pytest.mark.parametrize(
    "request_",
    [
        "plain",
        b"plain",
        {"x": 1},
        ToolCall("t"),
        FunctionCall("f", args=(1, (2,))),
        EmbeddingRequest("m", "a"),
        HttpRequest("GET", "u", {"a": "b"}, b"body"),
        {"model": "m", "input": {"prompt": "x"}},
        {"model": "m", "input": ""},
    ],
)
def test_every_kind_can_be_explained_and_equals_itself(request_: Any) -> None:
    told = explain(request_)
    assert told.digest == KeyBuilder().key(request_).digest.hex()
    assert told.counted
    assert diff(request_, request_) == ()


def changes(a: Any, b: Any) -> list[tuple[str, str]]:
    return [(part.path, part.change) for part in diff(a, b)]


def test_each_difference_is_told_at_its_field() -> None:
    longer = [*CALL["messages"], {"role": "user", "content": "more"}]
    assert changes(CALL, changed(temperature=1)) == [("temperature", "changed")]
    assert changes(CALL, changed(seed=1)) == [("seed", "added")]
    assert changes(changed(seed=1), CALL) == [("seed", "removed")]
    assert changes(CALL, changed(messages=longer)) == [("messages[4]", "added")]
    assert changes(changed(messages=longer), CALL) == [("messages[4]", "removed")]
    assert changes(CALL, changed(tools=CALL["tools"][::-1])) == [("tools", "reordered")]
    assert changes(CALL, changed(user="bob")) == [("user", "ignored")]
    assert changes(CALL, changed(provider="azure"))[0] == ("provider", "changed")
    plain = {"model": "m", "messages": []}
    assert changes(plain, plain | {"tools": []}) == [("tools", "added")]
    assert changes(plain | {"tools": [{"name": "f"}]}, plain) == [("tools", "removed")]
    assert changes(plain, plain | {"tools": None}) == [("tools", "added")]
    assert changes({"x": 1}, {"x": 1.0}) == [("x", "changed")]
    assert changes({"x": {"y": [1, {"z": "a"}]}}, {"x": {"y": [1, {"z": "b"}]}}) == [("x.y[1].z", "changed")]
    assert changes("a", {"x": 1}) == [("kind", "changed")]
    assert changes({"model": "m", "input": ["a"]}, {"model": "m", "messages": ["a"]}) == [("", "changed")]
    assert changes(ToolCall("a", {"x": 1}), ToolCall("b", {"x": 2})) == [
        ("name", "changed"),
        ("arguments.x", "changed"),
    ]


def test_a_message_put_in_the_middle_is_one_difference() -> None:
    longer = [*CALL["messages"][:1], {"role": "user", "content": "new"}, *CALL["messages"][1:]]
    assert changes(CALL, changed(messages=longer)) == [("messages[1]", "added")]


def test_requests_with_one_key_differ_only_in_what_does_not_count_and_others_do_not() -> None:
    renamed = json.loads(json.dumps(CALL).replace('"c1"', '"c2"'))
    assert diff(CALL, renamed) == ()
    others = [changed(user="bob"), changed(temperature=0.8), changed(messages=CALL["messages"][:-1]), renamed]
    for other in others:
        same = KeyBuilder().key(other) == KeyBuilder().key(CALL)
        assert same == all(part.change == "ignored" for part in diff(CALL, other))


def test_long_texts_are_cut_around_the_first_difference() -> None:
    before = "same " * 400 + "old" + " tail" * 400
    after = "same " * 400 + "new" + " tail" * 400
    (part,) = diff({"x": before}, {"x": after})
    assert "old" in (part.before or "")
    assert "new" in (part.after or "")
    assert len(str(part)) < 300


def test_the_nearest_stored_request_differs_in_the_fewest_counted_places() -> None:
    stored = [changed(temperature=1, seed=3), changed(seed=4, user="x"), "plain", ToolCall("t"), {"x": object()}]
    found = nearest(CALL, stored)
    assert found is not None
    assert found[0] is stored[1]
    assert [part.path for part in found[1]] == ["seed", "user"]
    assert nearest(CALL, []) is None


def test_what_cannot_be_keyed_cannot_be_explained() -> None:
    with pytest.raises(KeyingError) as caught:
        explain({"x": object()})
    assert caught.value.path == "x"
    with pytest.raises(KeyingError):
        diff({"x": object()}, {"x": 1})
