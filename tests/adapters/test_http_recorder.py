"""Which answers are stored, and that what is stored is what passed."""

import gzip
import json
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agentcache_adapters.http import CacheRules, Rule
from agentcache_adapters.http.keeping import cost
from agentcache_adapters.http.messages import Headers, HttpCall, ResponseHead
from agentcache_adapters.http.plan import Plan, plan
from agentcache_adapters.http.recorder import Discard, Recorder, Store
from agentcache_adapters.http.recording import Recording, from_value, to_value
from agentcache_core import Cost

JSON: Headers = (("content-type", "application/json"),)
SSE: Headers = (("content-type", "text/event-stream; charset=utf-8"),)
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "m", "messages": []},
    "responses": {"model": "m", "input": "hi"},
    "embeddings": {"model": "m", "input": "hi"},
    "messages": {"model": "m", "max_tokens": 5, "messages": []},
}


def planned(path: str) -> Plan:
    return plan(HttpCall("POST", f"https://api/v1/{path}", JSON, json.dumps(BODIES[path]).encode()), CacheRules())


def record(
    path: str, body: bytes, *, headers: Headers = JSON, status: int = 200, complete: bool = True
) -> Store | Discard:
    recorder = Recorder(planned(path), ResponseHead(status, headers), started=0.0)
    recorder.feed(body, 1.0)
    return recorder.finish(2.0, complete=complete)


def reason(outcome: Store | Discard) -> str:
    assert isinstance(outcome, Discard), outcome
    return outcome.reason


def stored(outcome: Store | Discard) -> Store:
    assert isinstance(outcome, Store), outcome
    return outcome


def events(*bodies: object, names: bool = False) -> bytes:
    lines = []
    for body in bodies:
        if names and isinstance(body, dict):
            lines.append(f"event: {body['type']}\n")
        lines.append(f"data: {body if isinstance(body, str) else json.dumps(body)}\n\n")
    return "".join(lines).encode()


def choice(finish: str | None = "stop", **message: object) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "hello"} | message}


def delta(finish: str | None = None, index: int = 0, **fields: object) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


CHAT_STREAM = events(
    delta(content="he"),
    delta(content="llo"),
    delta("stop"),
    {
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
    },
    "[DONE]",
)
COMPLETED = {
    "status": "completed",
    "model": "m-1",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
    "usage": {"input_tokens": 3, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 1}},
}
MESSAGE_STREAM = events(
    {"type": "message_start", "message": {"model": "c-1", "usage": {"input_tokens": 5, "cache_read_input_tokens": 2}}},
    {"type": "content_block_delta", "delta": {"text": "hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
    names=True,
)


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_a_finished_chat_answer_is_stored_with_its_usage(finish: str) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    body = json.dumps({"model": "m-1", "choices": [choice(finish)], "usage": usage}).encode()
    outcome = stored(record("chat/completions", body))
    assert outcome.recording.body == body
    assert outcome.verdict.model == "m-1"
    assert cost(planned("chat/completions"), outcome) == Cost(0, 7, 4, 2, 2.0)


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        ("chat/completions", {"choices": [choice("length")]}, "finish_reason is length"),
        ("chat/completions", {"choices": [choice("content_filter")]}, "content_filter"),
        ("chat/completions", {"choices": [choice(), choice(None)]}, "no finish_reason"),
        ("chat/completions", {"choices": [choice(refusal="I cannot")]}, "refused"),
        ("chat/completions", {"choices": []}, "no choices"),
        ("chat/completions", {"error": {"message": "x"}, "choices": [choice()]}, "error"),
        ("chat/completions", [], "no choices"),
        ("responses", COMPLETED | {"status": "incomplete"}, "incomplete"),
        ("responses", COMPLETED | {"status": "in_progress"}, "in_progress"),
        ("responses", COMPLETED | {"status": "queued"}, "queued"),
        ("responses", COMPLETED | {"error": {"code": "x"}}, "error"),
        ("responses", COMPLETED | {"output": [{"content": [{"type": "refusal", "refusal": "no"}]}]}, "refused"),
        ("responses", COMPLETED | {"output": []}, "no output"),
        ("embeddings", {"data": []}, "no embeddings"),
        ("embeddings", {"data": [{"embedding": []}]}, "empty"),
        ("messages", {"type": "message", "stop_reason": "max_tokens", "content": [{}]}, "max_tokens"),
        ("messages", {"type": "message", "stop_reason": "refusal", "content": [{}]}, "refusal"),
        ("messages", {"type": "message", "stop_reason": "pause_turn", "content": [{}]}, "pause_turn"),
        ("messages", {"type": "message", "stop_reason": "end_turn", "content": []}, "no content"),
        ("messages", {"type": "error", "stop_reason": "end_turn"}, "not a message"),
    ],
)
def test_answers_that_did_not_end_well_are_not_stored(path: str, answer: object, why: str) -> None:
    assert why in reason(record(path, json.dumps(answer).encode()))


@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 404, 408, 409, 429, 500, 502, 503, 529])
def test_only_status_200_is_stored(status: int) -> None:
    good = json.dumps({"choices": [choice()]}).encode()
    assert reason(record("chat/completions", good, status=status)) == f"status {status}"


def test_a_body_cut_short_is_not_stored() -> None:
    body = json.dumps({"choices": [choice()]}).encode()
    assert "read to its end" in reason(record("chat/completions", body, complete=False))
    assert "not JSON" in reason(record("chat/completions", body[:-1]))
    short = (*JSON, ("content-length", str(len(body) + 1)))
    assert "bytes arrived" in reason(record("chat/completions", body, headers=short))


def test_good_responses_and_embeddings_and_messages_are_stored() -> None:
    outcome = stored(record("responses", json.dumps(COMPLETED).encode()))
    assert cost(planned("responses"), outcome) == Cost(0, 3, 1, 4, 2.0)
    stored(record("embeddings", json.dumps({"data": [{"embedding": "AAAA"}], "usage": {"prompt_tokens": 3}}).encode()))
    message = {
        "type": "message",
        "stop_reason": "tool_use",
        "content": [{"type": "tool_use"}],
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 2,
            "cache_creation_input_tokens": 1,
            "output_tokens": 9,
        },
    }
    outcome = stored(record("messages", json.dumps(message).encode()))
    assert cost(planned("messages"), outcome) == Cost(0, 8, 2, 9, 2.0)


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("chat/completions", CHAT_STREAM),
        (
            "responses",
            events({"type": "response.created"}, {"type": "response.completed", "response": COMPLETED}, names=True),
        ),
        ("messages", MESSAGE_STREAM),
    ],
)
def test_a_stream_is_stored_byte_for_byte_and_only_after_its_terminal_event(path: str, stream: bytes) -> None:
    outcome = stored(record(path, stream, headers=SSE))
    assert outcome.recording.body == stream
    assert outcome.recording.streamed
    assert cost(planned(path), outcome).output_tokens > 0
    assert b"".join(part for _, part in outcome.recording.parts()) == stream
    # Closed by the reader right after the terminal event: whole. Any shorter prefix: not.
    stored(record(path, stream, headers=SSE, complete=False))
    for length in range(len(stream)):
        assert isinstance(record(path, stream[:length], headers=SSE, complete=False), Discard)
        assert isinstance(record(path, stream[: length - 1], headers=SSE), Discard)


@pytest.mark.parametrize(
    ("path", "stream", "why"),
    [
        ("chat/completions", events(delta(content="x"), delta("length"), "[DONE]"), "length"),
        ("chat/completions", events(delta(content="x"), delta("content_filter"), "[DONE]"), "content_filter"),
        ("chat/completions", events(delta(content="x"), "[DONE]"), "no finish_reason"),
        ("chat/completions", events(delta(refusal="No"), delta("stop"), "[DONE]"), "refused"),
        ("chat/completions", events(delta("stop"), delta(index=1, content="x"), "[DONE]"), "no finish_reason"),
        (
            "chat/completions",
            events(delta(content="x"), {"error": {"message": "overloaded"}}, delta("stop"), "[DONE]"),
            "error",
        ),
        ("chat/completions", events("{broken", delta("stop"), "[DONE]"), "not JSON"),
        ("chat/completions", events(delta("stop")), "before [DONE]"),
        ("chat/completions", events("[DONE]"), "no choices"),
        ("responses", events({"type": "response.incomplete", "response": COMPLETED}), "incomplete"),
        ("responses", events({"type": "response.failed", "response": {}}), "failed"),
        ("responses", events({"type": "error", "message": "x"}), "error"),
        ("responses", events({"type": "response.output_text.delta", "delta": "x"}), "before response.completed"),
        ("messages", MESSAGE_STREAM.replace(b"end_turn", b"max_tokens"), "max_tokens"),
        ("messages", MESSAGE_STREAM.replace(b"end_turn", b"refusal"), "refusal"),
        ("messages", events({"type": "error", "error": {"type": "overloaded_error"}}) + MESSAGE_STREAM, "error"),
        ("messages", events({"type": "message_stop"}), "no stop_reason"),
        ("embeddings", events("x"), "do not stream"),
    ],
)
def test_streams_that_did_not_end_well_are_not_stored(path: str, stream: bytes, why: str) -> None:
    assert why in reason(record(path, stream, headers=SSE))


@given(
    st.lists(st.integers(min_value=1, max_value=len(CHAT_STREAM)), max_size=30), st.sampled_from(["", "gzip", "zstd"])
)
def test_neither_cuts_nor_encodings_change_what_is_recorded(cuts: list[int], encoding: str) -> None:
    wire = {"": lambda b: b, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[encoding](CHAT_STREAM)
    headers = (*SSE, ("content-encoding", encoding)) if encoding else SSE
    recorder = Recorder(planned("chat/completions"), ResponseHead(200, headers), started=0.0)
    places = sorted({0, len(wire), *(cut % len(wire) for cut in cuts)})
    for begin, end in zip(places, places[1:], strict=False):  # noqa: RUF007 - two cursors read better here
        recorder.feed(wire[begin:end], float(begin))
    outcome = stored(recorder.finish(1e6, complete=True))
    assert outcome.recording.body == CHAT_STREAM
    assert len(outcome.recording.ends) == 5
    assert outcome.recording.headers == SSE


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, lambda b: zlib.compress(b, wbits=-15)])
def test_encoded_bodies_are_stored_decoded(compress: Any) -> None:
    body = json.dumps({"choices": [choice()]}).encode()
    name = "gzip" if compress is gzip.compress else "deflate"
    headers = (*JSON, ("content-encoding", name), ("content-length", str(len(compress(body)))))
    outcome = stored(record("chat/completions", compress(body), headers=headers))
    assert outcome.recording.body == body
    assert dict(outcome.recording.replay_headers())["content-length"] == str(len(body))
    assert isinstance(record("chat/completions", compress(body)[:-1], headers=headers[:2]), Discard)


def test_an_encoding_nobody_here_can_read_is_not_stored() -> None:
    assert "snappy" in reason(record("chat/completions", b"?", headers=(*JSON, ("content-encoding", "snappy"))))


def test_damaged_encodings_are_not_stored() -> None:
    for encoding in ("gzip", "deflate", "zstd"):
        assert "cannot be followed" in reason(
            record("chat/completions", b"\xff" * 40, headers=(*JSON, ("content-encoding", encoding)))
        )


def test_the_pace_of_a_stream_is_recorded_per_event() -> None:
    recorder = Recorder(planned("chat/completions"), ResponseHead(200, SSE), started=10.0)
    now = 10.0
    for event in CHAT_STREAM.split(b"\n\n")[:-1]:
        now += 0.5
        recorder.feed(event + b"\n\n", now)
    outcome = stored(recorder.finish(now, complete=True))
    assert outcome.recording.delays == (500_000,) * 5


def test_cookies_rate_limits_and_hop_headers_are_not_stored() -> None:
    sent = (
        *JSON,
        ("set-cookie", "a=b"),
        ("x-ratelimit-remaining-tokens", "9"),
        ("anthropic-ratelimit-x", "1"),
        ("cf-ray", "1"),
        ("connection", "keep-alive, x-private"),
        ("x-private", "1"),
        ("transfer-encoding", "chunked"),
        ("x-request-id", "r1"),
        ("authorization", "never"),
        ("retry-after", "9"),
        ("openai-version", "2020"),
    )
    outcome = stored(record("chat/completions", json.dumps({"choices": [choice()]}).encode(), headers=sent))
    assert [name for name, _ in outcome.recording.headers] == ["content-type", "x-request-id", "openai-version"]


def test_an_answer_too_large_is_not_kept() -> None:
    found = plan(HttpCall("POST", "https://api/v1/responses", JSON, b'{"input":"a"}'), CacheRules(max_body=100))
    recorder = Recorder(found, ResponseHead(200, JSON), started=0.0)
    for _ in range(11):
        recorder.feed(b"x" * 10, 1.0)
    assert not recorder.watching
    assert "larger than 100 bytes" in reason(recorder.finish(1.0, complete=True))


def test_plain_calls_keep_any_whole_200_unless_the_server_forbids_it() -> None:
    found = plan(HttpCall("GET", "https://api/v1/models", (), b""), CacheRules((Rule(stream_end="end"),)))

    def run(headers: Headers, body: bytes) -> Store | Discard:
        recorder = Recorder(found, ResponseHead(200, headers), started=0.0)
        recorder.feed(body, 1.0)
        return recorder.finish(1.0, complete=True)

    assert stored(run((("content-type", "text/html"),), b"<p>")).recording.body == b"<p>"
    assert "no-store" in reason(run((("cache-control", "private, no-store"),), b"x"))
    stored(run(SSE, b"data: x\n\ndata: end\n\n"))
    assert "before end" in reason(run(SSE, b"data: x\n\n"))


@given(
    st.binary(max_size=60),
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3),
    st.lists(st.integers(min_value=0, max_value=10**9), max_size=6),
)
def test_a_recording_survives_the_way_to_a_value_and_back(
    body: bytes, headers: list[tuple[str, str]], delays: list[int]
) -> None:
    ends = tuple(min(len(body), i + 1) for i in range(len(delays) - 1)) + (len(body),) * bool(delays)
    recording = Recording(200, tuple(headers), body, ends, tuple(delays))
    assert from_value(to_value(recording)) == recording


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        b"bytes",
        {},
        {"agentcache_http": 1},
        {"agentcache_http": 2, "status": 200, "headers": [], "body": b""},
        {"agentcache_http": 1, "status": 200, "headers": [["a"]], "body": b""},
        {"agentcache_http": 1, "status": 200, "headers": [], "body": b"ab", "ends": [1], "delays": [0]},
        {"agentcache_http": 1, "status": 200, "headers": [], "body": b"ab", "ends": [2]},
        {"agentcache_http": 1, "status": 200, "headers": [], "body": b"ab", "ends": [2], "delays": [-1]},
        {"agentcache_http": 1, "status": 200, "headers": [], "body": b"ab", "ends": [2, 1, 2], "delays": [0, 0, 0]},
    ],
)
def test_a_value_that_is_no_recording_is_a_miss(value: object) -> None:
    assert from_value(value) is None


# What the other side sends is the other side's affair: it may not be stored, but it must pass.

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "type", "choices", "finish_reason", "message", "delta", "refusal", "usage", "model", "status", "output", "response",
    "content", "stop_reason", "error", "data", "embedding", "index", "input", "messages", "tools", "prompt", "audio",
    "max_tokens", "previous_response_id", "provider", "http", "stream",
]  # fmt: skip
SHAPES = st.recursive(
    JSON_VALUES | st.sampled_from(["message", "completed", "stop", "message_delta", "response.completed"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@given(st.sampled_from(sorted(BODIES)), st.lists(SHAPES, min_size=1, max_size=5), st.booleans())
def test_no_answer_whatever_its_shape_makes_the_recorder_raise(path: str, shapes: list[object], streamed: bool) -> None:
    body = events(*(json.dumps(shape) for shape in shapes)) if streamed else json.dumps(shapes[0]).encode()
    outcome = record(path, body, headers=SSE if streamed else JSON)
    if isinstance(outcome, Store):
        cost(planned(path), outcome)


@given(st.sampled_from(sorted(BODIES)), st.dictionaries(st.sampled_from(NAMES), SHAPES, max_size=6))
def test_no_request_whatever_its_shape_makes_the_planner_raise(path: str, body: dict[str, Any]) -> None:
    call = HttpCall("POST", f"https://api/v1/{path}", JSON, json.dumps(BODIES[path] | body).encode())
    found = plan(call, CacheRules())
    assert (found.request is None) == bool(found.bypass)
