"""Anthropic Messages."""

from __future__ import annotations

from typing import Any

from agentcache_adapters.http.sse import Event
from agentcache_adapters.http.verdict import StreamTracker, Verdict, mapping, parsed, sequence, text
from agentcache_adapters.http.wire import ToolKinds, stated

_FINISHED = frozenset({"end_turn", "tool_use", "stop_sequence"})
_CALLER_RUN = ToolKinds(frozenset({"", "custom"}), ("bash_", "text_editor_", "computer_", "memory_"))


def _stop_reason(reason: object) -> str:
    if reason is None:
        return "the answer has no stop_reason"
    return "" if reason in _FINISHED else f"stop_reason is {reason}"


class AnthropicMessages:
    """`POST …/messages`, also through Bedrock and Vertex look-alikes that keep the path."""

    name = "anthropic.messages"
    provider = "anthropic"
    embeds = False

    def recognises(self, path: str, body: dict[str, Any]) -> bool:
        return path.endswith("/messages") and isinstance(body.get("messages"), list) and "max_tokens" in body

    def bypass(self, body: dict[str, Any], *, provider_tools: bool) -> str:
        if name := stated(body, ("container", "mcp_servers")):
            return f"{name} uses state kept by the provider"
        if provider_tools:
            return ""
        kind = _CALLER_RUN.provider_run(body.get("tools"))
        return f"the provider runs the tool {kind}" if kind else ""

    def judge(self, answer: dict[str, Any]) -> Verdict:
        reason = _stop_reason(answer.get("stop_reason"))
        if answer.get("type") != "message":
            reason = "the answer is not a message"
        elif not reason and not sequence(answer.get("content")):
            reason = "the answer has no content"
        return Verdict(reason, text(answer.get("model")), mapping(answer.get("usage")))

    def tracker(self) -> StreamTracker:
        return _MessagesTracker()


class _MessagesTracker:
    """Ends at `message_stop`, after a `message_delta` that gave a good stop reason."""

    def __init__(self) -> None:
        self.terminal = False
        self._problem = ""
        self._stop: object = None
        self._model = ""
        self._usage: dict[str, Any] = {}

    def feed(self, event: Event) -> None:
        if not event.data or self.terminal:
            return
        try:
            body = mapping(parsed(event.data))
        except ValueError:
            self._problem = "an event is not JSON"
            return
        match text(body.get("type")) or event.name:
            case "message_start":
                message = mapping(body.get("message"))
                self._model = text(message.get("model"))
                self._usage.update(mapping(message.get("usage")))
            case "message_delta":
                self._stop = mapping(body.get("delta")).get("stop_reason") or self._stop
                # The counts of a delta are cumulative; null ones say nothing new.
                self._usage.update({k: v for k, v in mapping(body.get("usage")).items() if v is not None})
            case "message_stop":
                self.terminal = True
            case "error":
                self._problem = "the stream reported an error"

    def verdict(self) -> Verdict:
        reason = self._problem or ("" if self.terminal else "the stream ended before message_stop")
        return Verdict(reason or _stop_reason(self._stop), self._model, self._usage)
