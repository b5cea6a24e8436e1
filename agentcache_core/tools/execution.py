"""How a tool call is carried out: pure and reads may be answered from the cache, writes always run and drop reads.

A shared world: a write takes a mark on its resources, drops what was read of them, executes, drops once more (what
was read while it ran), and clears the mark; a read of a marked resource runs and is not stored. Dropping before as
well as after means that a writer that dies in between leaves nothing behind but a mark that expires. A private world
(`scope="session"`) needs none of that: a read's key holds the history of the run's writes.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentcache_core.errors import CacheClosed, KeyingError
from agentcache_core.keys import ToolCall
from agentcache_core.model import MISSING, Computed
from agentcache_core.tools.effects import Arguments, Effect, Never, Pure, Read, Write
from agentcache_core.tools.ports import Port
from agentcache_core.tools.session import Actor, ToolSession, open_sandboxes

EVERYTHING = "resource:*"  # the tag of every read of a shared world
UNNAMED = "resource:?"  # the tag of reads that name no resources, which any write drops


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call: the tool's name, its arguments by name (None where they could not be read), its declared effect (None
    where undeclared), the object it is a method of, the run it belongs to, and on whose behalf it is made."""

    name: str
    arguments: Arguments | None
    effect: Effect | None
    owner: str = ""
    session: ToolSession | None = None
    actor: Actor = None

    @property
    def open_arguments(self) -> Arguments:
        """The arguments without the secret ones: all that resource names may be made of."""
        secret = () if isinstance(self.effect, Never | None) else self.effect.secret
        return {name: value for name, value in (self.arguments or {}).items() if name not in secret}


class _Busy:
    """What this process is doing right now: writes under way, and reads in flight. Digests tell caches apart."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: also called in a forked child, where no other call survived."""
        self.lock = threading.Lock()
        self.marks = Counter[bytes]()
        self.changes = 0
        self.reading: dict[bytes, int] = {}

    def began_or_ended_write(self, marks: Sequence[bytes], count: int) -> None:
        with self.lock:
            self.changes += 1
            self.marks.update(dict.fromkeys(marks, count))
            for mark in marks:
                if not self.marks[mark]:
                    del self.marks[mark]


_busy = _Busy()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_busy.reset)


async def carry_out(port: Port, call: Invocation, execute: Callable[[], Any]) -> Any:
    """Answer one tool call, from the cache where its effect allows it, by executing it otherwise."""
    effect = call.effect
    if isinstance(effect, Pure | Read):
        return await _answer(port, call, effect, execute)
    if isinstance(effect, Write):
        return await _write(port, call, effect, execute)
    port.bypassed("never" if isinstance(effect, Never) else "undeclared", call.name)
    if effect is None and call.session is not None and call.session.scope == "session":
        return await _change_sandbox(port, call, call.session, execute)
    return await port.run(execute)


async def _answer(port: Port, call: Invocation, effect: Pure | Read, execute: Callable[[], Any]) -> Any:
    session = call.session
    if isinstance(effect, Read) and session is None and open_sandboxes():
        return await _uncached(port, call, "outside_run", execute)
    try:
        history = session.history if session is not None else b""
        request = _request(port, call, _world(effect, session))
        digest = port.digest(request)
        resources = _named(effect, call.open_arguments)
    except KeyingError as error:
        return await _uncached(port, call, f"unkeyable arguments: {error.path}", execute)
    except CacheClosed:
        raise
    except Exception as error:  # noqa: BLE001 - a fault in a declaration or an actor must not become the agent's
        return await _uncached(port, call, f"declaration_failed: {type(error).__name__}", execute)
    if isinstance(effect, Pure):
        return await _shared(port, call, effect, request, digest, [], [], execute)
    if session is not None and session.scope == "session":
        return await _sandboxed(port, call, effect, session, request, history, execute)
    tags = [EVERYTHING, *(f"resource:{resource}" for resource in resources)] if resources else [EVERYTHING, UNNAMED]
    marks = _marks(port, tags)
    return await _shared(port, call, effect, request, digest, tags, marks, execute)


async def _uncached(port: Port, call: Invocation, reason: str, execute: Callable[[], Any]) -> Any:
    port.bypassed(reason, call.name)
    return await port.run(execute)


async def _shared(
    port: Port,
    call: Invocation,
    effect: Pure | Read,
    request: Any,
    digest: bytes,
    tags: Sequence[str],
    marks: Sequence[bytes],
    execute: Callable[[], Any],
) -> Any:
    remote = marks if isinstance(effect, Read) and effect.coherent else ()

    async def being_written() -> bool:
        return any(_busy.marks.get(mark) for mark in marks) or (bool(remote) and await port.marked(remote))

    if marks and await being_written():
        return await _uncached(port, call, "write_in_progress", execute)
    if remote:
        port.confirm()
    caught: list[Exception] = []
    outdated = _busy.reading.get(digest, _busy.changes) != _busy.changes

    async def compute() -> Any:
        with _busy.lock:
            began = _busy.reading[digest] = _busy.changes
        try:
            value = await _outcome(port, effect, execute, caught)
        finally:
            with _busy.lock:
                if _busy.reading.get(digest) == began:
                    del _busy.reading[digest]
        if marks and await being_written():
            return _not_stored(value, "write_in_progress")
        return value

    stored = await port.get_or_compute(request, compute, ttl=effect.ttl, tags=tags, fresh=outdated)
    return _opened(effect, stored, caught)


async def _sandboxed(
    port: Port,
    call: Invocation,
    effect: Read,
    session: ToolSession,
    request: Any,
    history: bytes,
    execute: Callable[[], Any],
) -> Any:
    """A private world. No single flight: another run's computation may be overtaken by that run's own next write."""
    if session.writing:
        return await _uncached(port, call, "write_in_progress", execute)
    caught: list[Exception] = []
    stored = await port.find(request)
    if stored is MISSING:
        outcome = await _outcome(port, effect, execute, caught)
        stored = outcome.value if isinstance(outcome, Computed) else outcome
        if not isinstance(outcome, Computed) and session.history == history and not session.writing:
            await port.store(request, outcome, ttl=effect.ttl, tags=())
    return _opened(effect, stored, caught)


async def _write(port: Port, call: Invocation, effect: Write, execute: Callable[[], Any]) -> Any:
    session = call.session
    if session is not None and session.scope == "session":
        return await _change_sandbox(port, call, session, execute)
    if session is None:
        for sandbox in open_sandboxes():
            sandbox.diverge()
    before = _changed(effect, call, None)
    marks = _marks(port, [f"resource:{resource}" for resource in before] if before else [EVERYTHING])
    token = os.urandom(16).hex()
    _busy.began_or_ended_write(marks, 1)
    try:
        await port.mark(marks, token)
        await port.invalidate(_dropped(before))
        after: frozenset[str] | None = before
        try:
            result = await port.run(execute)
            after = _changed(effect, call, result)
        finally:
            await port.invalidate(_dropped(before | after if before is not None and after is not None else None))
            await port.unmark(marks, token)
    finally:
        _busy.began_or_ended_write(marks, -1)
    return result


async def _change_sandbox(port: Port, call: Invocation, session: ToolSession, execute: Callable[[], Any]) -> Any:
    try:
        step = None if call.arguments is None else port.digest(_request(port, call, "write"))
    except Exception:  # noqa: BLE001 - a call without a digest is still a change; the run then shares nothing more
        step = None
    session.begin_write(step)
    try:
        return await port.run(execute)
    finally:
        session.end_write()


def _changed(effect: Write, call: Invocation, result: Any) -> frozenset[str] | None:
    """The resources a write names, None for everything: when it names none, or cannot."""
    if effect.writes is None or call.arguments is None:
        return None
    try:
        return frozenset(effect.writes(call.open_arguments, result)) or None
    except Exception:  # noqa: BLE001 - before the result exists, or for arguments nobody thought of
        return None


def _dropped(resources: frozenset[str] | None) -> list[str]:
    return [EVERYTHING] if resources is None else [UNNAMED, *(f"resource:{name}" for name in sorted(resources))]


def _named(effect: Pure | Read, arguments: Arguments) -> list[str]:
    if isinstance(effect, Pure) or effect.reads is None:
        return []
    return [str(resource) for resource in effect.reads(arguments)]


def _marks(port: Port, tags: Sequence[str]) -> list[bytes]:
    """The names of the write marks of these tags: digests, so that they tell tenants and namespaces apart."""
    return [port.digest({"write mark": tag}) for tag in tags]


def _world(effect: Effect | None, session: ToolSession | None) -> str:
    """What the result depends on beside the call: nothing, the shared world, or the run's private one."""
    if isinstance(effect, Pure):
        return ""
    return "shared" if session is None or session.scope == "shared" else f"private {session.history.hex()}"


def _request(port: Port, call: Invocation, world: str) -> ToolCall:
    """What identifies the call: everything that can change its result, secrets by keyed hash."""
    if call.arguments is None:
        raise KeyingError("the arguments are not a JSON object", path="arguments")
    effect = call.effect
    arguments = dict(call.arguments)
    for name in () if isinstance(effect, Never | None) else effect.secret:
        if name in arguments:
            arguments[name] = {"keyed hash": port.digest({"secret": arguments[name]}).hex()}
    actor = call.session.actor if call.session is not None and call.session.actor is not None else call.actor
    who = actor() if callable(actor) else actor
    version = effect.version if isinstance(effect, Pure | Read) else ""
    distinct = [version, call.owner, world]
    return ToolCall(call.name, arguments, None if who is None else str(who), json.dumps(distinct))


async def _outcome(port: Port, effect: Pure | Read, execute: Callable[[], Any], caught: list[Exception]) -> Any:
    """What is to be stored. Where errors may be answers, results and errors are told apart by a wrapping tuple; the
    error itself goes to `caught`, so that the caller who met it sees it with its own traceback."""
    errors = effect.cache_errors if isinstance(effect, Read) else ()
    if not errors:
        return await port.run(execute)
    try:
        result = await port.run(execute)
    except errors as error:
        if not _rebuilds(error):
            raise
        caught.append(error)
        return ("error", _kind_name(type(error)), error.args)
    if isinstance(result, Computed):
        return replace(result, value=("result", result.value))
    return ("result", result)


def _kind_name(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _rebuilds(error: Exception) -> bool:
    """Whether the class makes an equal exception out of the arguments alone, which are all that is stored."""
    try:
        twin = type(error)(*error.args)
        return bool(twin.args == error.args and vars(twin) == vars(error))
    except Exception:  # noqa: BLE001 - a foreign class may do anything in its constructor
        return False


def _opened(effect: Pure | Read, stored: Any, caught: list[Exception]) -> Any:
    """The stored outcome as the caller sees it: a result is returned, an error raised."""
    if caught:
        raise caught[0]
    errors = effect.cache_errors if isinstance(effect, Read) else ()
    if not errors:
        return stored
    if stored[0] == "result":
        return stored[1]
    pending = list(errors)
    while pending:
        kind = pending.pop()
        if _kind_name(kind) == stored[1]:
            raise kind(*stored[2])
        pending += kind.__subclasses__()
    raise errors[0](*stored[2])


def _not_stored(value: Any, reason: str) -> Computed:
    return Computed(value.value if isinstance(value, Computed) else value, store=False, reason=reason)
