"""How a call finds its way through a cluster: to the primary of its slot, after whoever has taken the slot over, and
back within its time. Written once for both faces, which bring the ways to the nodes (`Ways`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

import redis.exceptions as theirs
from hiredis import ReplyError, pack_command

from agentcache_backends.redis.asks import Ask, ask
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.slots import (
    NOWHERE,
    Node,
    Standing,
    Topology,
    bits,
    redirect_of,
    slot_of,
    standing_of,
    topology_of,
)
from agentcache_backends.redis.trouble import ours
from agentcache_core.errors import BackendError, BackendUnavailable

T = TypeVar("T")
_ASKING: Final = pack_command(("ASKING",))
_WHO: Final = ask([(b"CLUSTER", b"SLOTS")], lambda replies: replies[0], again=True)
_STANDING: Final = ask([(b"CLUSTER", b"NODES")], lambda replies: standing_of(replies[0]), again=True)
_MOST_TURNS: Final = 24
_PAUSE: Final = 0.01  # between asking again where a slot is just on its way
_LOOK_AGAIN: Final = 1.0  # slots that move one after another are followed one by one, not by a look at all each time
_REFUSALS: Final = (theirs.AuthenticationError, theirs.ResponseError, ReplyError)


class Errand(NamedTuple):
    """What is sent to one node in one go; `again` as in `Ask`."""

    node: Node
    packed: bytes
    replies: int
    again: bool = True


class Trouble(NamedTuple):
    """Why an errand came to nothing: before it was `sent` or after, and whether on a connection that `was_open`."""

    error: BaseException
    sent: bool
    was_open: bool


Outcome = list[Any] | Trouble  # the replies, errors that Redis answered among them


class Ways(Protocol):
    """How a face reaches the nodes. `until` is the monotonic time to be back at; None leaves it to the timeouts."""

    async def exchange(self, errands: Sequence[Errand], until: float | None) -> list[Outcome]: ...
    async def pause(self, seconds: float) -> None: ...


@dataclass(slots=True, eq=False)
class Part(Generic[T]):
    """What one slot is asked as part of a call, or (slot -1) one node.

    `pieces` makes the parts to ask instead when its keys cannot be asked for together, because their slot is on its
    way to another node; they are then in `divided`. `asking`: this once at `node`, which does not own the slot yet.
    """

    ask: Ask[T]
    slot: int
    node: Node | None = None
    pieces: Callable[[], list[Part[T]]] | None = None
    asking: bool = False
    failed: tuple[Node, Trouble] | None = None
    divided: list[Part[T]] = field(default_factory=list)
    answer: T | None = None

    @property
    def packed(self) -> bytes:
        if not self.asking:
            return self.ask.packed
        return b"".join(_ASKING + command for command in self.ask.each)  # it holds for one command

    @property
    def replies(self) -> int:
        return self.ask.replies * 2 if self.asking else self.ask.replies

    def answers(self) -> Iterator[T]:
        """The answer, or those of its pieces in order."""
        if self.divided:
            for part in self.divided:
                yield from part.answers()
        else:
            yield cast("T", self.answer)


def part_of(ask: Ask[T], pieces: Callable[[], list[Part[T]]] | None = None) -> Part[T]:
    """The part that asks whoever holds the ask's first key."""
    return Part(ask, slot_of(ask.key), pieces=pieces)


class Cluster:
    """What one backend knows of its cluster, shared by its threads or tasks: nothing here is locked, since every
    value is replaced as a whole and whatever is outdated is put right by the next node that is asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._patience = settings.timeout + settings.connect_timeout
        self._seeds = settings.seeds
        self._suspects: set[Node] = set()
        self._told_by: Node | None = None
        self._learned_at = self._busy_until = 0.0
        self.topology: Topology = NOWHERE
        self.doubtful = True
        """Whether the topology is to be learned before it is next relied on."""

    async def perform(self, parts: Sequence[Part[Any]], ways: Ways) -> None:
        """Bring every part its answer. Raises a `BackendError`, no later than `timeout` plus `connect_timeout`."""
        until = time.monotonic() + self._patience
        pending, turn = list(parts), 0
        while pending:
            if turn >= _MOST_TURNS or (turn and time.monotonic() >= until):
                raise self._gave_up(pending)
            if turn > 2:
                await ways.pause(_PAUSE)
            if self.doubtful:
                await self._look(ways, until)
            by_node = self._sorted(pending)
            errands = [_errand(node, asked) for node, asked in by_node.items()]
            outcomes = await ways.exchange(errands, until if turn or len(errands) > 1 else None)
            pending = []
            for (node, asked), outcome in zip(by_node.items(), outcomes, strict=True):
                pending += self._judged(node, asked, outcome)
            turn += 1

    def _sorted(self, pending: Iterable[Part[Any]]) -> dict[Node, list[Part[Any]]]:
        """The parts by the node they are for. Raises the trouble of a part that would only meet it again."""
        by_node: dict[Node, list[Part[Any]]] = {}
        for part in pending:
            node = part.node or self.topology.owners[part.slot]
            if node is None:
                raise BackendUnavailable(f"Redis at {self._settings.shown}: no node of the cluster serves its slot")
            if part.failed is not None:
                where, trouble = part.failed
                if where == node and not _had_closed(trouble):
                    raise self.ours(trouble.error, node) from trouble.error
            by_node.setdefault(node, []).append(part)
        return by_node

    def _judged(self, node: Node, parts: list[Part[Any]], outcome: Outcome) -> list[Part[Any]]:
        """Give the parts their answers; those that are to be asked once more are returned. Raises what is final."""
        if isinstance(outcome, Trouble):
            return self._troubled(node, parts, outcome)
        self._suspects.discard(node)
        again: list[Part[Any]] = []
        final: ReplyError | None = None
        start = 0
        for part in parts:
            replies = outcome[start : start + part.replies]
            start += part.replies
            if part.asking:
                replies = replies[1::2]
            error = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if error is None:
                part.answer = part.ask.parse(replies)
            elif (more := self._redirected(node, part, str(error))) is not None:
                again += more
            else:
                final = final or error
        if final is not None:
            raise self.ours(final, node) from final
        return again

    def _redirected(self, node: Node, part: Part[Any], text: str) -> list[Part[Any]] | None:
        """What is to be asked instead after an error that a cluster in motion answers; None for any other error."""
        word = text.partition(" ")[0]
        if part.slot < 0:
            return None
        part.asking, part.node, part.failed = False, None, None
        if (redirect := redirect_of(text, node)) is not None:
            if redirect.kind == "ASK":
                part.asking, part.node = True, redirect.node
            else:
                self.topology = self.topology.moved(part.slot, redirect.node)
                self._told_by = redirect.node
                self.doubtful |= time.monotonic() - self._learned_at > _LOOK_AGAIN
            return [part]
        if word == "TRYAGAIN":
            if part.pieces is not None and not part.divided:
                part.divided = part.pieces()
            return part.divided or [part]
        if word in ("CLUSTERDOWN", "READONLY", "MASTERDOWN"):
            self.doubtful = True
        return None

    def _troubled(self, node: Node, parts: list[Part[Any]], trouble: Trouble) -> list[Part[Any]]:
        """Those parts that may be asked once more, of whoever has taken the node's place. Raises where one may not."""
        if isinstance(trouble.error, _REFUSALS):
            raise self.ours(trouble.error, node) from trouble.error
        self._suspects.add(node)
        self.doubtful = True
        for part in parts:
            tied = part.slot < 0 and not _had_closed(trouble)
            if tied or part.failed is not None or not (part.ask.again or not trouble.sent):
                raise self.ours(trouble.error, node) from trouble.error
            part.failed, part.asking = (node, trouble), False
            part.node = part.node if part.slot < 0 else None
        return parts

    async def _look(self, ways: Ways, until: float) -> None:
        """Learn the topology, unless another thread or task is doing so: then wait for it. In trouble all come here at
        once, and telling costs a node about a millisecond."""
        while self._busy_until > time.monotonic() and time.monotonic() < until:
            await ways.pause(_PAUSE / 5)
            if not self.doubtful:
                return
        self._busy_until = until
        try:
            await self.learn(ways, until)
        finally:
            self._busy_until = 0.0

    async def learn(self, ways: Ways, until: float | None = None) -> Topology:
        """Ask the nodes for the topology until one tells. Raises a `BackendError` when none does."""
        until = time.monotonic() + self._patience if until is None else until
        wanted = [self._told_by, *self.topology.primaries, *self._seeds]
        known = list(dict.fromkeys(node for node in wanted if node is not None))
        candidates = sorted(known, key=self._suspects.__contains__)
        worst: tuple[int, BaseException, Node] | None = None
        for place, node in enumerate(candidates):
            now = time.monotonic()
            if place and now >= until:
                break
            # Whoever keeps silent may not use up the time of those that would answer.
            limit = until if place == len(candidates) - 1 else now + (until - now) / 2
            (outcome,) = await ways.exchange([Errand(node, _WHO.packed, 1)], limit)
            if isinstance(outcome, Trouble) and _had_closed(outcome):
                (outcome,) = await ways.exchange([Errand(node, _WHO.packed, 1)], limit)
            error = self._learned(node, outcome)
            if error is None:
                return self.topology
            rank = 1 if isinstance(error, _REFUSALS) else 0
            if worst is None or rank > worst[0]:
                worst = (rank, error, node)
        assert worst is not None  # there is at least one seed, and the first candidate is always asked
        raise self.ours(worst[1], worst[2]) from worst[1]

    def _learned(self, node: Node, outcome: Outcome) -> BaseException | None:
        """Take a node's word for the topology; or what is wrong with it."""
        if isinstance(outcome, Trouble):
            self._suspects.add(node)
            return outcome.error
        (reply,) = outcome
        if isinstance(reply, ReplyError):
            return reply
        try:
            topology = topology_of(reply, node)
        except ValueError as error:
            return error
        if not topology.primaries:
            return ReplyError("CLUSTERDOWN it knows of no node with slots")
        self._suspects.discard(node)
        self.topology, self.doubtful, self._learned_at = topology, not topology.complete, time.monotonic()
        return None

    async def standings(self, slot: int | None, ways: Ways) -> dict[Node, Standing]:
        """What every node that may hold keys of a slot (None: of any) says of itself now, those to which slots are on
        their way last. Raises a `BackendError`, also when some slots have no primary."""
        topology = await self.learn(ways)
        owners = topology.primaries if slot is None else (topology.owners[slot],)
        if None in owners or (slot is None and not topology.complete):
            raise BackendUnavailable(f"Redis at {self._settings.shown}: no node of the cluster serves some slots")
        found = await self._told(owners, ways)
        asked = -1 if slot is None else bits(slot)
        if any(standing.moving & asked for standing in found.values()):
            more = [*topology.primaries, *(node for standing in found.values() for node in standing.targets)]
            found |= await self._told([node for node in dict.fromkeys(more) if node not in found], ways)
        if not all(standing.primary for standing in found.values()):
            raise BackendUnavailable(f"Redis at {self._settings.shown}: its cluster is choosing a new primary")
        return found

    async def _told(self, nodes: Iterable[Node | None], ways: Ways) -> dict[Node, Standing]:
        parts = [Part(_STANDING, -1, node) for node in nodes]
        await self.perform(parts, ways)
        return {part.node: part.answer for part in parts if part.node is not None and part.answer is not None}

    def silent(self, error: BaseException, node: Node) -> BackendError:
        """Note that a node did not answer in time: whoever asks next looks first who has taken its place."""
        self._suspects.add(node)
        self.doubtful = True
        return self.ours(error, node)

    def ours(self, error: BaseException, node: Node) -> BackendError:
        """What went wrong on a node, in the words of the seam."""
        shown = f"{self._settings.shown} (node {node})"
        text = str(error)
        if "cluster support disabled" in text:
            return BackendUnavailable(f"Redis at {shown}: it is no node of a cluster; use redis:// or rediss://")
        if "CROSSSLOT" in text:
            return BackendUnavailable(
                f"Redis at {shown}: the names of a lease and of what it fences must begin alike up to the first slash"
            )
        return ours(error, shown)

    def _gave_up(self, pending: Sequence[Part[Any]]) -> BackendError:
        """What to say when the time is over before every part was answered."""
        for part in pending:
            if part.failed is not None:
                return self.ours(part.failed[1].error, part.failed[0])
        return BackendUnavailable(f"Redis at {self._settings.shown}: its cluster is moving slots, and time ran out")


def _had_closed(trouble: Trouble) -> bool:
    """Whether the other side had closed the connection meanwhile, so that a new one may do better."""
    return trouble.was_open and not isinstance(trouble.error, theirs.TimeoutError | TimeoutError)


def _errand(node: Node, parts: Sequence[Part[Any]]) -> Errand:
    packed = parts[0].packed if len(parts) == 1 else b"".join(part.packed for part in parts)
    return Errand(node, packed, sum(part.replies for part in parts), all(part.ask.again for part in parts))
