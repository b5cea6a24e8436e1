"""On real agent runs, what do caches save at how many wrong answers: model turns, tool calls, and a second day of both?

The airline trajectories (gpt-4o, 100 runs) are played twice. Model turns ask the whole conversation so far; tool calls
are put through declared effects, each run in a world of its own. Beside it: LiteLLM's own key, at its default gate and
with the gate lifted, GPTCache's default key where it is installed, and a cache of tool results by name and arguments,
as agents' memoizers keep them.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from agentcache_core import MISSING, Cache
from benchmarks.harness import Report, Row, Settings
from benchmarks.workload import data_folder

FILE = "agent_trajectories_airline.jsonl.gz"
EFFECTS = Path(__file__).resolve().parents[2] / "examples" / "airline-effects.toml"
PASSES = 2

Run = list[dict[str, Any]]
ModelCache = tuple[Callable[[dict[str, Any]], Any], Callable[[dict[str, Any], Any], None]]


def runs_in(path: Path, *, limit: int | None) -> list[Run]:
    """The conversations of a file of trajectories."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["traj"] for _, line in zip(range(limit or 10**9), lines, strict=False)]


def turns(run: Run) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every model call of a run: the request, and the message that was answered."""
    for at, message in enumerate(run):
        if message["role"] == "assistant":
            yield {"provider": "openai", "model": "gpt-4o", "messages": run[:at]}, message


def tool_calls(run: Run) -> Iterator[tuple[str, str, Any]]:
    """Every tool call of a run: name, arguments as the model wrote them, and the result, found by position."""
    for at, message in enumerate(run):
        for offset, call in enumerate(message.get("tool_calls") or [], start=1):
            yield call["function"]["name"], call["function"]["arguments"], run[at + offset]["content"]


def judge_models(runs: list[Run], cache: ModelCache) -> tuple[int, int, int]:
    """(calls, hits, wrong hits) of all passes."""
    get, put = cache
    calls = hits = wrong = 0
    for _ in range(PASSES):
        for run in runs:
            for request, answer in turns(run):
                calls += 1
                found = get(request)
                if found is None:
                    put(request, answer)
                else:
                    hits += 1
                    wrong += found != answer
    return calls, hits, wrong


def judge_tools(runs: list[Run], call: Callable[[int, str, str, Callable[[], Any]], Any]) -> tuple[int, int, int]:
    """(calls, hits, wrong hits) of all passes; `call` is told in which run of which pass it is."""
    calls = hits = wrong = 0
    for number, run in enumerate(runs * PASSES):
        for name, arguments, result in tool_calls(run):
            ran: list[bool] = []
            answer = call(number, name, arguments, lambda ran=ran, result=result: ran.append(True) or result)
            calls += 1
            hits += not ran
            wrong += answer != result
    return calls, hits, wrong


def ours(cache: Cache) -> ModelCache:
    """Exact keys."""

    def get(request: dict[str, Any]) -> Any:
        found = cache.get(request)
        return None if found is MISSING else found

    return get, cache.set


def litellms(*, max_messages: int | None) -> ModelCache:
    """LiteLLM's local cache behind its own key; conversations longer than `max_messages` never reach it."""
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):
        from litellm.caching.caching import Cache as LiteLLMCache
        from litellm.types.caching import LiteLLMCacheType
    keys = LiteLLMCache(type=LiteLLMCacheType.LOCAL)
    stored: dict[str, Any] = {}

    def key(request: dict[str, Any]) -> str | None:
        if max_messages is not None and len(request["messages"]) > max_messages:
            return None
        named: str = keys.get_cache_key(**{name: value for name, value in request.items() if name != "provider"})
        return named

    def get(request: dict[str, Any]) -> Any:
        named = key(request)
        return None if named is None else stored.get(named)

    def put(request: dict[str, Any], answer: Any) -> None:
        named = key(request)
        if named is not None:
            stored[named] = answer

    return get, put


def gptcaches() -> ModelCache:
    """GPTCache's map cache behind its default key: the text of the last message alone."""
    from gptcache.manager.factory import get_data_manager
    from gptcache.processor.pre import last_content

    stored = get_data_manager(max_size=100_000)

    def get(request: dict[str, Any]) -> Any:
        found = stored.search(str(last_content(request)))
        return found[0][1] if found else None

    def put(request: dict[str, Any], answer: Any) -> None:
        key = str(last_content(request))
        stored.save(key, answer, key)

    return get, put


def declared(cache: Cache) -> Callable[[int, str, str, Callable[[], Any]], Any]:
    """Tools with declared effects, every run in a world of its own."""
    tools = cache.tools(effects=EFFECTS)
    sessions: dict[int, Any] = {}

    def call(run: int, name: str, arguments: str, execute: Callable[[], Any]) -> Any:
        if run not in sessions:
            sessions.clear()
            sessions[run] = tools.session(str(run), scope="session")
        return sessions[run].call(name, arguments, execute)

    return call


def memoized() -> Callable[[int, str, str, Callable[[], Any]], Any]:
    """Every tool result by name and parsed arguments, whatever the tool does."""
    stored: dict[tuple[str, str], Any] = {}

    def call(run: int, name: str, arguments: str, execute: Callable[[], Any]) -> Any:
        key = (name, json.dumps(json.loads(arguments), sort_keys=True))
        if key not in stored:
            stored[key] = execute()
        return stored[key]

    return call


def run(settings: Settings) -> Report:
    folder = data_folder()
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        reason = f"{FILE} is not here; name its folder in AGENTCACHE_BENCH_DATA"
        return Report(_question(), "%", (Row("nothing measured", 0.0, note=reason),), left_out={"everything": reason})
    runs = runs_in(path, limit=4 if settings.small else None)
    rows: list[Row] = []
    left_out: dict[str, str] = {}

    def tell(name: str, judged: tuple[int, int, int]) -> None:
        calls, hits, wrong = judged
        rows.append(Row(f"{name}: answered", 100 * hits / calls, note=f"{hits} of {calls}"))
        rows.append(Row(f"{name}: wrong, of those answered", 100 * wrong / hits if hits else 0.0, note=str(wrong)))

    with Cache("memory://?max_bytes=1GB", background=False, maintenance="manual") as cache:
        tell("model turns, agentcache", judge_models(runs, ours(cache)))
        tell("tool calls, agentcache with declared effects", judge_tools(runs, declared(cache)))
    try:
        tell("model turns, LiteLLM at its default gate of 4 messages", judge_models(runs, litellms(max_messages=4)))
        tell("model turns, LiteLLM with the gate lifted", judge_models(runs, litellms(max_messages=None)))
    except ImportError as error:
        left_out["LiteLLM"] = f"not installed: {error.name}"
    try:
        tell("model turns, GPTCache by its default key", judge_models(runs, gptcaches()))
    except ImportError as error:
        left_out["GPTCache"] = f"not installed: {error.name}"
    tell("tool calls, by name and arguments", judge_tools(runs, memoized()))
    return Report(_question(), "%", tuple(rows), (), left_out, {"passes": PASSES, "runs": len(runs)})


def _question() -> str:
    return (__doc__ or "").splitlines()[0]
