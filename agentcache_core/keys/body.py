"""What counts of a request, in the order in which it counts: the fields after scheme, tenant and namespace.

The messages come last, so that a growing conversation extends the bytes of the shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentcache_core.errors import KeyingError
from agentcache_core.keys.denylist import PROVIDERS
from agentcache_core.keys.lowering import Typing
from agentcache_core.keys.requests import EmbeddingRequest, FunctionCall, HttpRequest, ToolCall
from agentcache_core.keys.volatile import as_mapping, normalized

KINDS: Final = ("chat", "embedding", "tool", "http", "function", "text", "generic")

GENERIC: Final = "generic"
"""The provider of a request that names none."""

Body = tuple[str, list[Any], Typing]
"""The kind, the fields that count, and how far Python types count in them."""

_CHAT_NAMES: Final = ("kind", "provider", "sample", "", "", "tools", "attachments")
_NAMES: Final = {
    "chat": _CHAT_NAMES,
    "embedding": ("kind", "provider", "sample", "model", "parameters", "input"),
    "tool": ("kind", "provider", "sample", "name", "version", "actor", "arguments"),
    "http": ("kind", "provider", "sample", "method", "url", "headers", "credential", "body"),
    "function": ("kind", "provider", "sample", "name", "version", "kwargs", "args"),
    "text": ("kind", "provider", "sample", "key"),
    "generic": ("kind", "provider", "sample", ""),
}


def kind_of(request: object) -> str:
    """The kind of a request, one of `KINDS`; `KeyingError` for what is no request."""
    if isinstance(request, (str, bytes, bytearray, memoryview)):
        return "text"
    for cls, kind in _MARKED:
        if isinstance(request, cls):
            return kind
    return _kind_of_mapping(request if isinstance(request, dict) else request_mapping(request))


_MARKED: Final = (
    (ToolCall, "tool"),
    (HttpRequest, "http"),
    (FunctionCall, "function"),
    (EmbeddingRequest, "embedding"),
)


def _kind_of_mapping(request: Mapping[Any, Any]) -> str:
    return "chat" if "model" in request and ("messages" in request or "input" in request) else "generic"


def request_mapping(request: object) -> dict[Any, Any]:
    """A request given as a model, a dataclass or another mapping, as a dict."""
    mapping = as_mapping(request)
    if mapping is None:
        raise KeyingError(
            "a request is a str, bytes, a mapping, a dataclass, a model, ToolCall, HttpRequest, FunctionCall or "
            f"EmbeddingRequest, not {type(request).__name__}"
        )
    return mapping


def body_of(request: object, sample: int = 0) -> Body:
    """What counts of any request."""
    if isinstance(request, (str, bytes)):
        return "text", ["text", GENERIC, sample, request], Typing.WIRE
    if isinstance(request, ToolCall):
        named = [request.name, request.version, request.actor, request.arguments]
        return "tool", ["tool", GENERIC, sample, *named], Typing.WIRE
    if isinstance(request, HttpRequest):
        sent = [request.method, request.url, request.sorted_headers(), request.credential, request.body]
        return "http", ["http", GENERIC, sample, *sent], Typing.WIRE
    if isinstance(request, FunctionCall):
        called = [request.name, request.version, dict(request.kwargs), list(request.args)]
        return "function", ["function", GENERIC, sample, *called], Typing.EXACT
    if isinstance(request, EmbeddingRequest):
        parameters = counted_parameters(dict(request.parameters), request.provider)
        asked = [request.model, parameters, request.input]
        return "embedding", ["embedding", request.provider, sample, *asked], Typing.WIRE
    if isinstance(request, (bytearray, memoryview)):
        return "text", ["text", GENERIC, sample, bytes(request)], Typing.WIRE
    return mapping_body(request_mapping(request), sample)


def mapping_body(request: dict[Any, Any], sample: int = 0) -> Body:
    """What counts of a request given as a mapping: a model call, or anything else."""
    parameters = request.copy()
    provider = parameters.pop("provider", GENERIC)
    if type(provider) is not str:
        raise KeyingError(f"must be a str, got {type(provider).__name__}", path="provider")
    if "model" not in request:
        return "generic", ["generic", provider, sample, parameters], Typing.PLAIN
    if "messages" in request:
        shape = "messages"
    elif "input" in request:
        shape = "input"
    else:
        return "generic", ["generic", provider, sample, parameters], Typing.PLAIN
    messages = parameters.pop(shape)
    if isinstance(messages, (list, tuple)):
        messages = normalized(messages, shape)
        shape += "[]"
    else:
        messages = [messages]
    if provider in PROVIDERS:
        parameters = counted_parameters(parameters, provider)
    tools = parameters.pop("tools") if parameters.get("tools") is not None else None
    attachments = parameters.pop("attachments") if parameters.get("attachments") is not None else None
    return "chat", ["chat", provider, sample, shape, parameters, tools, attachments, *messages], Typing.WIRE


def path_of(body: Body, index: int) -> str:
    """Where in the request field `index` of its body stands, for an error to name."""
    kind, fields, _ = body
    names = _NAMES[kind]
    if index < len(names):
        return names[index]
    shape = str(fields[3])
    return f"{shape[:-2]}[{index - len(names)}]" if shape.endswith("[]") else shape


_Deep = dict[str, tuple[tuple[str, ...], ...]]


def _compiled(provider: str) -> tuple[frozenset[str], frozenset[str], _Deep]:
    """A provider's rules: all names at the top that they touch, those left out, the paths left out below the others."""
    top = set()
    deep: dict[str, list[tuple[str, ...]]] = {}
    for rule in PROVIDERS[provider]:
        first, *rest = rule.path.replace("[*]", ".*").split(".")
        if rest:
            deep.setdefault(first, []).append(tuple(rest))
        else:
            top.add(first)
    return frozenset(top | deep.keys()), frozenset(top), {first: tuple(paths) for first, paths in deep.items()}


_RULES: Final = {provider: _compiled(provider) for provider in PROVIDERS}


def counted_parameters(parameters: dict[Any, Any], provider: str) -> dict[Any, Any]:
    """The parameters of a model call without what the provider's deny-list names. Changes and returns `parameters`."""
    if provider not in _RULES:
        return parameters
    names, top, deep = _RULES[provider]
    if names.isdisjoint(parameters):
        return parameters
    for name in top.intersection(parameters):
        del parameters[name]
    for name in deep.keys() & parameters.keys():
        for path in deep[name]:
            parameters[name] = _without(parameters[name], path)
    return parameters


def _without(value: Any, path: tuple[str, ...]) -> Any:
    """`value` without what stands at `path` below it; copied where something was taken away."""
    first, *rest = path
    if first == "*":
        return [_without(item, tuple(rest)) for item in value] if isinstance(value, (list, tuple)) else value
    mapping = value if type(value) is dict else as_mapping(value)
    if mapping is None or first not in mapping:
        return value
    if rest:
        return {**mapping, first: _without(mapping[first], tuple(rest))}
    return {name: item for name, item in mapping.items() if name != first}
