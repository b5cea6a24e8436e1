"""LangChain agents: model calls, and tools with declared effects, answered from the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentcache_core import AsyncCache, Cache, Computed
from agentcache_core.errors import CacheClosed, KeyingError
from agentcache_core.tools import Pure, Read

try:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
    from langchain_core.messages import ToolMessage
    from langchain_core.utils.function_calling import convert_to_openai_tool
except ImportError as error:
    raise ImportError("this adapter needs LangChain: pip install 'agentcache[langchain]'") from error
from pydantic import BaseModel

from agentcache_adapters.langchain_messages import (
    cost_of_messages,
    keyed_message,
    message_from,
    message_problem,
    message_value,
)

if TYPE_CHECKING:
    from langgraph.prebuilt.tool_node import ToolCallRequest
    from langgraph.types import Command

    from agentcache_core.tools import Tools

_TOOL_MESSAGE = "agentcache:tool-message"


class AgentCacheMiddleware(AgentMiddleware[Any, Any, Any]):
    """Answers an agent's repeated model calls from `cache`, and its tool calls as `tools` declares their effects.

    Every part of the call counts: model and settings, system prompt, messages, tools, tool choice, response format.
    Without `tools` (from `cache.tools(...)`) no tool call is cached. Answers that were cut short, filtered or refused
    are not stored, nor are responses that carry a graph command. Concurrent equal calls are made once. The `writes` of
    a tool that changes things see its `ToolMessage` as result.
    """

    def __init__(
        self,
        cache: Cache | AsyncCache,
        *,
        tools: Tools | None = None,
        ttl: float | str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._tools = tools
        self._options: dict[str, Any] = {"tags": tuple(tags)} | ({} if ttl is None else {"ttl": ttl})

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        """The model's answer, stored or computed."""
        keyed = self._keyed(request)
        if keyed is None:
            return handler(request)
        own: list[Any] = []

        def compute() -> Computed:
            own.append(handler(request))
            return _computed(own[0])

        try:
            answer = self._cache.get_or_compute(keyed, compute, **self._options)
        except CacheClosed:
            return handler(request)
        return own[0] if own else _response(answer, request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        """As `wrap_model_call`."""
        keyed = self._keyed(request)
        if keyed is None:
            return await handler(request)

        own: list[Any] = []

        async def compute() -> Computed:
            own.append(await handler(request))
            return _computed(own[0])

        try:
            answer = await self._cache.aio.get_or_compute(keyed, compute, **self._options)
        except CacheClosed:
            return await handler(request)
        return own[0] if own else _response(answer, request)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """The tool's answer: from the cache where its declared effect allows, from the tool otherwise."""
        if self._tools is None:
            return handler(request)
        call = request.tool_call
        stores = isinstance(self._tools.effect_of(call["name"]), Pure | Read)
        answer = self._tools.call(
            call["name"], call["args"], lambda: _tool_value(handler(request)) if stores else handler(request)
        )
        return _tool_answer(answer, call["id"])

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """As `wrap_tool_call`."""
        if self._tools is None:
            return await handler(request)
        call = request.tool_call

        stores = isinstance(self._tools.effect_of(call["name"]), Pure | Read)

        async def execute() -> Any:
            answer = await handler(request)
            return _tool_value(answer) if stores else answer

        return _tool_answer(await self._tools.call(call["name"], call["args"], execute), call["id"])

    def _keyed(self, request: ModelRequest[Any]) -> dict[str, Any] | None:
        """The request as the cache keys it, None where it has no canonical form."""
        try:
            keyed = keyed_model_request(request)
            self._cache.key(keyed)
        except (KeyingError, TypeError, ValueError) as problem:
            self._cache.bypassed(f"the request has no key: {problem}", kind="chat")
            return None
        return keyed


def keyed_model_request(request: ModelRequest[Any]) -> dict[str, Any]:
    """Everything a model call depends on, as one mapping. `TypeError` for a response format of unknown kind."""
    messages = [request.system_message] if request.system_message is not None else []
    keyed: dict[str, Any] = {
        "provider": "langchain",
        "model": request.model._get_llm_string(stop=None, **request.model_settings),
        "messages": [keyed_message(message.model_dump()) for message in [*messages, *request.messages]],
        "tools": [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
    }
    if request.response_format is not None:
        strategy = request.response_format
        keyed["response_format"] = [type(strategy).__name__, _schema_of(strategy)]
    return keyed


def _schema_of(strategy: Any) -> Any:
    schema = strategy.schema
    if isinstance(schema, dict):
        return schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    raise TypeError(f"a response format of {schema!r} has no stable description")


def _computed(response: Any) -> Computed:
    """A handler's response as a value of plain types, or as it is where it must not or cannot be stored."""
    if type(response) is not ModelResponse:
        return Computed(response, store=False, reason=f"a {type(response).__name__} is not stored")
    structured = response.structured_response
    if isinstance(structured, BaseModel):
        structured = structured.model_dump()
    elif structured is not None and not isinstance(structured, dict):
        return Computed(response, store=False, reason="its structured response has no plain form")
    problem = next(filter(None, map(message_problem, response.result)), "")
    if problem:
        return Computed(response, store=False, reason=problem)
    value = {"messages": [message_value(message) for message in response.result], "structured": structured}
    return Computed(value, cost=cost_of_messages(response.result))


def _response(answer: Any, request: ModelRequest[Any]) -> Any:
    """A fresh response from a value; what was not stored comes back as the handler made it."""
    if not isinstance(answer, dict):
        return answer
    structured = answer["structured"]
    schema = getattr(request.response_format, "schema", None)
    if structured is not None and isinstance(schema, type) and issubclass(schema, BaseModel):
        structured = schema.model_validate(structured)
    return ModelResponse([message_from(value) for value in answer["messages"]], structured)


def _tool_value(answer: Any) -> Any:
    """A tool's message as a value of plain types; errors and graph commands as they are, which are not stored."""
    if type(answer) is not ToolMessage or answer.status == "error":
        return Computed(answer, store=False, reason="the tool failed, or answered with a command")
    return {_TOOL_MESSAGE: message_value(answer)}


def _tool_answer(answer: Any, call_id: str | None) -> ToolMessage | Command[Any]:
    """The message for this call: a stored answer was given under another call's id."""
    if isinstance(answer, dict) and _TOOL_MESSAGE in answer:
        answer = message_from(answer[_TOOL_MESSAGE])
    if isinstance(answer, ToolMessage) and answer.tool_call_id != call_id:
        return answer.model_copy(update={"tool_call_id": call_id})
    told: ToolMessage | Command[Any] = answer
    return told
