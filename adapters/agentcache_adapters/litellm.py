"""LiteLLM: its cache with our key and any `Cache` as storage.

`litellm.cache = AgentCacheLiteLLM(cache)`, and every cached call of LiteLLM goes through it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.errors import KeyingError
from agentcache_core.pricing import cost_of

try:
    from litellm.caching.base_cache import BaseCache
    from litellm.caching.caching import Cache as LiteLLMCache
except ImportError as error:
    raise ImportError("this adapter needs LiteLLM: pip install 'agentcache[litellm]'") from error

from agentcache_adapters.credentials import hashed
from agentcache_adapters.http.openai_chat import OpenAIChat, OpenAIEmbeddings
from agentcache_adapters.http.openai_responses import OpenAIResponses
from agentcache_adapters.http.verdict import Verdict, mapping

_WIRES = (OpenAIChat(), OpenAIResponses())
# LiteLLM's own plumbing: ids, loggers, clients, retries, budgets. Everything else counts.
_PLUMBING = frozenset(
    [
        "acompletion", "aembedding", "aresponses", "atext_completion", "_aresponses", "budget_duration", "cache",
        "cache_key", "caching", "client", "complete_response", "cooldown_time", "fallbacks",
        "context_window_fallback_dict", "id", "litellm_call_id", "litellm_logging_obj", "litellm_metadata",
        "litellm_params", "litellm_request_debug",
        "litellm_session_id", "litellm_trace_id", "logger_fn", "max_budget", "max_fallbacks", "max_parallel_requests",
        "max_retries", "metadata", "no-log", "num_retries", "order", "parent_otel_span", "preset_cache_key",
        "proxy_server_request", "request_timeout", "retry_policy", "retry_strategy", "rpm", "secret_fields", "self",
        "shared_session", "stream_timeout", "tags", "timeout", "tpm", "ttl", "turn_off_message_logging", "user",
        "verbose", "weight",
    ]
)  # fmt: skip


class AgentCacheLiteLLM(LiteLLMCache):
    """LiteLLM's cache object over any `Cache`.

    The key holds every argument of the call but LiteLLM's own plumbing, and conversations of any length; credentials
    count by keyed hash. Calls that use state kept by the provider are not cached, nor are answers that were cut short,
    filtered or refused. `options` are those of LiteLLM's `Cache`: mode, ttl, namespace, supported_call_types.
    """

    def __init__(self, cache: Cache | AsyncCache, *, secret: bytes = b"", **options: Any) -> None:
        super().__init__(type="local", **options)  # type: ignore[arg-type]  # LiteLLM compares it with a text
        self._keys: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._secret = secret
        self.cache = AgentCacheBackend(cache)

    def should_use_cache(self, **kwargs: Any) -> bool:
        """Whether this call may be cached: LiteLLM's own rules, and ours for state kept by the provider."""
        if super().should_use_cache(**kwargs) is not True:  # type: ignore[no-untyped-call]  # as LiteLLM has it
            return False
        reason = self._bypass(kwargs)
        if reason:
            self._keys.bypassed(reason, kind="chat")
        return not reason

    def get_cache_key(self, **kwargs: Any) -> str:
        """Our key of the call, in hex, behind LiteLLM's namespace where there is one."""
        preset = self._get_preset_cache_key_from_kwargs(**kwargs)
        if preset is not None:
            return preset
        key = self._add_namespace_to_cache_key(self._keys.key(self._request(kwargs)).digest.hex(), **kwargs)
        self._set_preset_cache_key_in_kwargs(preset_cache_key=key, **kwargs)
        return key

    def _request(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        counted = {name: value for name, value in kwargs.items() if name not in _PLUMBING and value is not None}
        return {**hashed(counted, secret=self._secret), "provider": "litellm"}

    def _bypass(self, kwargs: Mapping[str, Any]) -> str:
        wire = _WIRES[0] if "messages" in kwargs else _WIRES[1]
        if "messages" in kwargs or "previous_response_id" in kwargs or "input" in kwargs:
            reason = wire.bypass(dict(kwargs), provider_tools=False)
            if reason:
                return reason
        try:
            self._keys.key(self._request(kwargs))
        except KeyingError as problem:
            return f"the call has no key: {problem}"
        return ""


class AgentCacheBackend(BaseCache):
    """Storage for LiteLLM's cache in any `Cache`. LiteLLM itself catches what goes wrong here."""

    def __init__(self, cache: Cache | AsyncCache, *, default_ttl: int | None = None) -> None:
        super().__init__(default_ttl=default_ttl)  # type: ignore[arg-type]  # None means for ever
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache

    def get_cache(self, key: str, **kwargs: Any) -> Any:
        """The stored value, None on a miss."""
        value = self._cache.get(_plain(key))
        return None if value is MISSING else value

    async def async_get_cache(self, key: str, **kwargs: Any) -> Any:
        """As `get_cache`."""
        value = await self._cache.aio.get(_plain(key))
        return None if value is MISSING else value

    def set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """Store a value whose answer ended well."""
        verdict = _judge(value)
        if self._storable(verdict):
            self._cache.set(_plain(key), value, **self._options(verdict, kwargs))

    async def async_set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        """As `set_cache`."""
        verdict = _judge(value)
        if self._storable(verdict):
            await self._cache.aio.set(_plain(key), value, **self._options(verdict, kwargs))

    async def async_set_cache_pipeline(self, cache_list: list[tuple[str, Any]], **kwargs: Any) -> None:
        """Store several (key, value) pairs."""
        for key, value in cache_list:
            await self.async_set_cache(key, value, **kwargs)

    async def batch_cache_write(self, key: str, value: Any, **kwargs: Any) -> None:
        """As `async_set_cache`; batching is the engine's concern."""
        await self.async_set_cache(key, value, **kwargs)

    async def disconnect(self) -> None:
        """Nothing: the cache belongs to whoever made it."""

    async def test_connection(self) -> dict[str, Any]:
        """Whether a value can be written and read back."""
        try:
            await self._cache.aio.set("litellm:ping", True, ttl=60)
            alive = await self._cache.aio.get("litellm:ping") is True
        except Exception as problem:  # noqa: BLE001 - the answer says what went wrong
            return {"status": "failed", "message": "the cache is not usable", "error": str(problem)}
        return {
            "status": "success" if alive else "failed",
            "message": "written and read back" if alive else "no answer",
        }

    def _storable(self, verdict: Verdict) -> bool:
        if not verdict.storable:
            self._cache.events.tell("not_stored", kind="chat", reason=verdict.reason)
        return verdict.storable

    def _options(self, verdict: Verdict, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        provider, _, model = str(kwargs.get("model") or "").rpartition("/")
        provider = str(kwargs.get("custom_llm_provider") or provider or "openai")
        options: dict[str, Any] = {"cost": cost_of(provider, verdict.model or model, verdict.usage)}
        ttl = self.get_ttl(**kwargs)
        return options if ttl is None else options | {"ttl": ttl}


def _plain(key: str) -> str:
    return f"litellm:{key}"


def _judge(value: Any) -> Verdict:
    """Whether what LiteLLM wants to store ended well: it hands over the time and the answer's JSON."""
    response = mapping(value).get("response")
    if isinstance(response, str):
        try:
            response = json.loads(response)
        except ValueError:
            return Verdict("the answer is not JSON")
    answer = mapping(response)
    if "choices" in answer:
        return _WIRES[0].judge(answer)
    if "output" in answer and "status" in answer:
        return _WIRES[1].judge(answer)
    if "data" in answer:
        return OpenAIEmbeddings().judge(answer)
    return Verdict("the answer holds an error" if answer.get("error") else "")
