"""Long runs of agents key exactly however long they are: from live SDK objects, from their JSON, from a checkpoint.

The model is a local server that gives every answer a new id, time and fingerprint, as real ones do.
"""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic
from openai import OpenAI

from agentcache_adapters.anthropic import cached as cached_anthropic
from agentcache_adapters.openai import cached as cached_openai
from agentcache_core import Cache

TURNS = 50
Messages = list[Any]


class Model(BaseHTTPRequestHandler):
    """Asks for a tool at every turn but the last; nothing volatile in its answers is ever the same twice."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    calls = 0

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).calls += 1
        turn = sum(1 for message in body["messages"] if message["role"] == "assistant")
        answer = _anthropic(body, turn) if self.path.endswith("/messages") else _openai(body, turn)
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("request-id", uuid.uuid4().hex)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def _openai(body: dict[str, Any], turn: int) -> dict[str, Any]:
    call = {
        "id": f"call_{uuid.uuid4().hex}",
        "type": "function",
        "function": {"name": "step", "arguments": f'{{"n": {turn}}}'},
    }
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call],
        "refusal": None,
        "annotations": [],
    }
    if turn == TURNS:
        message = {"role": "assistant", "content": f"done after {turn}", "refusal": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": 1_700_000_000 + type(turn)(uuid.uuid4().int % 10**6),
        "model": body["model"],
        "system_fingerprint": uuid.uuid4().hex,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop" if turn == TURNS else "tool_calls"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _anthropic(body: dict[str, Any], turn: int) -> dict[str, Any]:
    block: dict[str, Any] = {
        "type": "tool_use",
        "id": f"toolu_{uuid.uuid4().hex}",
        "name": "step",
        "input": {"n": turn},
    }
    if turn == TURNS:
        block = {"type": "text", "text": f"done after {turn}"}
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [block],
        "stop_reason": "end_turn" if turn == TURNS else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", deadline="30s") as cache:
        yield cache


@pytest.fixture
def openai(server: str, cache: Cache) -> Iterator[OpenAI]:
    with cached_openai(OpenAI(base_url=f"{server}/v1", api_key="k", max_retries=0), cache) as client:
        yield client


@pytest.fixture
def anthropic(server: str, cache: Cache) -> Iterator[Anthropic]:
    with cached_anthropic(Anthropic(base_url=server, api_key="k", max_retries=0), cache) as client:
        yield client


def live(message: Any) -> Any:
    """The SDK's own object, handed back as it came."""
    return message


def as_json(message: Any) -> Any:
    """The object's JSON, with every null."""
    return json.loads(message.model_dump_json())


def without_nulls(message: Any) -> Any:
    """The object's JSON as many frameworks keep it."""
    return message.model_dump(exclude_none=True)


def openai_run(client: OpenAI, keep: Callable[[Any], Any], messages: Messages) -> str:
    """Go on with a conversation until the model answers in words; `messages` grows."""
    while True:
        answer = client.chat.completions.create(model="gpt-5", messages=messages, temperature=0)
        message = answer.choices[0].message
        messages.append(keep(message))
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result {call.function.arguments}"})


def anthropic_run(client: Anthropic, keep: Callable[[Any], Any], messages: Messages) -> str:
    """As `openai_run`."""
    while True:
        answer = client.messages.create(model="claude-sonnet-4-6", max_tokens=100, messages=messages)
        messages.append({"role": "assistant", "content": [keep(block) for block in answer.content]})
        first = answer.content[0]
        if first.type != "tool_use":
            return first.text
        result = {"type": "tool_result", "tool_use_id": first.id, "content": f"result {first.input}"}
        messages.append({"role": "user", "content": [result]})


def start() -> Messages:
    return [{"role": "user", "content": "take fifty steps"}]


FORMS = {"live objects": live, "their JSON": as_json, "JSON without nulls": without_nulls}


def test_an_openai_agent_hits_every_turn_whatever_form_its_messages_have(openai: OpenAI, cache: Cache) -> None:
    said = openai_run(openai, live, start())
    assert said == f"done after {TURNS}"
    before = Model.calls
    for keep in FORMS.values():
        assert openai_run(openai, keep, start()) == said
    assert Model.calls == before
    stats = cache.stats()
    assert (stats.misses, stats.hits) == (TURNS + 1, 3 * (TURNS + 1))


def test_an_anthropic_agent_hits_every_turn_whatever_form_its_blocks_have(anthropic: Anthropic) -> None:
    said = anthropic_run(anthropic, live, start())
    assert said == f"done after {TURNS}"
    before = Model.calls
    for keep in FORMS.values():
        assert anthropic_run(anthropic, keep, start()) == said
    assert Model.calls == before


def test_an_agent_that_goes_on_from_a_checkpoint_hits_every_turn(openai: OpenAI, tmp_path: Path) -> None:
    messages = start()
    said = openai_run(openai, as_json, messages)
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(json.dumps(messages[: 1 + 2 * 30], sort_keys=True))
    before = Model.calls
    assert openai_run(openai, live, json.loads(checkpoint.read_text())) == said
    assert Model.calls == before


def test_one_word_changed_early_misses_from_there_on(openai: OpenAI) -> None:
    messages = start()
    openai_run(openai, as_json, messages)
    changed = copy.deepcopy(messages[: 1 + 2 * 30])
    changed[2]["content"] += "!"
    before = Model.calls
    openai_run(openai, as_json, changed)
    assert Model.calls - before == TURNS + 1 - 30
