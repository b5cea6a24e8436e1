"""How a decorated function becomes a named tool call: its name, its arguments by name, and whose method it is."""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentcache_core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Binding:
    """A function seen as a tool. `name` is its module and qualified name unless given; `is_method` that its first
    parameter is the object it belongs to, which is told apart by `identity_of` and is no argument."""

    name: str
    signature: inspect.Signature
    is_method: bool
    is_async: bool

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """The arguments by name, defaults filled in and `**kwargs` among the others, and the owner's identity.

        Raises `TypeError` as the call itself would.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        owner = ""
        for position, (name, value) in enumerate(bound.arguments.items()):
            if position == 0 and self.is_method:
                owner = identity_of(value)
            elif self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(value)
            else:
                arguments[name] = value
        return arguments, owner


def binding_of(function: Callable[..., Any], name: str | None) -> Binding:
    """Look at a function once, at decoration. `ConfigurationError` for what has no single result to store."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{function.__qualname__} is a generator: its items are gone once read. Return a list, or declare it never"
        )
    if isinstance(function, classmethod | staticmethod):
        raise ConfigurationError("put @classmethod or @staticmethod above the tool's declaration, not below it")
    signature = inspect.signature(function)
    first = next(iter(signature.parameters), "")
    in_class = "." in function.__qualname__.rpartition("<locals>.")[2]
    return Binding(
        name or f"{function.__module__}.{function.__qualname__}",
        signature,
        in_class and first in ("self", "cls"),
        inspect.iscoroutinefunction(function),
    )


_identities: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_identities_lock = threading.Lock()


def identity_of(owner: Any) -> str:
    """What tells the object a method belongs to from others: two that differ never share a result.

    A class is its name. An object says it itself with an attribute `cache_identity` (a string; the same string means
    interchangeable, in any process). Any other object shares with nobody: it gets a random identity of its own.
    """
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    declared = getattr(owner, "cache_identity", None)
    kind = f"{type(owner).__module__}.{type(owner).__qualname__}"
    if isinstance(declared, str):
        return f"{kind}:{declared}"
    try:
        with _identities_lock:
            own = _identities.get(owner)
            if own is None:
                own = _identities[owner] = os.urandom(16).hex()
    except TypeError:  # neither hashable nor weakly referable: no identity lasts longer than this call
        own = os.urandom(16).hex()
    return f"{kind}#{own}"
