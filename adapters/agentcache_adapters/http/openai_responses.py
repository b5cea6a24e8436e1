"""OpenAI Responses."""

from __future__ import annotations

from typing import Any

from agentcache_adapters.http.sse import Event
from agentcache_adapters.http.verdict import StreamTracker, Verdict, mapping, parsed, sequence, text
from agentcache_adapters.http.wire import ToolKinds, stated

_CALLER_RUN = ToolKinds(
    frozenset({"", "function", "custom", "namespace", "local_shell", "apply_patch", "computer"}), ("computer_use",)
)
_ENDS = {
    "response.completed": "",
    "response.incomplete": "the response is incomplete",
    "response.failed": "the response failed",
    "response.cancelled": "the response was cancelled",
    "error": "the stream reported an error",
}


class OpenAIResponses:
    """`POST …/responses`."""

    name = "openai.responses"
    provider = "openai"
    embeds = False

    def recognises(self, path: str, body: dict[str, Any]) -> bool:
        return path.endswith("/responses") and ("input" in body or "prompt" in body or "previous_response_id" in body)

    def bypass(self, body: dict[str, Any], *, provider_tools: bool) -> str:
        if name := stated(body, ("previous_response_id", "conversation", "background", "store")):
            return f"{name} uses state kept by the provider"
        prompt = mapping(body.get("prompt"))
        if prompt and not prompt.get("version"):
            return "prompt names a template without a version"
        for index, item in enumerate(sequence(body.get("input"))):
            if mapping(item).get("type") == "item_reference":
                return f"input[{index}] refers to an item kept by the provider"
        if provider_tools:
            return ""
        kind = _CALLER_RUN.provider_run(body.get("tools"))
        return f"the provider runs the tool {kind}" if kind else ""

    def judge(self, answer: dict[str, Any]) -> Verdict:
        return Verdict(_unfit(answer), text(answer.get("model")), mapping(answer.get("usage")))

    def tracker(self) -> StreamTracker:
        return _ResponsesTracker(self)


def _unfit(answer: dict[str, Any]) -> str:
    if answer.get("error"):
        return "the answer holds an error"
    if answer.get("status") != "completed":
        return f"status is {answer.get('status')}"
    output = [mapping(item) for item in sequence(answer.get("output"))]
    if not output:
        return "the answer has no output"
    for item in output:
        if text(item.get("status")) in ("incomplete", "in_progress", "failed"):
            return f"an output item is {item['status']}"
        if any(mapping(part).get("type") == "refusal" for part in sequence(item.get("content"))):
            return "the model refused"
    return ""


class _ResponsesTracker:
    """Ends at `response.completed`, whose response object decides; any other end is not stored."""

    def __init__(self, wire: OpenAIResponses) -> None:
        self._wire = wire
        self._verdict = Verdict("the stream ended before response.completed")
        self.terminal = False

    def feed(self, event: Event) -> None:
        if not event.data or self.terminal:
            return
        try:
            body = mapping(parsed(event.data))
        except ValueError:
            # `[DONE]` of a compatible server carries nothing; any other broken event spoils the stream.
            if event.data.strip() != "[DONE]":
                self._verdict, self.terminal = Verdict("an event is not JSON"), True
            return
        kind = text(body.get("type")) or event.name
        if kind not in _ENDS:
            return
        self.terminal = True
        verdict = self._wire.judge(mapping(body.get("response")))
        self._verdict = Verdict(_ENDS[kind] or verdict.reason, verdict.model, verdict.usage)

    def verdict(self) -> Verdict:
        return self._verdict
