"""LlamaIndex's LLM interface with a cache in it: chat, complete, stream, async and tools."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from agentcache_core import AsyncCache, Cache, Computed
from agentcache_core.errors import AgentCacheError, CacheClosed, KeyingError, ReplayMiss

try:
    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
        LLMMetadata,
    )
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.llms.function_calling import FunctionCallingLLM
    from llama_index.core.llms.llm import LLM, ToolSelection
    from llama_index.core.tools.types import BaseTool
except ImportError as error:
    raise ImportError("this adapter needs LlamaIndex: pip install 'agentcache[llama-index]'") from error

from agentcache_adapters.answers import raw_cost, raw_problem
from agentcache_adapters.credentials import hashed

_log = logging.getLogger("agentcache.llama_index")
R = TypeVar("R", ChatResponse, CompletionResponse)
# Settings that say how a component works, not what it answers.
_NOISE = frozenset(
    [
        "callback_manager", "embed_batch_size", "embeddings_cache", "max_retries", "num_workers", "rate_limiter",
        "reuse_client", "show_progress", "timeout", "default_headers", "http_client", "async_http_client",
    ]
)  # fmt: skip


def settings_of(component: Any) -> dict[str, Any]:
    """What a component's answers depend on: its class and its settings, secrets by keyed hash."""
    settings = {name: value for name, value in component.to_dict().items() if name not in _NOISE}
    return {"class": f"{type(component).__module__}.{type(component).__qualname__}", **hashed(settings)}


class CachedLLM(FunctionCallingLLM):
    """`llm`, answering repeated calls from `cache`: `Settings.llm = CachedLLM.over(llm, cache)`.

    Everything counts in the key: model and settings, messages, tools and parameters. Streams are stored when they have
    run to their end, and replayed chunk for chunk; answers that were cut short, filtered or refused are not stored.
    What comes from the cache has its provider's `raw` answer as plain JSON, and only on the last chunk of a stream.
    """

    _llm: LLM = PrivateAttr()
    _cache: Cache = PrivateAttr()
    _options: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def over(
        cls, llm: LLM, cache: Cache | AsyncCache, *, ttl: float | str | None = None, tags: Sequence[str] = ()
    ) -> CachedLLM:
        """Wrap `llm`. `ttl` and `tags` go to every entry."""
        made = cls(callback_manager=llm.callback_manager, system_prompt=llm.system_prompt)
        made._llm = llm
        made._cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        made._options = {"tags": tuple(tags)} | ({} if ttl is None else {"ttl": ttl})
        return made

    @classmethod
    def class_name(cls) -> str:
        return "agentcache_cached_llm"

    @property
    def metadata(self) -> LLMMetadata:
        return self._llm.metadata

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The wrapped model's settings: wrapping changes nothing about the answers."""
        return self._llm.to_dict(**kwargs)

    # Whole answers

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._whole(ChatResponse, self._chat_key(messages, kwargs), lambda: self._llm.chat(messages, **kwargs))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        keyed = self._prompt_key(prompt, {**kwargs, "formatted": formatted})
        return self._whole(CompletionResponse, keyed, lambda: self._llm.complete(prompt, formatted=formatted, **kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        keyed = self._chat_key(messages, kwargs)
        return await self._awhole(ChatResponse, keyed, lambda: self._llm.achat(messages, **kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        keyed = self._prompt_key(prompt, {**kwargs, "formatted": formatted})
        return await self._awhole(
            CompletionResponse, keyed, lambda: self._llm.acomplete(prompt, formatted=formatted, **kwargs)
        )

    def _whole(self, kind: type[R], keyed: dict[str, Any], compute: Callable[[], R]) -> R:
        if not self._keyable(keyed):
            return compute()
        own: list[R] = []

        def computed() -> Computed:
            own.append(compute())
            return _computed(own[0])

        try:
            value = self._cache.get_or_compute(keyed, computed, **self._options)
        except CacheClosed:
            return compute()
        return own[0] if own else _validated(kind, value)

    async def _awhole(self, kind: type[R], keyed: dict[str, Any], compute: Callable[[], Any]) -> R:
        if not self._keyable(keyed):
            answer: R = await compute()
            return answer

        own: list[R] = []

        async def computed() -> Computed:
            own.append(await compute())
            return _computed(own[0])

        try:
            value = await self._cache.aio.get_or_compute(keyed, computed, **self._options)
        except CacheClosed:
            late: R = await compute()
            return late
        return own[0] if own else _validated(kind, value)

    # Streams

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        keyed = self._chat_key(messages, kwargs) | {"stream": True}
        return self._streamed(ChatResponse, keyed, lambda: self._llm.stream_chat(messages, **kwargs))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        keyed = self._prompt_key(prompt, {**kwargs, "formatted": formatted}) | {"stream": True}
        return self._streamed(
            CompletionResponse, keyed, lambda: self._llm.stream_complete(prompt, formatted=formatted, **kwargs)
        )

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        keyed = self._chat_key(messages, kwargs) | {"stream": True}
        return self._astreamed(ChatResponse, keyed, lambda: self._llm.astream_chat(messages, **kwargs))

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        keyed = self._prompt_key(prompt, {**kwargs, "formatted": formatted}) | {"stream": True}
        return self._astreamed(
            CompletionResponse, keyed, lambda: self._llm.astream_complete(prompt, formatted=formatted, **kwargs)
        )

    def _streamed(self, kind: type[R], keyed: dict[str, Any], compute: Callable[[], Any]) -> Generator[R, None, None]:
        stored = self._found(lambda: self._cache.get(keyed, None))
        if stored is not None:
            yield from _unpacked(kind, stored)
            return
        chunks: list[R] = []
        for chunk in compute():
            chunks.append(chunk.model_copy(deep=True))
            yield chunk
        self._found(lambda: self._keep(keyed, chunks, self._cache))

    async def _astreamed(
        self, kind: type[R], keyed: dict[str, Any], compute: Callable[[], Any]
    ) -> AsyncGenerator[R, None]:
        try:
            stored = await self._cache.aio.get(keyed, None)
        except ReplayMiss:
            raise
        except AgentCacheError:
            stored = None
        if stored is not None:
            for chunk in _unpacked(kind, stored):
                yield chunk
            return
        chunks: list[R] = []
        async for chunk in await compute():
            chunks.append(chunk.model_copy(deep=True))
            yield chunk
        kept = self._found(lambda: self._keep(keyed, chunks, self._cache.aio))
        if kept is not None:
            try:
                await kept
            except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
                _log.warning("the answer could not be stored", exc_info=True)

    def _keep(self, keyed: dict[str, Any], chunks: list[R], cache: Any) -> Any:
        raw = _dumped(chunks[-1]).get("raw") if chunks else None
        problem = raw_problem(raw) if chunks else "the stream was empty"
        if problem:
            self._cache.events.tell("not_stored", kind="chat", reason=problem)
            return None
        return cache.set(keyed, _packed(chunks), cost=raw_cost(raw), **self._options)

    def _found(self, look: Callable[[], Any]) -> Any:
        try:
            return look()
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be used", exc_info=True)
            return None

    # Tools: the wrapped model knows how it wants them

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return self._calling()._prepare_chat_with_tools_compat(
            tools,
            user_msg=user_msg,
            chat_history=chat_history,
            verbose=verbose,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            **kwargs,
        )

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        return self._calling()._validate_chat_with_tools_response(response, tools, allow_parallel_tool_calls, **kwargs)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        return self._calling().get_tool_calls_from_response(response, error_on_no_tool_call, **kwargs)

    def _calling(self) -> FunctionCallingLLM:
        if not isinstance(self._llm, FunctionCallingLLM):
            raise NotImplementedError(f"{type(self._llm).__name__} does not call functions")
        return self._llm

    # Keys

    def _keyable(self, keyed: dict[str, Any]) -> bool:
        try:
            self._cache.key(keyed)
        except KeyingError as problem:
            self._cache.bypassed(f"the call has no key: {problem}", kind="chat")
            return False
        return True

    def _chat_key(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return self._key(kwargs) | {"messages": [keyed_message(message) for message in messages]}

    def _prompt_key(self, prompt: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return self._key(kwargs) | {"messages": [{"role": "user", "content": prompt}], "completion": True}

    def _key(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        settings = settings_of(self._llm)
        model = str(settings.get("model") or settings["class"])
        return {"provider": "llama_index", "model": model, "settings": settings, "parameters": hashed(kwargs)}


def keyed_message(message: ChatMessage) -> dict[str, Any]:
    """A message as it counts in a key; tool calls where ids are known to change from run to run."""
    dumped = message.model_dump(mode="json")
    blocks, calls = [], []
    for block in dumped["blocks"]:
        if block.get("block_type") == "tool_call":
            calls.append({"id": block.pop("tool_call_id", None), "function": block})
        else:
            blocks.append(block)
    texts = [block.get("text") for block in blocks]
    only_text = all(block.get("block_type") == "text" for block in blocks)
    further = dict(dumped["additional_kwargs"])
    keyed = {"role": dumped["role"], "content": "".join(map(str, texts)) if only_text else blocks}
    if "tool_call_id" in further:
        keyed["tool_call_id"] = further.pop("tool_call_id")
    calls = list(further.pop("tool_calls", None) or calls)
    return keyed | ({"tool_calls": calls} if calls else {}) | ({"additional_kwargs": further} if further else {})


def _validated(kind: type[R], value: Any) -> R:
    """A response from a stored value, or somebody else's that was not stored."""
    return value if isinstance(value, kind) else kind.model_validate(value)


def _dumped(response: ChatResponse | CompletionResponse) -> dict[str, Any]:
    """A response as plain JSON values; without the provider's own answer where that has no such form."""
    try:
        dumped: dict[str, Any] = response.model_dump(mode="json")
    except ValueError:
        dumped = response.model_dump(mode="json", exclude={"raw"}) | {"raw": None}
    return dumped


def _computed(response: ChatResponse | CompletionResponse) -> Computed:
    value = _dumped(response)
    problem = raw_problem(value["raw"])
    if problem:
        return Computed(response, store=False, reason=problem)
    return Computed(value, cost=raw_cost(value["raw"]))


def _packed(chunks: Sequence[ChatResponse | CompletionResponse]) -> list[dict[str, Any]]:
    """Chunks as stored: each holds all text so far, so only what a chunk adds is written down where that is enough."""
    packed: list[dict[str, Any]] = []
    previous: dict[str, Any] | None = None
    for index, chunk in enumerate(chunks):
        value = _dumped(chunk)
        if index < len(chunks) - 1:
            value["raw"] = None
        delta = value.get("delta")
        if previous is not None and isinstance(delta, str) and _grown(previous, delta) == value:
            packed.append({"delta": delta})
        else:
            packed.append({"whole": value})
        previous = value
    return packed


def _grown(value: dict[str, Any], delta: str) -> dict[str, Any] | None:
    """The chunk that follows `value` when nothing but its text grows by `delta`; None when it holds no single text."""
    if "text" in value:
        return value | {"text": value["text"] + delta, "delta": delta}
    blocks = value["message"]["blocks"]
    if len(blocks) != 1 or blocks[0].get("block_type") != "text":
        return None
    block = blocks[0] | {"text": blocks[0]["text"] + delta}
    return value | {"message": value["message"] | {"blocks": [block]}, "delta": delta}


def _unpacked(kind: type[R], packed: Sequence[Mapping[str, Any]]) -> Generator[R, None, None]:
    value: dict[str, Any] | None = None
    for stored in packed:
        value = stored["whole"] if "whole" in stored or value is None else _grown(value, stored["delta"])
        yield kind.model_validate(value)
