"""What one call asks of the cache in its `x-agentcache*` request headers, which never travel upstream."""

from __future__ import annotations

from dataclasses import dataclass

from agentcache_adapters.http.headers import CONTROL_PREFIX
from agentcache_adapters.http.messages import Headers


@dataclass(frozen=True, slots=True)
class Directives:
    """The wishes of one call, such as `x-agentcache: no-cache, max-age=60, sample=2`.

    The words are no-cache, no-store, refresh, only-if-cached, semantic, no-semantic, max-age=SECONDS and sample=N;
    `x-agentcache-ttl` and `x-agentcache-tags` (comma-separated) go to the entry that the call stores.
    """

    no_cache: bool = False
    no_store: bool = False
    refresh: bool = False
    only_if_cached: bool = False
    semantic: bool | None = None
    max_age: float | None = None
    sample: int | None = None
    ttl: str | None = None
    tags: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Whether this call may share an upstream call with others."""
        return not (self.no_cache or self.no_store or self.refresh)


def parse_directives(headers: Headers) -> Directives:
    """The directives in `headers`; words it does not know are listed in `unknown` and change nothing."""
    words: dict[str, str] = {}
    ttl: str | None = None
    tags: list[str] = []
    for name, value in headers:
        if name == CONTROL_PREFIX:
            for item in filter(None, (part.strip() for part in value.split(","))):
                word, _, argument = item.partition("=")
                words[word.strip().lower()] = argument.strip()
        elif name == f"{CONTROL_PREFIX}-ttl":
            ttl = value.strip() or None
        elif name == f"{CONTROL_PREFIX}-tags":
            tags += filter(None, (tag.strip() for tag in value.split(",")))
    unknown = [word for word in words if word not in _WORDS]
    max_age, sample = _number(words, "max-age", unknown), _number(words, "sample", unknown)
    return Directives(
        no_cache="no-cache" in words,
        no_store="no-store" in words,
        refresh="refresh" in words,
        only_if_cached="only-if-cached" in words,
        semantic=False if "no-semantic" in words else True if "semantic" in words else None,
        max_age=max_age,
        sample=None if sample is None else int(sample),
        ttl=ttl,
        tags=tuple(tags),
        unknown=tuple(unknown),
    )


_WORDS = frozenset(
    {"no-cache", "no-store", "refresh", "only-if-cached", "semantic", "no-semantic", "max-age", "sample"}
)


def _number(words: dict[str, str], name: str, unknown: list[str]) -> float | None:
    if name not in words:
        return None
    if words[name].isdigit():
        return float(words[name])
    unknown.append(f"{name}={words[name]}")
    return None
