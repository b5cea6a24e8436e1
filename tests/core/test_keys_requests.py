"""What counts in a request: laws that hold for every request, and each field of real ones."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.errors import KeyingError
from agentcache_core.keys import (
    KINDS,
    EmbeddingRequest,
    FunctionCall,
    HttpRequest,
    Key,
    KeyBuilder,
    ToolCall,
    explain,
    kind_of,
)
from agentcache_core.keys.denylist import MESSAGES, PROVIDERS
from agentcache_core.keys.explain import exclusions, stripped
from agentcache_core.keys.lowering import ordinal_of
from agentcache_core.keys.volatile import normalized

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("AGENTCACHE_BENCH_DATA") or ROOT.parent / "shared" / "data")
AIRLINE = DATA / "agent_trajectories_airline.jsonl.gz"

CHAT: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5",
    "temperature": 0.7,
    "stream": False,
    "store": True,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"user": null}'}},
                {"id": "call_2", "type": "function", "function": {"name": "find", "arguments": '{"user": 2}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "none"},
        {"role": "tool", "tool_call_id": "call_2", "content": "two"},
    ],
    "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "default": None}}}],
    "response_format": {"type": "json_schema", "json_schema": {"strict": True}},
    "attachments": [b"bytes"],
}
CLAUDE: dict[str, Any] = {
    "provider": "anthropic",
    "model": "claude-opus-4",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "find", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "ok", "citations": None},
                {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"id": "7", "user": None}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": False,
                    "content": [{"type": "text", "text": "seven", "cache_control": {"type": "ephemeral"}}],
                }
            ],
        },
    ],
}
RESPONSES: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5",
    "instructions": "Be brief.",
    "previous_response_id": "resp_1",
    "input": [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "none"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "assistant", "id": "msg_2", "content": [{"type": "output_text", "text": "yes"}]},
    ],
}
REPLICATE: dict[str, Any] = {
    "provider": "replicate",
    "model": "owner/name",
    "version": "abc",
    "webhook": "https://example.org",
    "input": {"prompt": "a cat", "user": "u", "seed": 3, "metadata": {"k": 1}},
}
MODEL_CALLS = {"chat": CHAT, "claude": CLAUDE, "responses": RESPONSES, "replicate": REPLICATE}


def key(request: Any, **view: Any) -> Key:
    return KeyBuilder(**view).key(request)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside `value`, containers included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from places(item, (*path, name))


def spelled(path: tuple[Any, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


VOLATILE = {"tool_call_id", "call_id", "tool_use_id"}


def is_volatile(request: Any, path: tuple[Any, ...]) -> bool:
    name = path[-1]
    inside = at(request, path[:-1])
    return name in VOLATILE or (
        name == "id" and isinstance(inside, dict) and ("function" in inside or inside.get("type") == "tool_use")
    )


MUTATIONS = [pytest.param(request, path, id=f"{name}:{spelled(path)}") for name, request in MODEL_CALLS.items()
             for path in places(request)]  # fmt: skip


@pytest.mark.parametrize(("request_", "path"), MUTATIONS)
def test_each_field_changes_the_key_unless_the_deny_list_names_it(request_: Any, path: tuple[Any, ...]) -> None:
    left_out = {exclusion.path for exclusion in exclusions(request_)}
    inside_left_out = any(spelled(path[:length]) in left_out for length in range(1, len(path) + 1))
    before = key(request_)
    for replacement in ("another", 17, {"x": 1}, ["x"]):
        mutated = copy.deepcopy(request_)
        at(mutated, path[:-1])[path[-1]] = replacement
        if path == ("provider",) and replacement != "another":
            with pytest.raises(KeyingError, match="provider"):
                key(mutated)
        elif inside_left_out and at(request_, path) is not None:
            assert key(mutated) == before, replacement
        else:
            assert key(mutated) != before or is_volatile(request_, path), replacement
    if isinstance(at(request_, path[:-1]), dict) and not inside_left_out:
        mutated = copy.deepcopy(request_)
        del at(mutated, path[:-1])[path[-1]]
        assert key(mutated) != before


def test_a_volatile_id_alone_changes_nothing_and_what_it_links_counts() -> None:
    renamed = json.loads(json.dumps({**CHAT, "attachments": []}).replace("call_1", "x9").replace("call_2", "x1"))
    assert key(renamed) == key({**CHAT, "attachments": []})
    swapped = copy.deepcopy(CHAT)
    swapped["messages"][3]["tool_call_id"], swapped["messages"][4]["tool_call_id"] = "call_2", "call_1"
    assert key(swapped) != key(CHAT)
    renamed = json.loads(json.dumps(CLAUDE).replace("toolu_1", "other"))
    assert key(renamed) == key(CLAUDE)
    renamed = json.loads(json.dumps(RESPONSES).replace("call_1", "other").replace("fc_1", "fc_9"))
    assert key(renamed) == key(RESPONSES)


def test_a_reference_takes_the_latest_definition_before_it() -> None:
    def turns(*ids: str) -> dict[str, Any]:
        messages = []
        for id_ in ids:
            name, kind = id_[1:], id_[0]
            if kind == "d":
                call = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
                messages.append({"role": "assistant", "tool_calls": [call]})
            else:
                messages.append({"role": "tool", "tool_call_id": name, "content": "same"})
        return {"model": "m", "messages": messages}

    assert key(turns("da", "ra", "da", "ra")) == key(turns("da", "ra", "db", "rb"))
    assert key(turns("da", "db", "ra", "rb")) != key(turns("da", "db", "rb", "ra"))
    assert key(turns("da", "da", "ra")) == key(turns("da", "db", "rb"))
    assert key(turns("da", "da", "ra")) != key(turns("da", "db", "ra"))
    assert key(turns("ra", "da")) == key(turns("ra", "db")), "a reference before its definition counts as it is"
    assert key(turns("ra", "da")) != key(turns("rb", "db"))
    assert len({key(turns(*(f"d{i % n}" for i in range(300)), "r0")).digest for n in (1, 2, 300)}) == 3


def test_free_form_json_inside_messages_is_never_touched() -> None:
    for name, value in [("user", None), ("cache_control", {}), ("id", "other"), ("annotations", [])]:
        changed = copy.deepcopy(CLAUDE)
        changed["messages"][1]["content"][1]["input"][name] = value
        changed["messages"][1]["content"][1]["input"].pop("extra", None)
        same = changed["messages"][1]["content"][1]["input"] == CLAUDE["messages"][1]["content"][1]["input"]
        assert (key(changed) == key(CLAUDE)) is same


def test_outside_model_calls_nothing_is_left_out() -> None:
    named = {rule.path for rules in PROVIDERS.values() for rule in rules if rule.path.isidentifier()}
    assert {"user", "metadata", "cache_control", "idempotency_key"} <= named
    for name in named:
        assert key(ToolCall("t", {name: 1})) != key(ToolCall("t", {name: 2})), name
        assert key({name: 1}) != key({name: 2}), name
        assert key({"provider": "openai", name: 1}) != key({"provider": "openai", name: 2}), name
        assert key(FunctionCall("f", kwargs={name: 1})) != key(FunctionCall("f", kwargs={name: 2})), name
        assert key({"model": "m", "messages": [], name: 1}) != key({"model": "m", "messages": [], name: 2}), name


@pytest.mark.parametrize("provider", list(PROVIDERS))
def test_each_rule_of_a_provider_leaves_out_what_it_names_and_nothing_near(provider: str) -> None:
    for rule in PROVIDERS[provider]:
        steps = rule.path.replace("[*]", ".*").split(".")
        requests = [{"provider": provider, "model": "m", "messages": []} for _ in range(3)]
        for value, request in enumerate(requests[:2]):
            place(request, steps, value)
        assert key(requests[0]) == key(requests[1]), rule.path
        if len(steps) == 1:
            assert key(requests[0]) == key(requests[2]), rule.path
        near = [{"provider": provider, "model": "m", "messages": []} for _ in range(2)]
        for value, request in enumerate(near):
            place(request, [*steps[:-1], steps[-1] + "_"], value)
        assert key(near[0]) != key(near[1]), rule.path


def place(request: dict[str, Any], steps: list[str], value: Any) -> None:
    inside: Any = request
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        item: Any = value if following is None else [] if following == "*" else {}
        if step == "*":
            inside.append(item)
        else:
            inside[step] = item
        inside = item


def test_embedding_requests_have_their_provider_s_deny_list() -> None:
    def embedding(provider: str, **parameters: Any) -> Key:
        return key(EmbeddingRequest("m", ["a", "b"], provider, parameters))

    assert embedding("openai", user="a") == embedding("openai", user="b") == embedding("openai")
    assert embedding("openai", dimensions=3) != embedding("openai")
    assert embedding("other", user="a") != embedding("other", user="b")
    assert key(EmbeddingRequest("m", "a")) != key(EmbeddingRequest("m", ["a"]))


NAMES = """role content id tool_calls tool_call_id call_id type name annotations refusal usage cache_control function
arguments text tool_use_id index input logprobs parsed x"""
names = st.sampled_from(NAMES.split())
leaves = st.none() | st.sampled_from(
    ["a", "b", "tool_use", "message", "reasoning", "x_output", "function_call", 1, 0.5]
)
pieces = st.recursive(
    leaves | st.just([]) | st.just({}),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=25,
)
ids_ = st.sampled_from(["call_1", "call_2", "call_3"])
tool_calls_ = st.fixed_dictionaries(
    {"id": ids_, "type": st.just("function"), "function": st.fixed_dictionaries({"name": names, "arguments": names})},
    optional={"index": st.integers(0, 2)},
)
turns_ = st.one_of(
    st.fixed_dictionaries({"role": names, "content": names}),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": ids_, "content": names}, optional={"name": names}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": st.none(), "tool_calls": st.lists(tool_calls_)}),
    st.fixed_dictionaries({"type": st.sampled_from(["function_call", "function_call_output"]), "call_id": ids_}),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "content": st.lists(
                st.fixed_dictionaries({"type": st.just("tool_use"), "id": ids_, "input": pieces})
                | st.fixed_dictionaries({"type": st.just("tool_result"), "tool_use_id": ids_, "content": pieces})
            ),
        }
    ),
)
messages_ = st.lists(st.dictionaries(names, pieces, max_size=6) | leaves, max_size=6) | st.lists(turns_, max_size=8)
parameters_ = st.dictionaries(
    st.sampled_from(["user", "metadata", "timeout", "system", "tools", "extra_headers", "seed", "cache_control", "x"]),
    pieces,
    max_size=4,
)
calls = st.builds(
    lambda shape, provider, parameters, messages: {
        "model": "m",
        "provider": provider,
        shape: messages,
        **parameters,
    },
    st.sampled_from(["messages", "input"]),
    st.sampled_from(["openai", "anthropic", "replicate", "other"]),
    parameters_,
    messages_,
)


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(name, shuffled(item, rng)) for name, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(calls, st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_the_order_of_a_mapping_and_a_json_round_trip_never_count(call: dict[str, Any], rng: random.Random) -> None:
    before = copy.deepcopy(call)
    assert key(shuffled(call, rng)) == key(call) == key(json.loads(json.dumps(call)))
    assert call == before, "a request is never changed by being keyed"


@given(calls)
@settings(max_examples=300)
def test_the_quick_form_of_the_deny_list_is_what_the_rules_say_one_by_one(call: dict[str, Any]) -> None:
    kept, left_out = stripped(call)
    again, _ = stripped(kept)
    assert again == kept or left_out == [], "what is left has nothing more to leave out"
    shape = "messages" if "messages" in call else "input"
    if isinstance(kept[shape], list):
        assert unmarked(normalized(call[shape])) == with_ordinals(kept[shape])
    if not any(exclusion.rule.when == "empty" for exclusion in left_out):
        assert key(kept) == key(call)


def unmarked(value: Any) -> Any:
    """A normalized conversation with its ordinals readable."""
    number = ordinal_of(value)
    if number is not None:
        return f"ordinal {number}"
    if isinstance(value, dict):
        return {name: unmarked(item) for name, item in value.items()}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


def with_ordinals(messages: list[Any]) -> list[Any]:
    """The rule about volatile ids, written plainly: in a message references first, then content, then tool calls."""
    latest: dict[str, str] = {}
    count = 0

    def define(mapping: dict[str, Any], name: str) -> None:
        nonlocal count
        if isinstance(mapping.get(name), str):
            latest[mapping[name]] = f"ordinal {count}"
            mapping[name] = latest[mapping[name]]
            count += 1

    def refer(mapping: dict[str, Any], name: str) -> None:
        if isinstance(mapping.get(name), str):
            mapping[name] = latest.get(mapping[name], mapping[name])

    messages = copy.deepcopy(messages)
    for message in messages:
        if not isinstance(message, dict):
            continue
        is_result = str(message.get("type")).endswith("_output")
        if is_result:
            refer(message, "call_id")
        refer(message, "tool_call_id")
        if not is_result:
            define(message, "call_id")
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            if isinstance(part, dict):
                refer(part, "tool_use_id")
                if str(part.get("type")).endswith("tool_use"):
                    define(part, "id")
        for call in message["tool_calls"] if isinstance(message.get("tool_calls"), list) else []:
            if isinstance(call, dict):
                define(call, "id")
    return messages


def test_text_is_never_folded_or_trimmed() -> None:
    texts = ["a", "A", " a", "a ", "a\n", "a\r\n", "\u00e1", "a\u0301", "a\u200b", "ａ", "ß", "ss", ""]
    assert len({key(text).digest for text in texts}) == len(texts)
    assert len({key({"model": "m", "messages": [{"role": "user", "content": t}]}).digest for t in texts}) == len(texts)


def test_kinds_never_collide() -> None:
    call = {"name": "f", "version": "", "actor": None, "arguments": {}}
    requests = [
        "f",
        b"f",
        {"f": 1},
        {"model": "f", "messages": []},
        {"model": "f", "input": []},
        {"model": "f", "input": "f"},
        {"model": "f", "input": ["f"]},
        {"model": "f", "messages": "f"},
        {"model": "f", "messages": ["f"]},
        {"model": "f", "messages": ["f"], "input": ["f"]},
        {"model": "f"},
        {"model": "f", "messages": [], "tools": None},
        {"model": "f", "messages": [], "tools": []},
        {"model": "f", "messages": [], "attachments": None},
        {"model": "f", "messages": [], "attachments": []},
        call,
        ToolCall("f"),
        ToolCall("f", version="1"),
        ToolCall("f", actor="1"),
        ToolCall("f", actor=""),
        FunctionCall("f"),
        FunctionCall("f", args=({},)),
        EmbeddingRequest("f", "f"),
        EmbeddingRequest("f", "f", "f"),
        HttpRequest("GET", "f"),
        HttpRequest("GET", "f", credential=""),
        HttpRequest("GET", "f", body=None),
        {"kind": "tool", **call},
        {},
        "",
        b"",
    ]
    assert len({key(request).digest for request in requests}) == len(requests)
    assert {kind_of(request) for request in requests} == set(KINDS)
    assert [key(request).kind for request in requests] == [kind_of(request) for request in requests]


def test_tenants_namespaces_secrets_and_samples_keep_keys_apart() -> None:
    views: list[dict[str, Any]] = [
        {},
        {"tenant": "a"},
        {"namespace": "a"},
        {"tenant": "a", "namespace": "a"},
        {"secret": b"a"},
        {"secret": b"a", "tenant": "a"},
        {"tenant": "aa"},
        {"namespace": "\ud800"},
    ]
    for request in (CHAT, "plain", ToolCall("t")):
        digests = {KeyBuilder(**view).key(request, sample=sample).digest for view in views for sample in range(3)}
        assert len(digests) == len(views) * 3
    assert key("a", secret=b"") == key("a"), "no secret and an empty one are the same"


def test_a_plain_key_computes_its_digest_when_asked() -> None:
    plain = KeyBuilder().key("weather:berlin")
    assert (plain.kind, plain.plain, plain.address) == ("text", "weather:berlin", "weather:berlin")
    assert plain._digest is None
    assert plain.digest == KeyBuilder().digest_of("weather:berlin")
    sampled = KeyBuilder().key("weather:berlin", sample=1)
    assert sampled.address == sampled.digest != plain.digest
    assert KeyBuilder().key(bytearray(b"x")) == KeyBuilder().key(memoryview(b"x")) == KeyBuilder().key(b"x")
    assert KeyBuilder().key(CHAT).address == KeyBuilder().key(CHAT).digest


def test_header_names_fold_as_http_says_and_nothing_else_does() -> None:
    one = HttpRequest("GET", "https://x/A", {"Accept": "A", "X": "1"}, b"")
    assert key(one) == key(HttpRequest("GET", "https://x/A", (("x", "1"), ("accept", "A")), b""))
    for other in (
        dataclasses.replace(one, method="get"),
        dataclasses.replace(one, url="https://x/a"),
        dataclasses.replace(one, headers={"Accept": "a", "X": "1"}),
        dataclasses.replace(one, headers=(("Accept", "A"), ("X", "1"), ("X", "1"))),
        dataclasses.replace(one, body=b"x"),
        dataclasses.replace(one, credential="x"),
    ):
        assert key(other) != key(one)


@dataclasses.dataclass
class ChatRequest:
    model: str
    messages: list[Any]


def test_a_request_may_be_a_dataclass_or_a_model() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Call", model=(str, ...), messages=(list, ...))
    plain = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert key(ChatRequest(**plain)) == key(model(**plain)) == key(plain)


@pytest.mark.parametrize(
    "request_", [None, 1, 1.5, True, [], (), {1}, object(), lambda: 1], ids=lambda value: type(value).__name__
)
def test_what_is_no_request_raises_naming_what_may_be_one(request_: Any) -> None:
    for ask in (KeyBuilder().key, kind_of, explain):
        with pytest.raises(KeyingError, match="a request is a str, bytes, a mapping"):
            ask(request_)


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": object()}]}, "messages[0].content"),
        ({"model": "m", "input": [{}, {"content": [{"x": {1: 2}}]}]}, "input[1].content[0].x"),
        ({"model": "m", "input": object()}, "input"),
        ({"model": "m", "messages": [], "stop": object()}, "stop"),
        ({"model": "m", "messages": [], "tools": [{"f": object()}]}, "tools[0].f"),
        ({"x": {"y": object()}}, "x.y"),
        (FunctionCall("f", args=(1, object())), "args[1]"),
        (FunctionCall("f", kwargs={"a": object()}), "kwargs.a"),
        (EmbeddingRequest("m", [object()]), "input[0]"),
        (HttpRequest("GET", "u", body=object()), "body"),
        ({"model": "m", "messages": [], "provider": ["x"]}, "provider"),
    ],
)
def test_an_unkeyable_place_is_named_as_it_stands_in_the_request(request_: Any, path: str) -> None:
    with pytest.raises(KeyingError) as caught:
        key(request_)
    assert caught.value.path == path


@pytest.mark.parametrize("wrong", [{"tenant": 1}, {"namespace": None}, {"secret": "text"}, {"scheme": 99}])
def test_a_builder_refuses_what_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(KeyingError, match=r"must be|not known"):
        KeyBuilder(**wrong)


CHILD = """
import json, sys, dataclasses
from agentcache_core.keys import KeyBuilder, ToolCall
requests = json.load(sys.stdin)
keys = [KeyBuilder(tenant="t", secret=b"s").key(request).digest.hex() for request in requests]
keys.append(KeyBuilder().key(ToolCall("t", {"x": {"b", "a", "c", "d"}})).digest.hex())
print(json.dumps(keys))
"""


def test_processes_with_different_hash_seeds_agree() -> None:
    requests = [{**CHAT, "attachments": []}, CLAUDE, RESPONSES, REPLICATE, "plain"]
    answers = {
        subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps(requests),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
    assert json.loads(answers.pop())[:5] == [key(r, tenant="t", secret=b"s").digest.hex() for r in requests]


def conversations() -> Iterator[list[dict[str, Any]]]:
    with gzip.open(AIRLINE, "rt") as lines:
        for line in lines:
            yield json.loads(line)["traj"]


needs_data = pytest.mark.skipif(not AIRLINE.exists(), reason=f"no {AIRLINE}: set AGENTCACHE_BENCH_DATA")


@needs_data
def test_real_conversations_key_the_same_with_fresh_ids_and_differ_otherwise() -> None:
    builder = KeyBuilder()
    turns = {}
    for number, messages in enumerate(conversations()):
        renamed = copy.deepcopy(messages)
        fresh: dict[str, str] = {}
        for at_, message in enumerate(renamed):
            for call in message.get("tool_calls") or []:
                old = call["id"]
                call["id"] = fresh[old] = f"call_{number}_{at_}_{old}"
            if "tool_call_id" in message:
                message["tool_call_id"] = fresh[message["tool_call_id"]]
        for at_, message in enumerate(messages):
            if message["role"] == "assistant":
                digest = builder.key({"model": "gpt-4o", "messages": messages[:at_]}).digest
                assert builder.key({"model": "gpt-4o", "messages": renamed[:at_]}).digest == digest
                turns.setdefault(digest, []).append(messages[:at_])
    assert sum(map(len, turns.values())) == 1381
    assert len(turns) == 1378
    for same in turns.values():
        assert all([m["content"] for m in one] == [m["content"] for m in same[0]] for one in same)


@needs_data
def test_real_tool_calls_key_by_name_and_parsed_arguments() -> None:
    builder = KeyBuilder()
    keys = []
    for messages in conversations():
        for message in messages:
            for call in message.get("tool_calls") or []:
                function = call["function"]
                keys.append(builder.key(ToolCall(function["name"], json.loads(function["arguments"]))).digest)
    assert (len(keys), len(keys) - len(set(keys))) == (621, 266)


def test_the_deny_list_names_each_place_once_and_every_rule_has_its_reason() -> None:
    for rules in (*PROVIDERS.values(), MESSAGES):
        assert len({rule.path for rule in rules}) == len(rules)
        assert all(rule.reason for rule in rules)
