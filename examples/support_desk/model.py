"""What the stand-in model says: a few rules in place of a network, so that the examples need neither key nor internet.

The rules look only at the conversation they are sent, as a real model does.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

Message = dict[str, Any]


def next_message(messages: list[Message]) -> Message:
    """The assistant's next message: a tool call while something is still to be found out, then an answer in words."""
    task = last_user_text(messages)
    email, order = re.search(r"[\w.]+@[\w.]+\w", task), re.search(r"A-\d{4}", task)
    if not any(m["role"] == "tool" or m.get("tool_calls") for m in messages) and not (email and order):
        return {"role": "assistant", "content": _chat_answer(messages)}
    if not (email and order):
        return {"role": "assistant", "content": "Which customer and which order is this about?"}
    results = [json.loads(m["content"]) for m in messages if m["role"] == "tool"]
    return _return_desk_step(email[0], order[0], _reason(task), results)


def _return_desk_step(email: str, order: str, reason: str, results: list[Any]) -> Message:
    steps: list[tuple[str, dict[str, Any]]] = [
        ("find_customer", {"email": email}),
        ("find_order", {"order_id": order}),
        ("search_policy", {"topic": "returns"}),
    ]
    if len(results) < len(steps):
        return _tool_call(*steps[len(results)], turn=len(results))
    customer, found, _policy, *rest = results
    if found["customer_id"] != customer["customer_id"]:
        return {
            "role": "assistant",
            "content": f"Order {order} belongs to somebody else; I cannot open a return for it.",
        }
    if found["days_ago"] > 30:
        return {"role": "assistant", "content": f"Order {order} is older than 30 days and can no longer be returned."}
    pays = customer["tier"] != "gold"
    if pays and not rest:
        return _tool_call("postage", {"grams": found["grams"]}, turn=3)
    if len(rest) == int(pays):
        return _tool_call("open_return", {"order_id": order, "reason": reason}, turn=3 + int(pays))
    charge = f"The postage of {rest[0]['euros']:.2f} euros is theirs to pay." if pays else "It is free of charge."
    label = rest[-1]["label"]
    return {"role": "assistant", "content": f"{customer['name']}'s return of {order} is open, label {label}. {charge}"}


def _tool_call(name: str, arguments: dict[str, Any], *, turn: int) -> Message:
    call = {"id": f"call_{turn}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _reason(task: str) -> str:
    found = re.search(r"because (.+?)[.!]", task)
    return found[1] if found else "no reason given"


def last_user_text(messages: list[Message]) -> str:
    """The text of the newest user message, "" when there is none."""
    for message in reversed(messages):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
    return ""


def _chat_answer(messages: list[Message]) -> str:
    question = last_user_text(messages)
    context = re.search(r"Context:\n(.+?)\n\nQuestion: (.+)", question, re.DOTALL)
    if context:
        sentences = re.split(r"(?<=[.!?])\s+", context[1])
        return max(sentences, key=lambda sentence: len(_words(sentence) & _words(context[2])))
    turn = sum(1 for m in messages if m["role"] == "user")
    return f"You asked, as your question number {turn}: {question} A stand-in has no opinion on that, but it was quick."


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


def embedding(text: str, *, dimensions: int = 64) -> list[float]:
    """A unit vector from the words of `text`, hashed into `dimensions` buckets: near texts share words."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") % dimensions] += 1.0
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]
