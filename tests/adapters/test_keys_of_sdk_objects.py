"""An agent's turns key the same from live SDK objects, from their JSON, and restored from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentcache_core.keys import KeyBuilder, diff

openai_chat = pytest.importorskip("openai.types.chat")
openai_responses = pytest.importorskip("openai.types.responses")
anthropic_types = pytest.importorskip("anthropic.types")

FORMS: dict[str, Callable[[Any], Any]] = {
    "live": lambda message: message,
    "dumped": lambda message: message.model_dump(),
    "dumped without what was not set": lambda message: message.model_dump(exclude_unset=True),
    "dumped without nulls": lambda message: message.model_dump(exclude_none=True),
    "JSON": lambda message: json.loads(message.model_dump_json()),
    "JSON as sent": lambda message: message.to_dict(mode="json"),
    "checkpoint": lambda message: type(message).model_validate(json.loads(message.model_dump_json())),
}


def completion(id_: str, call_id: str) -> Any:
    """A chat completion as it comes off the wire, with ids of its own."""
    return openai_chat.ChatCompletion.model_validate(
        {
            "id": id_,
            "object": "chat.completion",
            "created": hash(id_) % 10_000,
            "model": "gpt-4o-2024-08-06",
            "system_fingerprint": f"fp_{id_}",
            "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "logprobs": None,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "refusal": None,
                        "annotations": [],
                        "tool_calls": [
                            {
                                "id": call_id,
                                "type": "function",
                                "function": {"name": "find", "arguments": '{"q": null}'},
                            }
                        ],
                    },
                }
            ],
        }
    )


def chat_request(message: Any, call_id: str) -> dict[str, Any]:
    result = {"role": "tool", "tool_call_id": call_id, "content": "found"}
    messages = [{"role": "user", "content": "find it"}, message, result]
    return {"provider": "openai", "model": "gpt-4o", "messages": messages}


def same_key(requests: dict[str, Any]) -> None:
    builder = KeyBuilder()
    first = next(iter(requests.values()))
    for name, request in requests.items():
        counted = [str(part) for part in diff(first, request) if part.change != "ignored"]
        assert builder.key(request) == builder.key(first), (name, counted)
        assert counted == []


def test_openai_chat_messages_key_the_same_in_every_form_and_with_fresh_ids() -> None:
    requests = {
        f"{name} of run {run}": chat_request(
            form(completion(f"cmpl-{run}", f"call_{run}").choices[0].message), f"call_{run}"
        )
        for name, form in FORMS.items()
        for run in (1, 2)
    }
    by_hand = {
        "role": "assistant",
        "tool_calls": [{"id": "x", "type": "function", "function": {"name": "find", "arguments": '{"q": null}'}}],
    }
    same_key({**requests, "by hand": chat_request(by_hand, "x")})


def test_what_an_openai_message_says_still_counts() -> None:
    builder = KeyBuilder()
    message = completion("1", "call_1").choices[0].message
    key = builder.key(chat_request(message, "call_1"))
    for change in (
        {"content": "text"},
        {"refusal": "no"},
        {"tool_calls": None},
        {
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
            ]
        },
    ):
        changed = type(message).model_validate({**message.model_dump(), **change})
        for form in FORMS.values():
            assert builder.key(chat_request(form(changed), "call_1")) != key, change


def anthropic_message(id_: str, call_id: str) -> Any:
    return anthropic_types.Message.model_validate(
        {
            "id": id_,
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4",
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 5},
            "content": [
                {"type": "text", "text": "Let me look.", "citations": None},
                {"type": "tool_use", "id": call_id, "name": "find", "input": {"q": None, "id": "7"}},
            ],
        }
    )


def claude_request(content: Any, call_id: str) -> dict[str, Any]:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "found"}]}
    messages = [{"role": "user", "content": "find it"}, {"role": "assistant", "content": content}, result]
    return {"provider": "anthropic", "model": "claude-opus-4", "max_tokens": 100, "messages": messages}


def test_anthropic_content_blocks_key_the_same_in_every_form_and_with_fresh_ids() -> None:
    same_key(
        {
            f"{name} of run {run}": claude_request(
                [form(block) for block in anthropic_message(f"msg_{run}", f"toolu_{run}").content], f"toolu_{run}"
            )
            for name, form in FORMS.items()
            if name != "dumped without nulls"  # that drops nulls inside a tool's input as well, where they are meaning
            for run in (1, 2)
        }
    )


def test_a_null_in_a_tool_s_input_counts() -> None:
    block = anthropic_message("m", "t").content[1]
    request = claude_request([block], "t")
    without = claude_request([block.model_copy(update={"input": {"id": "7"}})], "t")
    assert KeyBuilder().key(request) != KeyBuilder().key(without)


def response(id_: str) -> Any:
    return openai_responses.Response.model_validate(
        {
            "id": f"resp_{id_}",
            "object": "response",
            "created_at": 1,
            "model": "gpt-5",
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "output": [
                {
                    "type": "function_call",
                    "id": f"fc_{id_}",
                    "call_id": f"call_{id_}",
                    "name": "find",
                    "arguments": "{}",
                    "status": "completed",
                },
                {
                    "type": "message",
                    "id": f"msg_{id_}",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}],
                },
            ],
        }
    )


def test_openai_responses_items_key_the_same_in_every_form_and_with_fresh_ids() -> None:
    def request(form: Callable[[Any], Any], run: str) -> dict[str, Any]:
        result = {"type": "function_call_output", "call_id": f"call_{run}", "output": "found"}
        items = [{"role": "user", "content": "find it"}, *map(form, response(run).output), result]
        return {"provider": "openai", "model": "gpt-5", "input": items}

    same_key({f"{name} of run {run}": request(form, run) for name, form in FORMS.items() for run in ("1", "2")})
