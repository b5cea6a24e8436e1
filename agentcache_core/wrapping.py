"""Backends around a Backend: the plumbing that deadlines, breakers and fault injection share.

`Around` sends every verb of an inner blocking backend through its one method `run`; `AsyncAround` does the same for
an asynchronous one. An instance has exactly the further powers of the backend it wraps, so that
`isinstance(wrapped, SupportsLog)` still tells the truth.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

from agentcache_core.backend import Backend, Capabilities, Event, Grant, Put, Stat, Stored, Version
from agentcache_core.model import Missing
from agentcache_core.powers import (
    SupportsBatch,
    SupportsCounter,
    SupportsLease,
    SupportsLog,
    SupportsRange,
    SupportsSweep,
    SupportsTouch,
    SupportsTouchMany,
    SupportsViews,
    supports,
)

P = ParamSpec("P")
T = TypeVar("T")
SCAN_PAGE = 256


class _Whole(
    Backend,
    SupportsBatch,
    SupportsViews,
    SupportsLog,
    SupportsLease,
    SupportsCounter,
    SupportsRange,
    SupportsTouch,
    SupportsTouchMany,
    SupportsSweep,
    Protocol,
):
    """A backend with every power, as the mixins below see theirs; each is only there where the inner one has it."""


class Around:
    """A blocking backend that hands every verb of `inner` to `run`, which subclasses override."""

    def __new__(cls, inner: Any, *args: Any, **kwargs: Any) -> Self:
        return cast(Self, object.__new__(_powered(cls, inner)))

    def __init__(self, inner: Any) -> None:
        self.inner: _Whole = inner

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Perform one verb: by itself, only the call."""
        return call(*args, **kwargs)

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def get(self, name: bytes) -> Stored | Missing:
        return self.run("get", self.inner.get, name)

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        return self.run(
            "put",
            self.inner.put,
            name,
            data,
            expires_at=expires_at,
            if_absent=if_absent,
            if_version=if_version,
            weight=weight,
        )

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return self.run("delete", self.inner.delete, name, if_version=if_version)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        # A listing that is only begun has asked for nothing yet, and says nothing of the store.
        stats, page = self.run("scan", _first_page, self.inner.scan, prefix, after)
        while page:
            yield from page
            page = self.run("scan", _page, stats)

    def close(self) -> None:
        self.inner.close()


def _first_page(scan: Callable[..., Iterator[Stat]], prefix: bytes, after: bytes) -> tuple[Iterator[Stat], list[Stat]]:
    stats = scan(prefix, after=after)
    return stats, _page(stats)


def _page(stats: Iterator[Stat]) -> list[Stat]:
    return list(islice(stats, SCAN_PAGE))


class _Batch(Around):
    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return self.run("get_many", self.inner.get_many, names)

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return self.run("put_many", self.inner.put_many, puts)

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return self.run("delete_many", self.inner.delete_many, names)


class _Views(Around):
    def get_views(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return self.run("get_views", self.inner.get_views, names)


class _Log(Around):
    def append(self, topic: bytes, event: bytes) -> bytes:
        return self.run("append", self.inner.append, topic, event)

    def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        return self.run("read", self.inner.read, topic, after)

    def tail(self, topic: bytes) -> bytes:
        return self.run("tail", self.inner.tail, topic)


class _Lease(Around):
    def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        return self.run("acquire", self.inner.acquire, lease, seconds)

    def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        return self.run("renew", self.inner.renew, lease, grant, seconds)

    def release(self, lease: bytes, grant: Grant) -> bool:
        return self.run("release", self.inner.release, lease, grant)

    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        return self.run("put_fenced", self.inner.put_fenced, lease, grant, name, data, expires_at=expires_at)


class _Counter(Around):
    def add(self, name: bytes, amount: int) -> int:
        return self.run("add", self.inner.add, name, amount)


class _Range(Around):
    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return self.run("get_range", self.inner.get_range, name, offset, size)


class _Touch(Around):
    def touch(self, name: bytes, expires_at: float | None) -> bool:
        return self.run("touch", self.inner.touch, name, expires_at)


class _TouchMany(Around):
    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        return self.run("touch_many", self.inner.touch_many, names, expires_at)


class _Sweep(Around):
    def sweep(self, *, older_than: float = 3600.0) -> int:
        return self.run("sweep", self.inner.sweep, older_than=older_than)


class AsyncAround:
    """An asynchronous backend that hands every verb of `inner` to `run`, which subclasses override."""

    def __new__(cls, inner: Any, *args: Any, **kwargs: Any) -> Self:
        return cast(Self, object.__new__(_powered(cls, inner)))

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Perform one verb: by itself, only the call."""
        return await call(*args, **kwargs)

    @property
    def capabilities(self) -> Capabilities:
        return cast(Capabilities, self.inner.capabilities)

    async def get(self, name: bytes) -> Stored | Missing:
        return cast("Stored | Missing", await self.run("get", self.inner.get, name))

    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        options = {"expires_at": expires_at, "if_absent": if_absent, "if_version": if_version, "weight": weight}
        return cast("Version | None", await self.run("put", self.inner.put, name, data, **options))

    async def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return cast(bool, await self.run("delete", self.inner.delete, name, if_version=if_version))

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        stats = self.inner.scan(prefix, after=after)
        while page := await self.run("scan", _async_page, stats):
            for stat in page:
                yield stat

    async def close(self) -> None:
        await self.inner.close()


async def _async_page(stats: AsyncIterator[Stat]) -> list[Stat]:
    page: list[Stat] = []
    async for stat in stats:
        page.append(stat)
        if len(page) == SCAN_PAGE:
            break
    return page


class _AsyncBatch(AsyncAround):
    async def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return cast("list[Stored | Missing]", await self.run("get_many", self.inner.get_many, names))

    async def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return cast("list[Version | None]", await self.run("put_many", self.inner.put_many, puts))

    async def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return cast("list[bool]", await self.run("delete_many", self.inner.delete_many, names))


class _AsyncViews(AsyncAround):
    async def get_views(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return cast("list[Stored | Missing]", await self.run("get_views", self.inner.get_views, names))


class _AsyncLog(AsyncAround):
    async def append(self, topic: bytes, event: bytes) -> bytes:
        return cast(bytes, await self.run("append", self.inner.append, topic, event))

    async def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        return cast("list[Event] | None", await self.run("read", self.inner.read, topic, after))

    async def tail(self, topic: bytes) -> bytes:
        return cast(bytes, await self.run("tail", self.inner.tail, topic))


class _AsyncLease(AsyncAround):
    async def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        return cast("Grant | None", await self.run("acquire", self.inner.acquire, lease, seconds))

    async def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        return cast(bool, await self.run("renew", self.inner.renew, lease, grant, seconds))

    async def release(self, lease: bytes, grant: Grant) -> bool:
        return cast(bool, await self.run("release", self.inner.release, lease, grant))

    async def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        call = self.run("put_fenced", self.inner.put_fenced, lease, grant, name, data, expires_at=expires_at)
        return cast("Version | None", await call)


class _AsyncCounter(AsyncAround):
    async def add(self, name: bytes, amount: int) -> int:
        return cast(int, await self.run("add", self.inner.add, name, amount))


class _AsyncRange(AsyncAround):
    async def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return cast("bytes | Missing", await self.run("get_range", self.inner.get_range, name, offset, size))


class _AsyncTouch(AsyncAround):
    async def touch(self, name: bytes, expires_at: float | None) -> bool:
        return cast(bool, await self.run("touch", self.inner.touch, name, expires_at))


class _AsyncTouchMany(AsyncAround):
    async def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        return cast("list[bool]", await self.run("touch_many", self.inner.touch_many, names, expires_at))


class _AsyncSweep(AsyncAround):
    async def sweep(self, *, older_than: float = 3600.0) -> int:
        return cast(int, await self.run("sweep", self.inner.sweep, older_than=older_than))


_POWERS: dict[type, tuple[type[Around], type[AsyncAround]]] = {
    SupportsBatch: (_Batch, _AsyncBatch),
    SupportsViews: (_Views, _AsyncViews),
    SupportsLog: (_Log, _AsyncLog),
    SupportsLease: (_Lease, _AsyncLease),
    SupportsCounter: (_Counter, _AsyncCounter),
    SupportsRange: (_Range, _AsyncRange),
    SupportsTouch: (_Touch, _AsyncTouch),
    SupportsTouchMany: (_TouchMany, _AsyncTouchMany),
    SupportsSweep: (_Sweep, _AsyncSweep),
}


def _powered(outer: Any, inner: Any) -> type:
    """`outer` with the further powers of `inner`; itself when it was composed before."""
    powers = tuple(power for power in _POWERS if supports(inner, power))
    return outer if issubclass(outer, _Composed) else _compose(outer, powers)


class _Composed:
    """Marks a class that already has the powers of what it wraps."""


@functools.cache
def _compose(outer: Any, powers: tuple[Any, ...]) -> type:
    asynchronous = issubclass(outer, AsyncAround)
    mixins = tuple(_POWERS[power][asynchronous] for power in powers)
    return type(outer.__name__, (outer, *mixins, _Composed), {"__module__": outer.__module__, "__doc__": outer.__doc__})
