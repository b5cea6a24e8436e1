"""The declarations of a program's tools and the way to call them: what `cache.tools(...)` answers."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from agentcache_core.errors import ConfigurationError
from agentcache_core.tools.binding import binding_of
from agentcache_core.tools.effects import Effect, Never, Pure, Read, Reads, Ttl, Write, Writes, load_effects
from agentcache_core.tools.execution import Invocation, carry_out
from agentcache_core.tools.ports import ports_of
from agentcache_core.tools.session import Actor, Scope, ToolSession, current_session

F = TypeVar("F", bound=Callable[..., Any])
Effects = str | Path | Mapping[str, Any]


class Tools:
    """Tools with declared effects over one cache.

    Declare functions with `@tools.pure`, `@tools.read(...)`, `@tools.write(...)`, `@tools.never`; or name the effects
    of tools that are known by name and JSON only in `effects` (a TOML file or a parsed mapping) and call them through
    `tools.call`. A tool nobody declared is never cached. `actor` says on whose behalf calls are made (a string, or a
    function asked at every call); it is part of every key.
    """

    def __init__(self, cache: Any, *, effects: Effects | None = None, actor: Actor = None) -> None:
        self._blocking, self._async = ports_of(cache)
        self._awaits = not hasattr(cache, "aio")
        self._effects: dict[str, Effect] = {} if effects is None else load_effects(effects)
        self._actor = actor

    # Declarations

    @overload
    def pure(self, function: F, /) -> F: ...
    @overload
    def pure(
        self, /, *, ttl: Ttl = None, secret: tuple[str, ...] = (), version: str = "", name: str | None = None
    ) -> Callable[[F], F]: ...
    def pure(
        self,
        function: Any = None,
        /,
        *,
        ttl: Ttl = None,
        secret: tuple[str, ...] = (),
        version: str = "",
        name: str | None = None,
    ) -> Any:
        """A function whose result depends on its arguments alone. `version` is changed when its code means something
        else; `name` replaces module and qualified name in the key."""
        return self._declared(function, Pure(ttl, _names(secret), version), name)

    def read(
        self,
        ttl: Ttl = None,
        reads: Reads | None = None,
        *,
        coherent: bool = True,
        secret: tuple[str, ...] = (),
        cache_errors: tuple[type[Exception], ...] | type[Exception] = (),
        version: str = "",
        name: str | None = None,
    ) -> Callable[[F], F]:
        """A function that looks at the world; `reads` answers the resources its result depends on, from its arguments
        by name. See `Read`."""
        if callable(ttl):
            raise ConfigurationError('write @tools.read() or @tools.read(ttl="10m"), with parentheses')
        errors = cache_errors if isinstance(cache_errors, tuple) else (cache_errors,)
        return cast(
            "Callable[[F], F]",
            self._declared(None, Read(ttl, reads, coherent, _names(secret), errors, version), name),
        )

    @overload
    def write(self, function: F, /) -> F: ...
    @overload
    def write(
        self, /, *, writes: Writes | None = None, secret: tuple[str, ...] = (), name: str | None = None
    ) -> Callable[[F], F]: ...
    def write(
        self,
        function: Any = None,
        /,
        *,
        writes: Writes | None = None,
        secret: tuple[str, ...] = (),
        name: str | None = None,
    ) -> Any:
        """A function that changes the world; `writes` answers the resources it changed, from its arguments by name and
        its result. See `Write`."""
        return self._declared(function, Write(writes, _names(secret)), name)

    def never(self, function: F) -> F:
        """A function that always runs and changes nothing that a read depends on. See `Never`."""
        return cast("F", self._declared(function, Never(), None))

    def _declared(self, function: F | None, effect: Effect, name: str | None) -> F | Callable[[F], F]:
        if function is None:
            return lambda later: cast("F", self._wrap(later, effect, name))
        return cast("F", self._wrap(function, effect, name))

    def _wrap(self, function: Callable[..., Any], effect: Effect, name: str | None) -> Callable[..., Any]:
        binding = binding_of(function, name)

        def tool_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation:
            arguments, owner = binding.bind(args, kwargs)
            return Invocation(binding.name, arguments, effect, owner, current_session(), self._actor)

        if binding.is_async:

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                return await carry_out(self._async, tool_call(args, kwargs), lambda: function(*args, **kwargs))

            return awaited

        from agentcache_core.runtime import drive

        @functools.wraps(function)
        def blocking(*args: Any, **kwargs: Any) -> Any:
            return drive(carry_out(self._blocking, tool_call(args, kwargs), lambda: function(*args, **kwargs)))

        return blocking

    # Calls by name

    def effect_of(self, name: str) -> Effect | None:
        """The effect declared for a tool's name in `effects`, None where undeclared."""
        return self._effects.get(name)

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | str,
        execute: Callable[..., Any],
        *,
        session: ToolSession | None = None,
    ) -> Any:
        """Call a tool known by name and JSON: `arguments` is a mapping, or the JSON text of one as models send it.

        `execute` runs it: called with nothing where it takes nothing, otherwise with the arguments. Its result is
        returned, and is what gets stored. An async `execute`, or tools of an `AsyncCache`, make the answer awaitable.
        """
        known = _parsed(arguments)
        call = Invocation(
            name, known, self._effects.get(name), "", session if session is not None else current_session(), self._actor
        )
        run = execute if _takes_nothing(execute) else functools.partial(execute, arguments if known is None else known)
        if self._awaits or inspect.iscoroutinefunction(execute):
            return carry_out(self._async, call, run)
        from agentcache_core.runtime import drive

        return drive(carry_out(self._blocking, call, run))

    def session(self, run_id: str, *, scope: Scope = "shared", actor: Actor = None) -> ToolSession:
        """One run of an agent: `with tools.session(run_id): agent.run()`. See `ToolSession`."""
        return ToolSession(run_id, scope=scope, actor=actor, call=self.call)


def _names(secret: tuple[str, ...] | str) -> tuple[str, ...]:
    if isinstance(secret, str):
        raise ConfigurationError(f"secret is a tuple of argument names: secret=({secret!r},)")
    return tuple(secret)


def _parsed(arguments: Mapping[str, Any] | str) -> Mapping[str, Any] | None:
    """The arguments as a mapping, None where the text is not the JSON of one (models do write such text)."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return arguments if isinstance(arguments, Mapping) else None


def _takes_nothing(execute: Callable[..., Any]) -> bool:
    try:
        inspect.signature(execute).bind()
    except TypeError:
        return False
    except ValueError:  # a builtin that tells nothing about its arguments
        return False
    return True
