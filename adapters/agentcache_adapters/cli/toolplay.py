"""Playing the tool calls of a log through declared effects: which would have been answered, and which rightly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentcache_adapters.cli.logs import ToolUse
from agentcache_core import MISSING, Cache, Computed
from agentcache_core.tools import Pure, Read, Tools, ToolSession
from agentcache_core.tools.session import Scope


class ToolPlay:
    """Recorded tool calls put through `cache.tools(effects=…)` in order. Every line of a log is a run of its own.

    `cacheable` counts the calls of pure and reading tools whose result is recorded, `hits` those answered from the
    cache, `wrong_hits` the hits that differ from the record.
    """

    def __init__(self, cache: Cache, effects: str, scope: Scope) -> None:
        self._tools: Tools = cache.tools(effects=effects)
        self._scope = scope
        self._run: tuple[str, int] | None = None
        self._session: ToolSession = self._tools.session("", scope=scope)
        self.cacheable = 0
        self.hits = 0
        self.wrong_hits = 0

    def begin_pass(self) -> None:
        """Begin the log anew: every run starts again in the world it started in."""
        self._run = None

    def play(self, use: ToolUse) -> bool:
        """Put one call through; answers whether it was a hit."""
        if self._run != (use.file, use.line):
            self._run = (use.file, use.line)
            self._session = self._tools.session(f"{use.file}:{use.line}", scope=self._scope)
        recorded = use.result is not MISSING
        ran: list[bool] = []
        answer = self._session.call(use.call.name, use.call.arguments, _recorded(use.result, ran))
        if not recorded or not isinstance(self._tools.effect_of(use.call.name), Pure | Read):
            return False
        hit = not ran
        self.cacheable += 1
        self.hits += hit
        self.wrong_hits += hit and answer != use.result
        return hit

    def to_dict(self) -> dict[str, int]:
        """What `agentcache replay --json` adds to `tool_calls`."""
        return {"cacheable": self.cacheable, "hits": self.hits, "wrong_hits": self.wrong_hits}


def _recorded(result: Any, ran: list[bool]) -> Callable[[], Any]:
    """The tool as the log knows it: it answers what it answered then. A result nobody recorded is not stored."""

    def execute() -> Any:
        ran.append(True)
        return Computed(None, store=False, reason="no result was recorded") if result is MISSING else result

    return execute
