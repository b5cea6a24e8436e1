"""OpenAI Chat Completions, legacy completions and embeddings, as spoken by OpenAI and by servers compatible with it."""

from __future__ import annotations

from typing import Any

from agentcache_adapters.http.sse import Event
from agentcache_adapters.http.verdict import StreamTracker, Verdict, mapping, parsed, sequence, text
from agentcache_adapters.http.wire import ToolKinds, stated

_FINISHED = frozenset({"stop", "tool_calls", "function_call", "eos"})
_CALLER_RUN = ToolKinds(frozenset({"", "function", "custom"}))


def _finish_reason(reason: object) -> str:
    """Why a choice with this finish reason may not be stored, or an empty string."""
    if reason is None:
        return "a choice has no finish_reason"
    return "" if reason in _FINISHED else f"finish_reason is {reason}"


class OpenAIChat:
    """`POST …/chat/completions` and `POST …/completions`."""

    name = "openai.chat"
    provider = "openai"
    embeds = False

    def recognises(self, path: str, body: dict[str, Any]) -> bool:
        if path.endswith("/chat/completions"):
            return isinstance(body.get("messages"), list)
        return path.endswith("/completions") and "prompt" in body

    def bypass(self, body: dict[str, Any], *, provider_tools: bool) -> str:
        if body.get("store"):
            return "store asks the provider to keep the answer"
        for index, message in enumerate(sequence(body.get("messages"))):
            if mapping(mapping(message).get("audio")).get("id"):
                return f"messages[{index}] refers to audio kept by the provider"
        if provider_tools:
            return ""
        if "web_search_options" in body:
            return "the provider searches the web for this call"
        kind = _CALLER_RUN.provider_run(body.get("tools"))
        return f"the provider runs the tool {kind}" if kind else ""

    def judge(self, answer: dict[str, Any]) -> Verdict:
        model, usage = text(answer.get("model")), mapping(answer.get("usage"))
        choices = sequence(answer.get("choices"))
        if answer.get("error"):
            return Verdict("the answer holds an error", model, usage)
        if not choices:
            return Verdict("the answer has no choices", model, usage)
        for choice in map(mapping, choices):
            if mapping(choice.get("message")).get("refusal"):
                return Verdict("the model refused", model, usage)
            if reason := _finish_reason(choice.get("finish_reason")):
                return Verdict(reason, model, usage)
        return Verdict("", model, usage)

    def tracker(self) -> StreamTracker:
        return _ChatTracker()


class _ChatTracker:
    """Ends at `data: [DONE]`; every choice seen must have finished by then."""

    def __init__(self) -> None:
        self.terminal = False
        self._problem = ""
        self._model = ""
        self._usage: dict[str, Any] = {}
        self._choices: dict[object, object] = {}

    def feed(self, event: Event) -> None:
        if not event.data or self.terminal:
            return
        if event.data.strip() == "[DONE]":
            self.terminal = True
            return
        try:
            chunk = mapping(parsed(event.data))
        except ValueError:
            self._problem = "an event is not JSON"
            return
        if event.name == "error" or chunk.get("error"):
            self._problem = "the stream reported an error"
        self._model = text(chunk.get("model")) or self._model
        if chunk.get("usage"):
            self._usage = mapping(chunk["usage"])
        for choice in map(mapping, sequence(chunk.get("choices"))):
            index = choice.get("index")
            self._choices[index] = choice.get("finish_reason") or self._choices.get(index)
            if mapping(choice.get("delta")).get("refusal"):
                self._problem = "the model refused"

    def verdict(self) -> Verdict:
        reason = self._problem
        if not reason and not self.terminal:
            reason = "the stream ended before [DONE]"
        if not reason and not self._choices:
            reason = "the stream held no choices"
        if not reason:
            reason = next((bad for bad in map(_finish_reason, self._choices.values()) if bad), "")
        return Verdict(reason, self._model, self._usage)


class OpenAIEmbeddings:
    """`POST …/embeddings`."""

    name = "openai.embeddings"
    provider = "openai"
    embeds = True

    def recognises(self, path: str, body: dict[str, Any]) -> bool:
        return path.endswith("/embeddings") and "input" in body

    def bypass(self, body: dict[str, Any], *, provider_tools: bool) -> str:
        return f"{name} asks for server-side state" if (name := stated(body, ("store",))) else ""

    def judge(self, answer: dict[str, Any]) -> Verdict:
        model, usage = text(answer.get("model")), mapping(answer.get("usage"))
        vectors = sequence(answer.get("data"))
        if answer.get("error") or not vectors:
            return Verdict("the answer has no embeddings", model, usage)
        if not all(mapping(vector).get("embedding") for vector in vectors):
            return Verdict("an embedding is empty", model, usage)
        return Verdict("", model, usage)

    def tracker(self) -> StreamTracker:
        return NeverComplete("embeddings do not stream")


class NeverComplete:
    """A tracker for formats whose streams have no known end: nothing of theirs is stored."""

    terminal = False

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def feed(self, event: Event) -> None:
        """Nothing to learn from it."""

    def verdict(self) -> Verdict:
        return Verdict(self._reason)
