"""Recordings as files: what is written can be read by people, comes back equal, and holds no secret."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_adapters.http.recording import Recording, to_value
from agentcache_adapters.recordings import RecordingFolder, Redaction
from agentcache_adapters.recordings.readable import (
    answer_of,
    readable,
    readable_answer,
    readable_request,
    request_of,
    value_of,
)
from agentcache_core.errors import ConfigurationError
from agentcache_core.keys import EmbeddingRequest, FunctionCall, HttpRequest, KeyBuilder, ToolCall

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["$tuple", "$bytes", "$x"]), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


@given(plain)
def test_every_value_comes_back_equal_in_type_and_value(value: Any) -> None:
    try:
        text = json.dumps(readable(value), ensure_ascii=False)
    except Exception:  # lone surrogates and the like: what the codec refuses, this refuses too
        from agentcache_core.codec.serialize import dumps

        with pytest.raises(Exception):  # noqa: B017, PT011
            dumps(value)
        return
    back = value_of(json.loads(text))
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]},
        EmbeddingRequest("text-embedding-3-small", ["a", "b"], "openai", {"dimensions": 64}),
        HttpRequest("GET", "https://example.org/a", {"accept": "text/plain"}, b"\x00\xff"),
        ToolCall("find", {"name": "Ada"}, actor="grace", version="2"),
        FunctionCall(
            "module.forecast", "1", ("Berlin", (1, 2)), {"day": datetime.date(2026, 1, 2), "cost": Decimal("1.50")}
        ),
        "a plain key",
    ],
)
def test_every_kind_of_request_comes_back_with_the_same_key(request_: Any) -> None:
    back = request_of(json.loads(json.dumps(readable_request(request_))))
    assert KeyBuilder().key(back) == KeyBuilder().key(request_)


def test_a_json_answer_is_shown_as_json_and_a_stream_as_its_events() -> None:
    body = b'{"choices": [{"message": {"content": "hi"}}]}'
    shown = readable_answer(to_value(Recording(200, (("content-type", "application/json"),), body)))
    assert shown["http"]["json"]["choices"][0]["message"]["content"] == "hi"
    assert json.loads(answer_of(shown)["body"]) == json.loads(body)
    events = (b'data: {"a": 1}\n\n', 'data: {"b": "ü"}\n\n'.encode(), b"data: [DONE]\n\n")
    ends = (len(events[0]), len(events[0]) + len(events[1]), sum(map(len, events)))
    stream = to_value(Recording(200, (), b"".join(events), ends, (5, 6, 7)))
    shown = readable_answer(stream)
    assert shown["http"]["events"][1] == 'data: {"b": "ü"}\n\n'
    assert answer_of(shown) == stream


def test_a_body_that_is_no_text_comes_back_byte_for_byte() -> None:
    for body in (b"\xff\x00", b"plain", b"", b"[1]"):
        value = to_value(Recording(200, (), body))
        assert answer_of(json.loads(json.dumps(readable_answer(value)))) == value


def test_secrets_reach_no_file(tmp_path: Path) -> None:
    folder = RecordingFolder(tmp_path, Redaction([r"\b\d{4}-\d{4}-\d{4}\b"]))
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": f"my key is {SECRET}, my card 1234-5678-9012"}],
        "http": {"url": "https://x", "headers": {"x-api-key": "hush"}, "credentials": "0f" * 32},
    }
    answer = to_value(Recording(200, (("set-cookie", "session=hush"),), f'{{"echo": "{SECRET}"}}'.encode()))
    path = folder.write(request, answer, kind="chat", digest=b"\x01" * 32)
    text = path.read_text()
    for secret in (SECRET, "1234-5678-9012", "hush", "0f0f"):
        assert secret not in text
    assert "[redacted]" in text


def test_requests_that_differ_only_in_credentials_have_one_key_when_redacted() -> None:
    redaction = Redaction()
    requests = [
        {"model": "m", "messages": [], "http": {"url": "https://x", "headers": {}, "credentials": digest}}
        for digest in ("aa" * 32, "bb" * 32)
    ]
    assert redaction.request(requests[0]) == redaction.request(requests[1])


@given(st.text() | st.just(f"a {SECRET} b"))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    redaction = Redaction(["b+"])
    once = redaction.text(text)
    assert redaction.text(once) == once or "b" in "[redacted]"


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"agentcache_recording": 9}')
    with pytest.raises(ConfigurationError, match=r"broken\.json"):
        list(RecordingFolder(tmp_path, Redaction()).read())


def test_a_wrong_pattern_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\(open"):
        Redaction(["(open"])
