"""LlamaIndex: a key-value store for ingestion and embeddings, a cached LLM, and a cached query engine."""

from __future__ import annotations

import json
import logging
from typing import Any

from agentcache_core import MISSING, AsyncCache, Cache, Computed

try:
    from llama_index.core.base.base_query_engine import BaseQueryEngine
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.base.response.schema import RESPONSE_TYPE, Response
    from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
    from llama_index.core.schema import NodeWithScore, QueryBundle
    from llama_index.core.storage.kvstore.types import DEFAULT_BATCH_SIZE, DEFAULT_COLLECTION, BaseKVStore
except ImportError as error:
    raise ImportError("this adapter needs LlamaIndex: pip install 'agentcache[llama-index]'") from error

from agentcache_adapters.llama_index_llm import CachedLLM, settings_of

__all__ = ["AgentCacheKVStore", "CachedLLM", "CachedQueryEngine", "embeddings_store"]

_log = logging.getLogger("agentcache.llama_index")


class AgentCacheKVStore(BaseKVStore):
    """A LlamaIndex key-value store in a cache, for `IngestionCache(cache=…)` and `embeddings_cache=`.

    `namespace` keeps its keys apart: give every embedding model its own (`embeddings_store` does), for LlamaIndex keys
    embeddings by their text alone. Trouble with the cache is logged and counts as a miss.
    """

    def __init__(self, cache: Cache | AsyncCache, *, namespace: str = "", ttl: float | str | None = None) -> None:
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._namespace = namespace
        self._options: dict[str, Any] = {} if ttl is None else {"ttl": ttl}

    def _prefix(self, collection: str) -> str:
        return f"llama_index:{self._namespace}:{collection}:"

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Store one value."""
        self.put_all([(key, val)], collection, batch_size=1)

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """As `put`."""
        await self.aput_all([(key, val)], collection, batch_size=1)

    def put_all(
        self,
        kv_pairs: list[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """Store several values; the engine batches by itself."""
        prefix = self._prefix(collection)
        try:
            self._cache.set_many([(prefix + key, json.dumps(value)) for key, value in kv_pairs], **self._options)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("values could not be stored", exc_info=True)

    async def aput_all(
        self,
        kv_pairs: list[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """As `put_all`."""
        prefix = self._prefix(collection)
        try:
            await self._cache.aio.set_many(
                [(prefix + key, json.dumps(value)) for key, value in kv_pairs], **self._options
            )
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("values could not be stored", exc_info=True)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """The value of a key, None where there is none."""
        try:
            value = self._cache.get(self._prefix(collection) + key)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None
        return None if value is MISSING else _opened_value(value)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """As `get`."""
        try:
            value = await self._cache.aio.get(self._prefix(collection) + key)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None
        return None if value is MISSING else _opened_value(value)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Every value of a collection, by scan."""
        prefix = self._prefix(collection)
        keys = self._cache.keys(prefix)
        return _present(prefix, keys, self._cache.get_many(keys))

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """As `get_all`."""
        prefix = self._prefix(collection)
        keys = await self._cache.aio.keys(prefix)
        return _present(prefix, keys, await self._cache.aio.get_many(keys))

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Remove a key; answers whether it was there."""
        return bool(self._cache.delete(self._prefix(collection) + key))

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """As `delete`."""
        return bool(await self._cache.aio.delete(self._prefix(collection) + key))


def _opened_value(value: str) -> dict[str, Any]:
    # JSON is what LlamaIndex's values are made for: they hold enums of theirs, and thousands of floats.
    opened: dict[str, Any] = json.loads(value)
    return opened


def _present(prefix: str, keys: list[str], values: list[Any]) -> dict[str, dict[str, Any]]:
    return {
        key.removeprefix(prefix): _opened_value(value)
        for key, value in zip(keys, values, strict=True)
        if value is not MISSING
    }


def embeddings_store(
    cache: Cache | AsyncCache, model: BaseEmbedding, *, ttl: float | str | None = None
) -> AgentCacheKVStore:
    """A store for this embedding model alone: `model.embeddings_cache = embeddings_store(cache, model)`.

    The model's class and settings are in its namespace, so that another model never reads this one's vectors.
    """
    blocking = cache.blocking if isinstance(cache, AsyncCache) else cache
    fingerprint = blocking.key({"embedding model": settings_of(model)}).digest.hex()[:32]
    return AgentCacheKVStore(cache, namespace=fingerprint, ttl=ttl)


class CachedQueryEngine(BaseQueryEngine):
    """A query engine that retrieves every time and synthesizes only what it has not answered before.

    The key holds the query, the retrieved nodes with their content's hash and score, the prompts, the model and
    `version`: an answer can never outlive the text it was made from. Entries carry the tag `doc:<id>` of every document
    behind them, so that `cache.invalidate(tag="doc:42")` drops what was derived from it. The engine must be able to
    retrieve and synthesize apart, as retriever query engines are. Streaming answers are not stored.
    """

    def __init__(
        self, engine: BaseQueryEngine, cache: Cache | AsyncCache, *, version: str = "", ttl: float | str | None = None
    ) -> None:
        super().__init__(engine.callback_manager)
        self._engine = engine
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._version = version
        self._options: dict[str, Any] = {} if ttl is None else {"ttl": ttl}

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"query_engine": self._engine}

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """The inner engine's prompts are reached through its module."""

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """What the inner engine retrieves."""
        return self._engine.retrieve(query_bundle)

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = self._engine.retrieve(query_bundle)

        own: list[RESPONSE_TYPE] = []

        def compute() -> Computed:
            own.append(self._engine.synthesize(query_bundle, nodes))
            return _computed(own[0])

        keyed = self._keyed(query_bundle, nodes)
        answer = self._cache.get_or_compute(keyed, compute, tags=_doc_tags(nodes), **self._options)
        return own[0] if own else _opened(answer, nodes)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        retrieve: Any = getattr(self._engine, "aretrieve", None)
        nodes = await retrieve(query_bundle) if retrieve is not None else self._engine.retrieve(query_bundle)

        own: list[RESPONSE_TYPE] = []

        async def compute() -> Computed:
            own.append(await self._engine.asynthesize(query_bundle, nodes))
            return _computed(own[0])

        keyed = self._keyed(query_bundle, nodes)
        answer = await self._cache.aio.get_or_compute(keyed, compute, tags=_doc_tags(nodes), **self._options)
        return own[0] if own else _opened(answer, nodes)

    def _keyed(self, query: QueryBundle, nodes: list[NodeWithScore]) -> dict[str, Any]:
        synthesizer = getattr(self._engine, "_response_synthesizer", None)
        llm = getattr(synthesizer, "_llm", None)
        prompts = {name: prompt.get_template() for name, prompt in self._engine.get_prompts().items()}
        return {
            "llama_index query": query.query_str,
            "version": self._version,
            "engine": [type(self._engine).__qualname__, type(synthesizer).__qualname__],
            "llm": None if llm is None else settings_of(llm),
            "prompts": prompts,
            "nodes": [[node.node.node_id, node.node.hash, node.score] for node in nodes],
        }


def _doc_tags(nodes: list[NodeWithScore]) -> list[str]:
    return sorted({f"doc:{node.node.ref_doc_id}" for node in nodes if node.node.ref_doc_id})


def _computed(response: RESPONSE_TYPE) -> Computed:
    if type(response) is not Response or response.response is None:
        return Computed(response, store=False, reason=f"a {type(response).__name__} is not stored")
    return Computed({"response": response.response, "metadata": response.metadata})


def _opened(answer: Any, nodes: list[NodeWithScore]) -> RESPONSE_TYPE:
    if not isinstance(answer, dict):
        response: RESPONSE_TYPE = answer
        return response
    return Response(answer["response"], source_nodes=nodes, metadata=answer["metadata"])
