"""Replaying recorded calls through a cache: what would have been answered, and what that would have saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from agentcache_adapters.cli.lines import BadLine
from agentcache_adapters.cli.logs import ModelCall, Record, ToolUse
from agentcache_adapters.cli.toolplay import ToolPlay
from agentcache_core import MISSING, Cache, Cost
from agentcache_core.errors import KeyingError, UnstorableValue
from agentcache_core.keys import EmbeddingRequest
from agentcache_core.keys.shown import shown
from agentcache_core.pricing import cost_of

NO_ANSWER: Final = "agentcache replay: no answer was recorded"
"""Stored for a call whose answer the log does not hold, so that its repetitions still count as hits."""

_MAX_POINTS: Final = 400
_MAX_NAMES: Final = 4_000


@dataclass(slots=True)
class Group:
    """What happened to the calls of one model or one tool."""

    calls: int = 0
    hits: int = 0
    saved: Cost = field(default_factory=Cost)


class Timeline:
    """How many of the calls were hits, over the order of the log; its memory is bounded by merging neighbours."""

    def __init__(self) -> None:
        self.width = 1
        self._points: list[list[int]] = []

    def add(self, hit: bool) -> None:
        """Append one call."""
        if not self._points or self._points[-1][0] == self.width:
            if len(self._points) == _MAX_POINTS:
                pairs = zip(self._points[::2], self._points[1::2], strict=True)
                self._points = [[a[0] + b[0], a[1] + b[1]] for a, b in pairs]
                self.width *= 2
            if not self._points or self._points[-1][0] == self.width:
                self._points.append([0, 0])
        self._points[-1][0] += 1
        self._points[-1][1] += hit

    def points(self) -> list[tuple[int, int]]:
        """(calls, hits) of each stretch of `width` calls, in order; the last may be shorter."""
        return [(calls, hits) for calls, hits in self._points]


class Frequent:
    """The things counted most often, each with a label; keeps at most some thousand (Misra and Gries, 1982).

    A count may be too low by the number of prunings, never too high, and what is frequent is always among those kept.
    """

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self._labels: dict[bytes, str] = {}

    def add(self, key: bytes, label: str) -> None:
        """Count one occurrence."""
        self._counts[key] += 1
        self._labels.setdefault(key, label)
        if len(self._counts) > _MAX_NAMES:
            self._counts = Counter({name: count - 1 for name, count in self._counts.items() if count > 1})
            self._labels = {name: self._labels[name] for name in self._counts}

    def most(self, number: int) -> list[tuple[str, int]]:
        """The labels counted more than once, most often first."""
        return [(self._labels[key], count) for key, count in self._counts.most_common(number) if count > 1]


@dataclass(slots=True)
class Tally:
    """Everything counted while replaying, summed over passes."""

    model_calls: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    wrong_hits: int = 0
    unanswered: int = 0
    failed: int = 0
    tool_calls: int = 0
    repeats: int = 0
    bad_lines: int = 0
    seconds: float = 0.0
    bytes_stored: int = 0
    bytes_served: int = 0
    saved: Cost = field(default_factory=Cost)
    models: dict[str, Group] = field(default_factory=dict)
    tools: dict[str, Group] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    sizes: Counter[int] = field(default_factory=Counter)
    frequent: Frequent = field(default_factory=Frequent)
    played: ToolPlay | None = None

    def to_dict(self) -> dict[str, Any]:
        """The shape that `agentcache replay --json` prints."""
        return {
            "model_calls": {
                "total": self.model_calls,
                "exact_hits": self.exact_hits,
                "wrong_hits": self.wrong_hits,
                **({"semantic_hits": self.semantic_hits} if self.semantic_hits else {}),
            },
            "tool_calls": {
                "total": self.tool_calls,
                "repeats": self.repeats,
                **(self.played.to_dict() if self.played is not None else {}),
            },
            "bytes": {"stored": self.bytes_stored, "served": self.bytes_served},
            "seconds": round(self.seconds, 3),
            "bad_lines": self.bad_lines,
        }


class Replayer:
    """Recorded calls put through one cache in order: a miss stores the recorded answer, a hit is compared with it."""

    def __init__(self, cache: Cache, tally: Tally) -> None:
        self._cache = cache
        self._tally = tally
        self._tools_seen: set[int] = (
            set()
        )  # 64 bits of each digest: at ten million calls a chance of 3e-6 to err by one

    def replay(self, records: Iterable[Record]) -> Iterator[BadLine]:
        """Put a log's records through the cache; yields what could not be used."""
        for record in records:
            try:
                if isinstance(record, ModelCall):
                    self._model_call(record)
                elif isinstance(record, ToolUse):
                    self._tool_use(record)
                else:
                    self._tally.bad_lines += 1
                    yield record
            except (KeyingError, UnstorableValue) as error:
                assert not isinstance(record, BadLine)
                self._tally.bad_lines += 1
                what = "request has no key" if isinstance(error, KeyingError) else "answer cannot be stored"
                yield BadLine(record.file, record.line, f"the {what}: {error}")

    def _model_call(self, call: ModelCall) -> None:
        tally = self._tally
        digest = self._cache.key(call.request).digest
        found = self._cache.lookup(call.request)
        hit = found is not None
        exact = found is not None and found.how == "exact"
        stored = MISSING if found is None else found.value
        tally.model_calls += 1
        tally.exact_hits += exact
        tally.semantic_hits += hit and not exact
        tally.timeline.add(hit)
        tally.frequent.add(digest, label_of(call.request))
        cost = recorded_cost(call)
        group = _group(tally.models, model_of(call.request))
        group.calls += 1
        if hit:
            known = call.response is not MISSING and not call.failed and stored != NO_ANSWER
            tally.wrong_hits += exact and known and stored != call.response
            group.hits += 1
            group.saved = group.saved + cost
            tally.saved = tally.saved + cost
        elif call.failed:
            tally.failed += 1
        else:
            tally.unanswered += call.response is MISSING
            self._store(call, NO_ANSWER if call.response is MISSING else call.response, cost)

    def _store(self, call: ModelCall, answer: Any, cost: Cost) -> None:
        before = self._cache.stats().bytes_stored
        self._cache.set(call.request, answer, cost=cost)
        size = self._cache.stats().bytes_stored - before
        self._tally.sizes[max(size, 1).bit_length()] += 1

    def _tool_use(self, use: ToolUse) -> None:
        digest = self._cache.key(use.call).digest
        short = int.from_bytes(digest[:8], "big")
        repeated = short in self._tools_seen
        self._tools_seen.add(short)
        self._tally.tool_calls += 1
        self._tally.repeats += repeated
        group = _group(self._tally.tools, use.call.name)
        group.calls += 1
        group.hits += repeated if self._tally.played is None else self._tally.played.play(use)
        self._tally.frequent.add(digest, f"{use.call.name}({_short(use.call.arguments)})")


def _group(groups: dict[str, Group], name: str) -> Group:
    if name not in groups and len(groups) >= _MAX_NAMES:
        name = "(others)"
    return groups.setdefault(name, Group())


def model_of(request: Any) -> str:
    """The model a request names, "unknown" where it names none."""
    if isinstance(request, EmbeddingRequest):
        return request.model
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) else "unknown"


def recorded_cost(call: ModelCall) -> Cost:
    """What the recorded answer says it cost, by the price book; nothing where it does not say."""
    usage = call.response.get("usage") if isinstance(call.response, dict) else None
    if not isinstance(usage, dict):
        return Cost()
    named = call.response.get("model")
    model = named if isinstance(named, str) else model_of(call.request)
    provider = call.request.get("provider") if isinstance(call.request, dict) else None
    if not isinstance(provider, str):
        provider = "anthropic" if model.startswith("claude") else "openai"
    return cost_of(provider, model, usage)


def label_of(request: Any) -> str:
    """A request in one short line: its last text."""
    if isinstance(request, EmbeddingRequest):
        return f"embedding of {_short(request.input)}"
    if not isinstance(request, dict):
        return _short(request)
    messages = request.get("messages", request.get("input", request))
    last = messages[-1] if isinstance(messages, list) and messages else messages
    content = last.get("content", last) if isinstance(last, dict) else last
    role = f"{last.get('role')}: " if isinstance(last, dict) and "role" in last else ""
    count = f" ({len(messages)} messages)" if isinstance(messages, list) else ""
    return f"{role}{_short(content)}{count}"


def _short(value: Any) -> str:
    return shown(value, width=100)
