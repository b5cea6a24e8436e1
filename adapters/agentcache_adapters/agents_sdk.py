"""The OpenAI Agents SDK: a model, or a whole provider of models, with a cache in front."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import TypeAdapter

from agentcache_core import AsyncCache, Cache, Computed
from agentcache_core.errors import CacheClosed, KeyingError, ReplayMiss
from agentcache_core.pricing import cost_of

try:
    from agents import FunctionTool, Handoff, ModelResponse, ModelSettings, ModelTracing, Tool, Usage
    from agents.agent_output import AgentOutputSchemaBase
    from agents.items import TResponseInputItem, TResponseOutputItem, TResponseStreamEvent
    from agents.models.interface import Model, ModelProvider
    from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
    from openai.types.responses import Response, ResponseCompletedEvent
except ImportError as error:
    raise ImportError("this adapter needs the OpenAI Agents SDK: pip install 'agentcache[agents-sdk]'") from error

from agentcache_adapters.answers import provider_of
from agentcache_adapters.credentials import hashed
from agentcache_adapters.http.openai_responses import OpenAIResponses

_log = logging.getLogger("agentcache.agents_sdk")
_EVENT: TypeAdapter[Any] = TypeAdapter(TResponseStreamEvent)
_ITEM: TypeAdapter[Any] = TypeAdapter(TResponseOutputItem)
_WIRE = OpenAIResponses()


class CachedModel(Model):
    """`model`, answering repeated turns from `cache`: `Agent(model=CachedModel(model, cache))`.

    Everything the model is given counts in the key: instructions, input, settings, tools, handoffs, output schema and
    prompt, and the model's own name. Turns that use state kept by the provider (`previous_response_id`, a conversation,
    a prompt without a version, tools the provider runs) always go to the model. Streams are stored after
    `response.completed` and replayed event for event.
    """

    def __init__(
        self,
        model: Model,
        cache: Cache | AsyncCache,
        *,
        name: str = "",
        ttl: float | str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._cache: AsyncCache = cache if isinstance(cache, AsyncCache) else cache.aio
        self._name = name or str(getattr(model, "model", "") or "")
        self._options: dict[str, Any] = {"tags": tuple(tags)} | ({} if ttl is None else {"ttl": ttl})

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        **state: Any,
    ) -> ModelResponse:
        """The model's answer, stored or computed; concurrent equal turns are asked once."""
        asked = (system_instructions, input, model_settings, tools, output_schema, handoffs)
        keyed = self._keyed(*asked, state)
        if keyed is None:
            return await self._model.get_response(*asked, tracing, **state)
        own: list[ModelResponse] = []

        async def compute() -> Computed:
            own.append(await self._model.get_response(*asked, tracing, **state))
            return self._computed(own[0])

        try:
            value = await self._cache.get_or_compute(keyed, compute, **self._options)
        except CacheClosed:
            return await self._model.get_response(*asked, tracing, **state)
        return own[0] if own else _response(value)

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],
        model_settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        tracing: ModelTracing,
        **state: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        """The events of the model's answer, as they come or as they came."""
        asked = (system_instructions, input, model_settings, tools, output_schema, handoffs)
        keyed = self._keyed(*asked, state)
        stored = None if keyed is None else await self._events(keyed | {"stream": True})
        if stored is not None:
            for event in stored:
                yield event
            return
        events: list[Any] = []
        async for event in self._model.stream_response(*asked, tracing, **state):
            if keyed is not None:
                events.append(event.model_dump(mode="json", exclude_unset=True))
                if isinstance(event, ResponseCompletedEvent):
                    # Stored before it is handed on: who has seen the last event need not come back for more.
                    await self._store(keyed | {"stream": True}, events, event.response)
            yield event

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)

    async def close(self) -> None:
        """Release what the model holds; the cache stays open."""
        await self._model.close()

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """What the model advises."""
        return self._model.get_retry_advice(request)

    async def _events(self, keyed: dict[str, Any]) -> list[Any] | None:
        try:
            stored = await self._cache.get(keyed, None)
            return None if stored is None else [_EVENT.validate_python(event) for event in stored]
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None

    async def _store(self, keyed: dict[str, Any], events: list[Any], response: Response) -> None:
        verdict = _WIRE.judge(response.model_dump(mode="json"))
        if not verdict.storable:
            self._cache.events.tell("not_stored", kind="chat", reason=verdict.reason)
            return
        cost = cost_of(provider_of(verdict.model), verdict.model, verdict.usage)
        try:
            await self._cache.set(keyed, events, cost=cost, **self._options)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the answer could not be stored", exc_info=True)

    def _computed(self, response: ModelResponse) -> Computed:
        output = [item.model_dump(mode="json", exclude_unset=True) for item in response.output]
        problem = _problem(output)
        if problem:
            return Computed(response, store=False, reason=problem)
        usage = TypeAdapter(Usage).dump_python(response.usage, mode="json")
        value = {
            "output": output,
            "usage": usage,
            "response_id": response.response_id,
            "request_id": response.request_id,
            "raw_usage": response.raw_usage,
        }
        return Computed(value, cost=cost_of(provider_of(self._name), self._name, response.usage))

    def _keyed(
        self,
        instructions: str | None,
        input: str | list[TResponseInputItem],
        settings: ModelSettings,
        tools: list[Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[Handoff[Any, Any]],
        state: dict[str, Any],
    ) -> dict[str, Any] | None:
        """The turn as the cache keys it, None where it must go to the model."""
        try:
            plain = hashed(settings.to_json_dict())
            items = [{"role": "user", "content": input}] if isinstance(input, str) else list(input)
            keyed: dict[str, Any] = {
                "provider": "openai-agents",
                "model": self._name or type(self._model).__qualname__,
                "account": _account(self._model),
                "class": f"{type(self._model).__module__}.{type(self._model).__qualname__}",
                "instructions": instructions,
                "input": json.loads(json.dumps(items)),
                "settings": plain,
                "tools": [_tool(tool) for tool in tools],
                "handoffs": [[h.tool_name, h.tool_description, h.input_json_schema] for h in handoffs],
                "output_schema": None if output_schema is None else _schema(output_schema),
                "prompt": state.get("prompt"),
            }
            reason = _WIRE.bypass({**plain, **_state(state), "input": keyed["input"]}, provider_tools=True)
            if not reason:
                self._cache.key(keyed)
        except (KeyingError, TypeError, ValueError) as problem:
            reason = f"the turn has no key: {problem}"
        if reason:
            self._cache.bypassed(reason, kind="chat")
            return None
        return keyed


def _account(model: Model) -> dict[str, Any]:
    """Where the model's client asks and as whom, the key by its hash."""
    client = getattr(model, "_client", None)
    fields = {"base_url": str(getattr(client, "base_url", "")), "api_key": getattr(client, "api_key", "")}
    return hashed(fields)


def _state(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "previous_response_id": state.get("previous_response_id"),
        "conversation": state.get("conversation_id"),
        "prompt": state.get("prompt"),
    }


def _tool(tool: Tool) -> list[Any]:
    if not isinstance(tool, FunctionTool):
        raise TypeError(f"the provider runs the tool {getattr(tool, 'name', type(tool).__name__)}")
    return [tool.name, tool.description, tool.params_json_schema, tool.strict_json_schema]


def _schema(schema: AgentOutputSchemaBase) -> list[Any]:
    text = schema.is_plain_text()
    return [schema.name(), schema.is_strict_json_schema(), None if text else schema.json_schema()]


def _problem(output: list[dict[str, Any]]) -> str:
    return _WIRE.judge({"status": "completed", "output": output}).reason


def _response(value: Any) -> ModelResponse:
    """A fresh response from a stored value; somebody else's that was not stored comes back as it is."""
    if isinstance(value, ModelResponse):
        return value
    output = [_ITEM.validate_python(item) for item in value["output"]]
    usage = TypeAdapter(Usage).validate_python(value["usage"])
    return ModelResponse(output, usage, value["response_id"], value["request_id"], value["raw_usage"])


class CachedProvider(ModelProvider):
    """`provider`, whose every model has the cache in front: `RunConfig(model_provider=CachedProvider(…))`."""

    def __init__(self, provider: ModelProvider, cache: Cache | AsyncCache, **options: Any) -> None:
        self._provider, self._cache, self._options = provider, cache, options

    def get_model(self, model_name: str | None) -> Model:
        """The provider's model of that name, with the cache in front."""
        return CachedModel(self._provider.get_model(model_name), self._cache, **self._options)

    async def aclose(self) -> None:
        """Release what the provider holds; the cache stays open."""
        await self._provider.aclose()


__all__ = ["CachedModel", "CachedProvider"]
