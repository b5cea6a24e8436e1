"""The floor and the peers that answer a chat request, each over its own real path, ready to be called."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any

import orjson
from blake3 import blake3

from benchmarks.workload import Json


class Floor:
    """The least that a cache of requests can do: canonical JSON, a hash, a dictionary, JSON back. No guard at all."""

    def __init__(self, request: Json, response: Json) -> None:
        self._request = request
        self._stored = {self.key(): orjson.dumps(response)}

    def key(self) -> bytes:
        return blake3(orjson.dumps(self._request, option=orjson.OPT_SORT_KEYS)).digest()

    def hit(self) -> Any:
        return orjson.loads(self._stored[self.key()])


def litellm_hit(request: Json, response: Json) -> Callable[[], Any]:
    """LiteLLM's `Cache.get_cache` on a hit, its gate for long conversations lifted."""
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        from litellm.caching.caching import Cache as LiteLLMCache
        from litellm.types.caching import LiteLLMCacheType
    cache = LiteLLMCache(type=LiteLLMCacheType.LOCAL)
    cache.add_cache(orjson.dumps(response).decode(), **request)

    def hit() -> Any:
        found = cache.get_cache(**request)
        assert found is not None
        return found

    return hit


def langchain_hit(request: Json, response: Json) -> Callable[[], Any]:
    """LangChain's `invoke` of a chat model whose answer its InMemoryCache holds."""
    from langchain_core.caches import InMemoryCache
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, convert_to_messages

    choices = response.get("choices")
    text = choices[0]["message"]["content"] if choices else orjson.dumps(response).decode()
    model = GenericFakeChatModel(messages=iter([AIMessage(content=text)]), cache=InMemoryCache())
    messages = convert_to_messages(request["messages"])
    settings = {name: value for name, value in request.items() if name != "messages"}
    model.invoke(messages, **settings)  # tools and parameters count in LangChain's key as they do in ours
    return lambda: model.invoke(messages, **settings)
