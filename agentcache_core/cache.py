"""The face: `Cache` for threads, `AsyncCache` for event loops, and their views. The same engine is behind both.

A hit in the memory tier takes a short cut past the engine, a hit on the one stored tier the straight way;
`tests/core/test_short_cut.py` proves all ways equal.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from agentcache_core.allowance import one_call
from agentcache_core.beginning import Beginning, begin, store_begun
from agentcache_core.codec.serialize import loads
from agentcache_core.errors import AgentCacheError, ConfigurationError, CorruptFrame
from agentcache_core.memoize import memoized, memoized_async
from agentcache_core.model import MISSING, CacheControl, Hit
from agentcache_core.policy.freshness import Duration
from agentcache_core.prewarm import PrewarmReport, prewarm, prewarm_async
from agentcache_core.runtime import ASYNC, BLOCKING, drive
from agentcache_core.straight import UNSURE, answer_of, answers_of, computed_of, hit_of
from agentcache_core.upkeep import AsyncUpkeep, Upkeep
from agentcache_core.wish import DEFAULT_WISH

F = TypeVar("F", bound=Callable[..., Any])


class Cache(Upkeep):
    """A cache for threads.

    `Cache()` is memory, bounded. `Cache("sqlite:///agent.db")` is durable. `Cache(["memory://", "redis://…"])` is
    tiers, hottest first. See `docs/` for every setting. Raises `ConfigurationError` for a setting that cannot work.
    """

    _face = "blocking"

    @property
    def aio(self) -> AsyncCache:
        """The async face of the same cache and view."""
        if self._twin is None:
            self._twin = self._as(AsyncCache, root=self._root)
            self._twin._twin = self
        twin: AsyncCache = self._twin
        return twin

    def get(self, request: object, default: Any = MISSING) -> Any:
        """The fresh stored value of a request, a copy of the caller's own; `default` when there is none."""
        if self._fast and not self._core.events.active:
            if request.__class__ is str:
                slot = self._text.get(request)
            else:
                key = self._key(request)
                home = self._homes.get(key.kind)
                if home is None:
                    home = self._home(key.kind)
                slot = home.get(key.address)
            if (
                slot is not None
                and self._now() < slot.until
                and (self._local or self._monotonic() < self._space.trusted_until)
            ):
                slot.used = 1
                value = slot.value
                if slot.packed:
                    try:
                        value = loads(value, serializers=self._engine.writer.serializers)
                    except CorruptFrame:
                        return self._long_way(request, default)
                counters = self._counters
                counters.hits += 1
                if slot.record is not None:
                    counters.avoided.credit(slot.record)
                if slot.packed:
                    counters.bytes_served += len(slot.value)
                return value
        return self._long_way(request, default)

    def _long_way(self, request: object, default: Any) -> Any:
        """The value as the engine finds it."""
        self._open()
        straight = self._straight
        if straight is None:
            hit = self.lookup(request)
            return default if hit is None else hit.value
        key = self._key(request)
        with one_call():
            answer = drive(answer_of(straight, BLOCKING, self._engine, self._space, key, default))
            if answer is not UNSURE:
                return answer
            hit = drive(self._engine.lookup(BLOCKING, self._space, key, DEFAULT_WISH, request=request))
        return default if hit is None else hit.value

    def lookup(self, request: object, *, control: CacheControl | None = None) -> Hit | None:
        """The fresh stored answer with how, how old and from where it is, or None."""
        self._open()
        wish = self._asking(control)
        key = self._key(request, sample=wish.control.sample)
        straight, engine, space = self._straight, self._engine, self._space
        return self._answer(hit_of(straight, BLOCKING, engine, space, key, wish, request=request))

    def get_many(self, requests: Iterable[object], default: Any = MISSING) -> list[Any]:
        """The values of several requests in their order, `default` where absent: one round trip per tier."""
        self._open()
        asked = list(requests)
        keys = [self._key(request) for request in asked]
        straight, engine, space = self._straight, self._engine, self._space
        return self._answer(answers_of(straight, BLOCKING, engine, space, keys, requests=asked, default=default))

    def begin(self, *, tags: Sequence[str] = ()) -> Beginning:
        """Say that a computation begins whose answer `set(…, began=…)` will store later, such as that of a stream.

        An answer is not kept when one of `tags`, its request or the namespace is invalidated in between.
        """
        self._open()
        return self._answer(begin(self._engine.writer, BLOCKING, self._space, self._wish(tags=tags)))

    def set(self, request: object, value: object, *, began: Beginning | None = None, **options: Any) -> bool:
        """Store a value; answers whether it is stored.

        Options: ttl, tags, sources, cost, durable, stale_while_revalidate, stale_if_error, jitter, sliding, eager,
        content_type, meta, returns. Raises `UnstorableValue` for a value that would not come back equal; trouble with
        storage raises `NotWritten` only with `durable=True` or a strict cache.
        """
        self._open()
        wish = self._wish(**options)
        key = self._key(request, sample=wish.control.sample)
        if began is not None:
            body = store_begun(
                self._engine.writer, BLOCKING, self._space, key, value, wish, began=began, request=request
            )
            return self._answer(body)
        return self._answer(self._engine.store(BLOCKING, self._space, key, value, wish, request=request))

    def set_many(self, pairs: Iterable[tuple[object, object]], **options: Any) -> int:
        """Store (request, value) pairs with the same options; answers how many are stored."""
        self._open()
        wish = self._wish(**options)
        asked, listed = [], []
        for request, value in pairs:
            asked.append(request)
            listed.append((self._key(request), value))
        return self._answer(self._engine.store_many(BLOCKING, self._space, listed, wish, requests=asked))

    def get_or_compute(self, request: object, compute: Callable[[], Any], **options: Any) -> Any:
        """The stored answer, or that of `compute()`, which runs once however many callers miss at the same time.

        Options as for `set`, and control, store_if. What `compute` raises is raised and not stored; a value that
        cannot be stored is returned and not stored.
        """
        self._open()
        if inspect.iscoroutinefunction(compute):
            raise ConfigurationError(
                "compute is an async function; use `await cache.aio.get_or_compute(…)` or an AsyncCache"
            )
        wish = self._wish(**options)
        key = self._key(request, sample=wish.control.sample)
        straight, engine, space = self._straight, self._engine, self._space
        return self._answer(computed_of(straight, BLOCKING, engine, space, key, compute, wish, request=request))

    def delete(self, request: object) -> bool:
        """Remove one entry everywhere; answers whether there was one."""
        self._open()
        return bool(self.invalidate(request=request))

    def invalidate(
        self,
        *,
        tag: str | None = None,
        pattern: str | None = None,
        namespace: str | None = None,
        source: str | None = None,
        count: bool = False,
        **request: Any,
    ) -> int | None:
        """Make what one selector names unservable; with `count` answers how many live entries it concerned, by scan.

        Selectors: tag, pattern (a glob over plain keys), namespace, source, request. Exactly one.
        """
        self._open()
        space, selector = self._selected(tag, pattern, namespace, source, request)
        body = self._core.invalidation.apply(BLOCKING, space, selector, count=count)
        answer = drive(body) if count else self._answer(body)
        return answer if count or request else None

    def memoize(
        self,
        function: F | None = None,
        *,
        ttl: Duration | None = None,
        tags: Sequence[str] | Callable[..., Sequence[str]] = (),
        version: str = "",
        ignore: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """A decorator: the function's answers are cached by its name, version and arguments, types exactly.

        `tags` may be a function of the arguments. `ignore` names arguments that do not count, such as `self`. The
        return annotation (or `returns=`) lets dataclasses, pydantic models and enums be stored. On an async function
        it uses the async face.
        """
        self._wish(
            ttl=ttl, tags=() if callable(tags) else tags, **options
        )  # a wrong option is told here, not at a call
        return memoized(self, function, {"ttl": ttl, "tags": tags, **options}, version=version, ignore=ignore)

    def prewarm(
        self,
        requests: Iterable[Any],
        compute: Callable[[Any], Any],
        *,
        concurrency: int = 8,
        rate: float | None = None,
        progress: Callable[[PrewarmReport], object] | None = None,
        **options: Any,
    ) -> PrewarmReport:
        """Ask `compute(request)` for every request that is not stored yet, at most `concurrency` at once and `rate` a
        second; what fails is reported and does not stop the rest. Options as for `get_or_compute`.

        `progress(report)` is called after every request. Started again, it goes on where it was stopped.
        """
        self._open()
        self._wish(**options)  # a wrong option is one mistake, not one failure for every request
        return prewarm(self, requests, compute, concurrency=concurrency, rate=rate, progress=progress, options=options)

    def close(self) -> None:
        """Finish background work and let go of everything. Views share it; only the root closes."""
        if not self._root:
            raise AgentCacheError("this is a view; close the cache it was made from")
        if self._core.closed:
            return
        self._core.background.stop()
        self._core.background.drain()
        drive(self._core.add_figures(BLOCKING))
        self._core.closed = True
        drive(self._core.close(BLOCKING))

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._root:
            self.close()


class AsyncCache(AsyncUpkeep):
    """A cache for event loops: the same names as `Cache`, awaited."""

    _face = "async"

    @property
    def blocking(self) -> Cache:
        """The blocking face of the same cache and view."""
        if self._twin is None:
            self._twin = self._as(Cache, root=self._root)
            self._twin._twin = self
        twin: Cache = self._twin
        return twin

    async def get(self, request: object, default: Any = MISSING) -> Any:
        """As `Cache.get`."""
        self._open()
        straight = self._straight
        if straight is None:
            hit = await self.lookup(request)
            return default if hit is None else hit.value
        key = self._key(request)
        with one_call():
            answer = await answer_of(straight, ASYNC, self._engine, self._space, key, default)
            if answer is not UNSURE:
                return answer
            hit = await self._engine.lookup(ASYNC, self._space, key, DEFAULT_WISH, request=request)
        return default if hit is None else hit.value

    async def lookup(self, request: object, *, control: CacheControl | None = None) -> Hit | None:
        """As `Cache.lookup`."""
        self._open()
        wish = self._asking(control)
        key = self._key(request, sample=wish.control.sample)
        straight, engine, space = self._straight, self._engine, self._space
        return await self._answer(hit_of(straight, ASYNC, engine, space, key, wish, request=request))

    async def get_many(self, requests: Iterable[object], default: Any = MISSING) -> list[Any]:
        """As `Cache.get_many`."""
        self._open()
        asked = list(requests)
        keys = [self._key(request) for request in asked]
        straight, engine, space = self._straight, self._engine, self._space
        return await self._answer(answers_of(straight, ASYNC, engine, space, keys, requests=asked, default=default))

    async def begin(self, *, tags: Sequence[str] = ()) -> Beginning:
        """As `Cache.begin`."""
        self._open()
        return await self._answer(begin(self._engine.writer, ASYNC, self._space, self._wish(tags=tags)))

    async def set(self, request: object, value: object, *, began: Beginning | None = None, **options: Any) -> bool:
        """As `Cache.set`."""
        self._open()
        wish = self._wish(**options)
        key = self._key(request, sample=wish.control.sample)
        if began is not None:
            return await self._answer(
                store_begun(self._engine.writer, ASYNC, self._space, key, value, wish, began=began, request=request)
            )
        return await self._answer(self._engine.store(ASYNC, self._space, key, value, wish, request=request))

    async def set_many(self, pairs: Iterable[tuple[object, object]], **options: Any) -> int:
        """As `Cache.set_many`."""
        self._open()
        wish = self._wish(**options)
        asked, listed = [], []
        for request, value in pairs:
            asked.append(request)
            listed.append((self._key(request), value))
        return await self._answer(self._engine.store_many(ASYNC, self._space, listed, wish, requests=asked))

    async def get_or_compute(self, request: object, compute: Callable[[], Awaitable[Any] | Any], **options: Any) -> Any:
        """As `Cache.get_or_compute`; `compute` may be an async function or a plain one."""
        self._open()
        wish = self._wish(**options)
        key = self._key(request, sample=wish.control.sample)
        straight, engine, space = self._straight, self._engine, self._space
        return await self._answer(computed_of(straight, ASYNC, engine, space, key, compute, wish, request=request))

    async def delete(self, request: object) -> bool:
        """As `Cache.delete`."""
        return bool(await self.invalidate(request=request))

    async def invalidate(
        self,
        *,
        tag: str | None = None,
        pattern: str | None = None,
        namespace: str | None = None,
        source: str | None = None,
        count: bool = False,
        **request: Any,
    ) -> int | None:
        """As `Cache.invalidate`."""
        self._open()
        space, selector = self._selected(tag, pattern, namespace, source, request)
        body = self._core.invalidation.apply(ASYNC, space, selector, count=count)
        answer = await (body if count else self._answer(body))
        return answer if count or request else None

    def memoize(
        self,
        function: F | None = None,
        *,
        ttl: Duration | None = None,
        tags: Sequence[str] | Callable[..., Sequence[str]] = (),
        version: str = "",
        ignore: Sequence[str] = (),
        **options: Any,
    ) -> Any:
        """As `Cache.memoize`; a plain function becomes an async one."""
        self._wish(ttl=ttl, tags=() if callable(tags) else tags, **options)
        return memoized_async(self, function, {"ttl": ttl, "tags": tags, **options}, version=version, ignore=ignore)

    async def prewarm(
        self,
        requests: Iterable[Any],
        compute: Callable[[Any], Any],
        *,
        concurrency: int = 8,
        rate: float | None = None,
        progress: Callable[[PrewarmReport], object] | None = None,
        **options: Any,
    ) -> PrewarmReport:
        """As `Cache.prewarm`; `compute` may be an async function or a plain one."""
        self._open()
        self._wish(**options)
        return await prewarm_async(
            self, requests, compute, concurrency=concurrency, rate=rate, progress=progress, options=options
        )

    async def close(self) -> None:
        """As `Cache.close`."""
        if not self._root:
            raise AgentCacheError("this is a view; close the cache it was made from")
        if self._core.closed:
            return
        self._core.background.stop()
        await self._core.background.drain_async()
        await self._core.add_figures(ASYNC)
        self._core.closed = True
        await self._core.close(ASYNC)

    async def __aenter__(self) -> AsyncCache:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._root:
            await self.close()
