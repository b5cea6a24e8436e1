"""From a call to a plan: what counts in the key, what is secret, what bypasses."""

import json
from typing import Any

import pytest

from agentcache_adapters.http import CacheRules, Rule
from agentcache_adapters.http.messages import HttpCall
from agentcache_adapters.http.plan import Plan, plan

HEADERS = (("content-type", "application/json"), ("authorization", "Bearer sk-first"))
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
RESPONSES: dict[str, Any] = {"model": "gpt-5", "input": "hi"}
MESSAGES: dict[str, Any] = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
BASE = "https://api.example.com/v1"


def call(path: str, body: object, *, headers: tuple[tuple[str, str], ...] = HEADERS, method: str = "POST") -> HttpCall:
    return HttpCall(method, BASE + path, headers, json.dumps(body).encode())


def planned(path: str, body: object, **options: Any) -> Plan:
    return plan(call(path, body, **options), CacheRules())


@pytest.mark.parametrize(
    ("path", "body", "wire"),
    [
        ("/chat/completions", CHAT, "openai.chat"),
        ("/completions", {"model": "m", "prompt": "hi"}, "openai.chat"),
        ("/responses", RESPONSES, "openai.responses"),
        ("/embeddings", {"model": "m", "input": ["hi"]}, "openai.embeddings"),
        ("/messages", MESSAGES, "anthropic.messages"),
    ],
)
def test_model_calls_are_recognised_by_path_and_shape(path: str, body: dict[str, Any], wire: str) -> None:
    found = planned(path, body)
    assert found.wire is not None
    assert found.wire.name == wire
    assert found.request is not None
    assert found.bypass == ""


@pytest.mark.parametrize(
    ("path", "body"),
    [("/threads/t/messages", {"role": "user", "content": "hi"}), ("/chat/completions", {"x": 1}), ("/files", CHAT)],
)
def test_calls_that_only_look_alike_are_left_alone(path: str, body: dict[str, Any]) -> None:
    assert planned(path, body).request is None
    assert planned(path, body).bypass == "no rule covers this call"


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        ("/chat/completions", {"store": True}, "store asks"),
        ("/chat/completions", {"web_search_options": {}}, "searches the web"),
        ("/chat/completions", {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "audio kept"),
        ("/responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("/responses", {"conversation": "conv_1"}, "conversation"),
        ("/responses", {"store": True}, "store"),
        ("/responses", {"background": True}, "background"),
        ("/responses", {"prompt": {"id": "pmpt_1"}}, "without a version"),
        ("/responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ("/responses", {"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}, "web_search"),
        ("/responses", {"tools": [{"type": "mcp", "server_url": "https://x"}]}, "mcp"),
        ("/messages", {"container": "c_1"}, "container"),
        ("/messages", {"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ("/messages", {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, "code_execution"),
    ],
)
def test_state_and_tools_of_the_provider_bypass_with_a_reason(path: str, change: dict[str, Any], reason: str) -> None:
    body = {"/chat/completions": CHAT, "/responses": RESPONSES, "/messages": MESSAGES}[path] | change
    assert planned(path, body).request is None
    assert reason in planned(path, body).bypass


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/chat/completions", {"store": False, "tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("/responses", {"store": False, "previous_response_id": None}),
        ("/responses", {"prompt": {"id": "pmpt_1", "version": "2"}}),
        ("/messages", {"tools": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]}),
    ],
)
def test_tools_of_the_caller_and_absent_state_do_not_bypass(path: str, change: dict[str, Any]) -> None:
    body = {"/chat/completions": CHAT, "/responses": RESPONSES, "/messages": MESSAGES}[path] | change
    assert planned(path, body).bypass == ""


def test_tools_of_the_provider_may_be_cached_on_demand() -> None:
    asked = call("/responses", RESPONSES | {"tools": [{"type": "web_search"}]})
    assert plan(asked, CacheRules(provider_tools=True)).bypass == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer sk-second"),
        ("x-api-key", "k"),
        ("openai-organization", "org-2"),
        ("openai-beta", "b"),
        ("accept", "text/event-stream"),
        ("x-mine", "1"),
        ("cookie", "a=b"),
    ],
)
def test_a_changed_header_that_may_matter_changes_the_request(name: str, value: str) -> None:
    kept = tuple(pair for pair in HEADERS if pair[0] != name)
    assert (
        planned("/chat/completions", CHAT).request
        != planned("/chat/completions", CHAT, headers=(*kept, (name, value))).request
    )


@pytest.mark.parametrize(
    "name",
    [
        "x-stainless-retry-count",
        "idempotency-key",
        "user-agent",
        "date",
        "host",
        "content-length",
        "accept-encoding",
        "connection",
        "x-request-id",
        "traceparent",
        "x-agentcache-ttl",
    ],
)
def test_transport_noise_does_not_count(name: str) -> None:
    noisy = planned("/chat/completions", CHAT, headers=(*HEADERS, (name, "anything")))
    assert noisy.request == planned("/chat/completions", CHAT).request


def test_no_credential_is_in_the_request_wherever_it_was_sent() -> None:
    secret = "s3cr3t-value"
    url = f"https://user:{secret}@api.example.com/v1/chat/completions?api-key={secret}&version=2"
    headers = (*HEADERS[:1], ("authorization", secret), ("x-goog-api-key", secret), ("cookie", secret))
    found = plan(HttpCall("POST", url, headers, json.dumps(CHAT).encode()), CacheRules()).request
    assert found is not None
    assert secret not in repr(found)
    assert found["http"]["url"] == "https://api.example.com/v1/chat/completions?version=2"


def test_each_credential_has_its_own_partition_and_the_secret_keys_its_digest() -> None:
    digests = set()
    for key in ("a", "b"):
        for secret in (b"", b"x"):
            asked = call("/chat/completions", CHAT, headers=(*HEADERS[:1], ("authorization", key)))
            request = plan(asked, CacheRules(), secret=secret).request
            assert request is not None
            digests.add(request["http"]["credentials"])
    assert len(digests) == 4


def test_cookies_of_load_balancers_do_not_count_and_other_cookies_do() -> None:
    def asked(cookie: str) -> object:
        return planned("/chat/completions", CHAT, headers=(*HEADERS, ("cookie", cookie))).request

    plain = planned("/chat/completions", CHAT).request
    assert asked("__cf_bm=abc; _cfuvid=1; AWSALB=x") == plain
    assert asked("__cf_bm=abc; sid=1") == asked("sid=1; __cf_bm=zzz") != plain


def test_the_base_url_counts() -> None:
    other = HttpCall("POST", "https://other.example/v1/chat/completions", HEADERS, json.dumps(CHAT).encode())
    assert plan(other, CacheRules()).request != planned("/chat/completions", CHAT).request


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-6"},
        {"temperature": 0},
        {"stream": True},
        {"tool_choice": "required"},
        {"seed": 1},
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function"}]},
        {"provider": {"order": ["x"]}},
        {"messages": [{"role": "system", "content": "You are terse."}, *CHAT["messages"]]},
        {"reasoning_effort": "low"},
    ],
)
def test_every_changed_field_changes_the_request(change: dict[str, Any]) -> None:
    assert planned("/chat/completions", CHAT | change).request != planned("/chat/completions", CHAT).request


def test_plain_calls_are_cached_by_rule_only() -> None:
    rules = CacheRules((Rule(hosts=("*.example.com",), paths=("/v1/models*",), ttl="1h", tags=("models",)),))
    asked = HttpCall("GET", BASE + "/models?limit=2", HEADERS[1:], b"")
    found = plan(asked, rules)
    assert found.request is not None
    assert (found.ttl, found.tags) == ("1h", ("models",))
    assert plan(asked, CacheRules()).request is None
    assert plan(HttpCall("POST", asked.url, HEADERS[1:], b""), rules).request is None
    assert plan(HttpCall("GET", "https://evil.org/v1/models", (), b""), rules).request is None


def test_the_boundary_of_a_form_does_not_count_and_its_content_does() -> None:
    rules = CacheRules((Rule(methods=("POST",)),), models=False)

    def form(boundary: str, content: str) -> object:
        body = f"--{boundary}\r\n\r\n{content}\r\n--{boundary}--".encode()
        headers = (("content-type", f"multipart/form-data; boundary={boundary}"),)
        return plan(HttpCall("POST", BASE + "/upload", headers, body), rules).request

    assert form("abc123", "x") == form("zzz999", "x")
    assert form("abc123", "x") != form("abc123", "y")


def test_order_in_a_json_body_of_a_plain_call_does_not_count() -> None:
    rules = CacheRules((Rule(methods=("POST",)),))
    first = HttpCall("POST", BASE + "/search", HEADERS, b'{"a": 1, "b": 2}')
    second = HttpCall("POST", BASE + "/search", HEADERS, b'{"b":2,"a":1}')
    assert plan(first, rules).request == plan(second, rules).request


def test_directives_are_read_from_headers_and_unknown_words_change_nothing() -> None:
    headers = (
        *HEADERS,
        ("x-agentcache", "no-store, max-age=60, sample=2, frobnicate, no-semantic"),
        ("x-agentcache-ttl", "5m"),
        ("x-agentcache-tags", "a, b"),
    )
    found = planned("/chat/completions", CHAT, headers=headers)
    assert found.directives.no_store
    assert found.directives.max_age == 60
    assert found.directives.sample == 2
    assert found.directives.semantic is False
    assert found.directives.unknown == ("frobnicate",)
    assert (found.ttl, found.tags) == ("5m", ("a", "b"))


def test_a_request_too_large_to_hold_bypasses() -> None:
    asked = call("/chat/completions", CHAT | {"pad": "x" * 100})
    assert "larger than 50 bytes" in plan(asked, CacheRules(max_body=50)).bypass


def test_a_rule_written_with_a_bare_string_says_how_to_mend_it() -> None:
    with pytest.raises(TypeError, match="paths=…"):
        Rule(paths="/v1/*")  # type: ignore[arg-type]
