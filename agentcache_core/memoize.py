"""Functions whose answers are cached by name, version and arguments."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.keys import FunctionCall

if TYPE_CHECKING:
    from typing import Protocol

    class Face(Protocol):
        """What this room needs of a cache."""

        def get_or_compute(self, request: object, compute: Callable[[], Any], **options: Any) -> Any: ...
        def invalidate(self, **selector: Any) -> Any: ...

    class BlockingFace(Face, Protocol):
        @property
        def aio(self) -> Face: ...


class _Call:
    """How the calls of one function become requests and options."""

    def __init__(
        self, function: Callable[..., Any], options: Mapping[str, Any], version: str, ignore: Sequence[str]
    ) -> None:
        self.function = function
        self.version = version
        self.signature = inspect.signature(function)
        unknown = [name for name in ignore if name not in self.signature.parameters]
        if unknown:
            raise ConfigurationError(f"ignore names no parameter of {function.__qualname__}: {', '.join(unknown)}")
        self.ignore = frozenset(ignore)
        self.tags = options.get("tags", ())
        self.options = {name: value for name, value in options.items() if name != "tags"}
        self.options.setdefault("returns", _returns(function))

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FunctionCall:
        """The same request for every way of writing the same call: defaults filled in, all arguments by name."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        counted = {name: value for name, value in bound.arguments.items() if name not in self.ignore}
        function = self.function
        return FunctionCall(f"{function.__module__}.{function.__qualname__}", self.version, (), counted)

    def wish(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        tags = self.tags(*args, **kwargs) if callable(self.tags) else self.tags
        return {**self.options, "tags": tags}


def _returns(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError):  # an annotation that cannot be resolved here says nothing
        return None


def memoized(
    cache: BlockingFace, function: Any, options: Mapping[str, Any], *, version: str, ignore: Sequence[str]
) -> Any:
    """`function` cached on `cache`, or a decorator when it is None; async functions use the async face."""
    if function is None:
        return lambda later: memoized(cache, later, options, version=version, ignore=ignore)
    if not callable(function):
        raise ConfigurationError(f"memoize takes a function, got {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        return memoized_async(cache.aio, function, options, version=version, ignore=ignore)
    call = _Call(function, options, version, ignore)

    @functools.wraps(function)
    def cached(*args: Any, **kwargs: Any) -> Any:
        return cache.get_or_compute(
            call.request(args, kwargs), lambda: function(*args, **kwargs), **call.wish(args, kwargs)
        )

    return _dressed(cached, cache, call)


def memoized_async(
    cache: Face, function: Any, options: Mapping[str, Any], *, version: str, ignore: Sequence[str]
) -> Any:
    """`function` cached on the async face `cache`, or a decorator when it is None."""
    if function is None:
        return lambda later: memoized_async(cache, later, options, version=version, ignore=ignore)
    call = _Call(function, options, version, ignore)

    @functools.wraps(function)
    async def cached(*args: Any, **kwargs: Any) -> Any:
        return await cache.get_or_compute(
            call.request(args, kwargs), lambda: function(*args, **kwargs), **call.wish(args, kwargs)
        )

    return _dressed(cached, cache, call)


def _dressed(cached: Any, cache: Face, call: _Call) -> Any:
    """The cached function with `request(*args)` and `invalidate(*args)` beside its call."""
    cached.request = lambda *args, **kwargs: call.request(args, kwargs)
    cached.invalidate = lambda *args, **kwargs: cache.invalidate(request=call.request(args, kwargs))
    return cached
