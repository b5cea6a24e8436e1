"""Exact keys: what counts in a request, and the digest that stands for it."""

from agentcache_core.keys.body import KINDS, kind_of
from agentcache_core.keys.builder import KEY_SCHEME, Key, KeyBuilder
from agentcache_core.keys.denylist import DENYLIST_VERSION
from agentcache_core.keys.diff import FieldDiff, diff, nearest
from agentcache_core.keys.explain import Component, Explanation, explain
from agentcache_core.keys.requests import EmbeddingRequest, FunctionCall, HttpRequest, ToolCall

__all__ = [
    "DENYLIST_VERSION",
    "KEY_SCHEME",
    "KINDS",
    "Component",
    "EmbeddingRequest",
    "Explanation",
    "FieldDiff",
    "FunctionCall",
    "HttpRequest",
    "Key",
    "KeyBuilder",
    "ToolCall",
    "diff",
    "explain",
    "kind_of",
    "nearest",
]
