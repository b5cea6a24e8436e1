"""Reading request logs: every shape, plain and compressed, with lines that are no use among them."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agentcache_adapters.cli import lines as lines_module
from agentcache_adapters.cli.batches import BatchAnswers, collect_answers
from agentcache_adapters.cli.lines import BadLine, Line, read_lines
from agentcache_adapters.cli.logs import ModelCall, Record, ToolUse, read_records
from agentcache_core import MISSING
from agentcache_core.keys import EmbeddingRequest, KeyBuilder, ToolCall

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("AGENTCACHE_BENCH_DATA") or ROOT.parent / "shared" / "data")
AIRLINE = DATA / "agent_trajectories_airline.jsonl.gz"

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def records(*parsed: Any, model: str | None = None, answers: BatchAnswers | None = None) -> list[Record]:
    def as_lines() -> Iterable[Line]:
        for number, line in enumerate(parsed, 1):
            yield Line("log", number, line if isinstance(line, bytes) else json.dumps(line).encode())

    return list(read_records(as_lines(), model=model, answers=answers))


def test_a_request_with_its_response_is_one_model_call() -> None:
    for name in ("request", "body"):
        (call,) = records({name: CHAT, "response": {"text": "hello"}})
        assert call == ModelCall(CHAT, {"text": "hello"}, "log", 1)
    (plain,) = records({"request": "plain key", "response": None})
    assert plain == ModelCall("plain key", None, "log", 1)
    (unanswered,) = records({"request": CHAT})
    assert isinstance(unanswered, ModelCall)
    assert unanswered.response is MISSING


def test_the_model_is_named_only_where_the_log_does_not() -> None:
    messages = CHAT["messages"]
    (named,) = records({"request": {"messages": messages}, "response": 1}, model="gpt-x")
    assert named.request == {"messages": messages, "model": "gpt-x"}  # type: ignore[union-attr]  # a ModelCall
    (kept,) = records({"request": CHAT, "response": 1}, model="gpt-x")
    assert kept.request == CHAT  # type: ignore[union-attr]  # a ModelCall
    (other,) = records({"request": {"anything": 1}, "response": 1}, model="gpt-x")
    assert other.request == {"anything": 1}  # type: ignore[union-attr]  # a ModelCall


def test_a_conversation_is_a_call_for_every_turn_and_results_belong_by_position() -> None:
    def call(id_: str, name: str, arguments: Any) -> dict[str, Any]:
        return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}

    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "tool_calls": [call("a", "f", '{"x": 1}'), call("a", "g", "not json")]},
        {"role": "tool", "tool_call_id": "a", "content": "of f"},
        {"role": "tool", "tool_call_id": "a", "content": "of g"},
        {"role": "assistant", "content": "done", "function_call": {"name": "h", "arguments": ""}},
        {"role": "user", "content": "thanks"},
        {"role": "assistant", "content": "welcome"},
    ]
    for name in ("traj", "messages"):
        found = records({name: messages, "tools": [{"name": "f"}]}, model="m")
        calls = [record for record in found if isinstance(record, ModelCall)]
        common = {"model": "m", "tools": [{"name": "f"}]}
        assert [call.request for call in calls] == [{**common, "messages": messages[:at]} for at in (2, 5, 7)]
        assert [call.response for call in calls] == [messages[2], messages[5], messages[7]]
        uses = [(use.call, use.result) for use in found if isinstance(use, ToolUse)]
        expected = [
            (ToolCall("f", {"x": 1}), "of f"),
            (ToolCall("g", "not json"), "of g"),
            (ToolCall("h", ""), MISSING),
        ]
        assert uses == expected


def test_anthropic_conversations_have_their_tool_calls_and_results_in_parts() -> None:
    messages = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
    ]
    found = records({"messages": messages, "model": "claude", "system": "s"})
    assert [type(record).__name__ for record in found] == ["ModelCall", "ToolUse", "ModelCall"]
    assert found[1] == ToolUse(ToolCall("f", {"x": 1}), "r", "log", 1)
    assert found[0].request["system"] == "s"  # type: ignore[union-attr]  # a ModelCall


def test_tool_calls_are_found_in_the_responses_of_every_api() -> None:
    function = {"name": "f", "arguments": '{"x": 1}'}
    for response in (
        {"choices": [{"message": {"role": "assistant", "tool_calls": [{"id": "a", "function": function}]}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]},
        {"output": [{"type": "reasoning"}, {"type": "function_call", "call_id": "c", **function}]},
    ):
        found = records({"request": CHAT, "response": response})
        assert [record.call for record in found if isinstance(record, ToolUse)] == [ToolCall("f", {"x": 1})]


def batch_files(folder: Path) -> tuple[Path, Path]:
    asks = [
        {"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions", "body": {**CHAT, "n": i}}
        for i in range(4)
    ]
    asks.append({"custom_id": "e", "url": "/v1/embeddings", "body": {"model": "emb", "input": ["a"], "dimensions": 3}})
    outputs = [
        {"id": "b1", "custom_id": "e", "response": {"status_code": 200, "body": {"data": []}}, "error": None},
        {"id": "b2", "custom_id": "c1", "response": {"status_code": 200, "body": {"text": "one"}}, "error": None},
        {"id": "b3", "custom_id": "c0", "response": {"status_code": 200, "body": {"text": "zero"}}, "error": None},
        {
            "id": "b4",
            "custom_id": "c2",
            "response": {"status_code": 429, "body": {"error": "slow down"}},
            "error": None,
        },
        {"id": "b5", "custom_id": "c9", "response": {"status_code": 200, "body": {"text": "stray"}}, "error": None},
        {"id": "b6", "custom_id": "c3", "response": None, "error": {"code": "batch_expired"}},
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asks))
    (folder / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in outputs))
    return folder / "in.jsonl", folder / "out.jsonl"


def test_the_answers_of_a_batch_find_their_requests_in_any_order(tmp_path: Path) -> None:
    asks, outputs = batch_files(tmp_path)
    with BatchAnswers(tmp_path / "answers.db") as answers:
        assert collect_answers(read_lines(asks), answers) == 0
        assert collect_answers(read_lines(outputs), answers) == 6
        found = list(read_records(read_lines(asks), answers=answers))
        assert list(read_records(read_lines(outputs), answers=answers)) == []
        unasked = list(answers.unasked())
    calls = [record for record in found if isinstance(record, ModelCall)]
    assert [call.response for call in calls[:2]] == [{"text": "zero"}, {"text": "one"}]
    assert [call.failed for call in calls] == [False, False, True, True, False]
    assert calls[0].request == {"provider": "openai", **CHAT, "n": 0}
    assert calls[4] == ModelCall(
        EmbeddingRequest("emb", ["a"], "openai", {"dimensions": 3}), {"data": []}, str(asks), 5
    )
    assert [(bad.line, "c9" in bad.reason) for bad in unasked] == [(5, True)]


def test_an_answer_without_its_request_is_a_bad_line() -> None:
    (bad,) = records({"custom_id": "c", "response": {"body": {}}})
    assert isinstance(bad, BadLine)
    assert "answer of a batch" in bad.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON: Expecting property name"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b"[1]", "a JSON list, not an object"),
        (b"7", "a JSON int, not an object"),
        (b'{"x": 1}', "neither a request"),
        (b'{"request": 5, "response": 1}', "the request is a JSON int"),
        (b'{"messages": {"role": "user"}}', "a conversation is a list of messages"),
        (b'{"traj": [1]}', "a conversation is a list of messages"),
        (b"[" * 200_000, "not JSON that can be read"),
        (b'{"request": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
    ],
)
def test_a_line_that_is_no_use_is_told_with_its_place_and_the_rest_is_read(content: bytes, reason: str) -> None:
    before, bad, after = records({"request": CHAT, "response": 1}, content, {"request": CHAT, "response": 2})
    assert isinstance(bad, BadLine)
    assert str(bad).startswith("log:2: ")
    assert reason in bad.reason
    assert isinstance(before, ModelCall)
    assert isinstance(after, ModelCall)


def test_gzip_is_known_by_its_bytes_and_damage_ends_the_file_with_a_bad_line(tmp_path: Path) -> None:
    plain = b'{"a": 1}\n\n  \n{"b": 2}'
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(plain[:9]) + gzip.compress(plain[9:]))
    assert [(line.number, line.content) for line in read_lines(path)] == [(1, b'{"a": 1}\n'), (4, b'{"b": 2}')]  # type: ignore[union-attr]  # all are lines
    path.write_bytes(plain)
    assert len(list(read_lines(path))) == 2
    packed = gzip.compress(b"".join(b'{"n": %d}\n' % os.urandom(8)[0] for _ in range(5000)))
    path.write_bytes(packed[: len(packed) // 2])
    *good, last = read_lines(path)
    assert good
    assert isinstance(last, BadLine)
    assert "cannot be read beyond" in last.reason
    path.write_bytes(packed[:200] + b"\0" * 200 + packed[400:])
    assert isinstance(list(read_lines(path))[-1], BadLine)
    path.write_bytes(b"")
    assert list(read_lines(path)) == []


def test_progress_hears_every_byte_of_the_file_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"x\n" * 10_000, gzip.compress(os.urandom(300_000).hex().encode())):
        path.write_bytes(content)
        steps: list[int] = []
        assert list(read_lines(path, steps.append))
        assert sum(steps) == len(content)


def test_a_line_beyond_the_bound_is_skipped_without_being_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 1 << 20)
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n')
        for _ in range(40):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"b": 2}\n')
    tracemalloc.start()
    try:
        first, bad, last = read_lines(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.reason) == (2, "longer than 1 MiB")
    assert isinstance(last, Line)
    assert (last.number, last.content) == (3, b'{"b": 2}\n')
    assert isinstance(first, Line)
    assert peak < 8 << 20


def test_a_log_of_any_size_needs_the_memory_of_its_longest_line(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    line = json.dumps({"request": {**CHAT, "pad": "x" * 10_000}, "response": {"text": "y" * 10_000}}).encode() + b"\n"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(1_000):
            file.write(line)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_records(read_lines(path))) == 1_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20, "20 MB of log"


@pytest.mark.skipif(not AIRLINE.exists(), reason=f"no {AIRLINE}: set AGENTCACHE_BENCH_DATA")
def test_real_conversations_give_their_calls_and_repetitions() -> None:
    builder = KeyBuilder()
    counts: Counter[str] = Counter()
    seen: dict[bytes, Any] = {}
    for record in read_records(read_lines(AIRLINE), model="gpt-4o"):
        assert not isinstance(record, BadLine)
        name = type(record).__name__
        asked, answer = (
            (record.request, record.response) if isinstance(record, ModelCall) else (record.call, record.result)
        )
        digest = builder.key(asked).digest
        counts[name] += 1
        counts[f"{name} repeated"] += digest in seen
        counts[f"{name} otherwise"] += seen.setdefault(digest, answer) != answer
    assert (counts["ModelCall"], counts["ModelCall repeated"], counts["ModelCall otherwise"]) == (1381, 3, 0)
    assert (counts["ToolUse"], counts["ToolUse repeated"]) == (621, 266)
