"""The matcher: which stored questions may answer a new one, and why. Does no I/O of its own.

The engine brings texts, vectors and records; the matcher holds the partitions (bounded, least recently used go first),
finds candidates and takes each through the stack: reported pairs, guards, verifier, policy.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blake3 import blake3

from agentcache_core.forking import watch
from agentcache_core.model import Decision
from agentcache_core.semantic.decision import Policy, Step, decision
from agentcache_core.semantic.guards import Pair, compare, first_veto, judge
from agentcache_core.semantic.guards.guard import Guard, Verdict
from agentcache_core.semantic.index import FlatIndex, VectorIndex
from agentcache_core.semantic.record import MAX_DENIED, VectorRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CANDIDATES = 8
"""How many of the nearest stored questions are looked at."""
MAX_VECTORS = 200_000
"""How many vectors are kept in memory over all partitions."""


def mark(text: str) -> bytes:
    """The 8-byte hash by which a question is remembered in a record of another."""
    return blake3(text.encode("utf-8", "surrogatepass")).digest(8)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question near to a new one: its record and the cosine similarity."""

    record: VectorRecord
    similarity: float


class Partition:
    """The stored questions of one partition. `loaded_at` is the monotonic time of the last scan, -inf = never;
    `names` are the backend names already known, by digest, so that a later scan reads only what is new."""

    __slots__ = ("index", "loaded_at", "names", "records")

    def __init__(self) -> None:
        self.index: VectorIndex | None = None
        self.records: dict[bytes, VectorRecord] = {}
        self.names: dict[bytes, bytes] = {}
        self.loaded_at = float("-inf")

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the pure part of the stack said: the decision so far, and the pair for a verifier to look at."""

    decision: Decision
    pair: Pair
    verdicts: dict[str, Verdict]

    @property
    def clear(self) -> bool:
        """Whether nothing refused yet."""
        return self.decision.step not in (Step.GUARDS, Step.REPORTED)


class Matcher:
    """Partitions and the pure stack over them. Safe for threads."""

    def __init__(self, guards: Iterable[Guard], *, max_vectors: int = MAX_VECTORS) -> None:
        self.guards = tuple(guards)
        self._partitions: OrderedDict[tuple[bytes, bytes], Partition] = OrderedDict()
        self._max = max_vectors
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    def partition(self, space: bytes, partition: bytes) -> Partition:
        """The partition of a space, made when it is not held; making one may push out those not used for longest."""
        with self._lock:
            found = self._partitions.get((space, partition))
            if found is None:
                found = self._partitions[space, partition] = Partition()
            self._partitions.move_to_end((space, partition))
            held = sum(len(other) + 1 for other in self._partitions.values())
            while held > self._max and len(self._partitions) > 1:
                _, pushed_out = self._partitions.popitem(last=False)
                held -= len(pushed_out) + 1
            return found

    def add(self, partition: Partition, record: VectorRecord, *, name: bytes | None = None) -> None:
        """Take in, or replace, one stored question."""
        with self._lock:
            if partition.index is None:
                partition.index = FlatIndex(len(record.vector))
            partition.index.add(record.digest, record.vector)
            partition.records[record.digest] = record
            if name is not None:
                partition.names[record.digest] = name

    def remove(self, partition: Partition, digest: bytes) -> bool:
        """Take out one stored question."""
        with self._lock:
            partition.names.pop(digest, None)
            if partition.records.pop(digest, None) is None or partition.index is None:
                return False
            return partition.index.remove(digest)

    def keep_only(self, partition: Partition, digests: Container[bytes]) -> None:
        """After a scan: take out what came from the backend and is no longer held there."""
        for digest in [digest for digest in list(partition.names) if digest not in digests]:
            self.remove(partition, digest)

    def forget(self, space: bytes) -> None:
        """Let go of every partition of a space."""
        with self._lock:
            for place in [place for place in self._partitions if place[0] == space]:
                del self._partitions[place]

    @property
    def vectors(self) -> int:
        """How many vectors are in memory."""
        with self._lock:
            return sum(len(partition) for partition in self._partitions.values())

    def nearest(
        self, partition: Partition, vector: NDArray[np.float32], *, floor: float, now: float, k: int = CANDIDATES
    ) -> list[Candidate]:
        """The stored questions of at least similarity `floor`, best first, without those that are gone."""
        with self._lock:
            if partition.index is None:
                return []
            near = partition.index.nearest(vector, k, floor=floor)
            found = [Candidate(partition.records[ident], score) for ident, score in near]
        gone = [c for c in found if c.record.expires_at is not None and c.record.expires_at <= now]
        for candidate in gone:
            self.remove(partition, candidate.record.digest)
        return [candidate for candidate in found if candidate not in gone]

    def weigh(self, text: str, candidate: Candidate, *, explain: bool = False) -> Weighed:
        """The pure part of the stack for one candidate: reported before, promoted before, then the guards.

        With `explain` every guard is asked, else asking stops at the first veto.
        """
        record = candidate.record
        pair = compare(text, record.text)
        verdicts = dict(judge(pair, self.guards, stop_at_veto=not explain))
        hashed = mark(text)
        if hashed in record.denied:
            return Weighed(decision(Step.REPORTED, "this answer was reported wrong for this question"), pair, verdicts)
        veto = first_veto(verdicts)
        if veto is not None:
            return Weighed(decision(Step.GUARDS, f"{veto[0]}: {veto[1]}", guards=verdicts), pair, verdicts)
        if hashed in record.promoted:
            return Weighed(
                decision(Step.PROMOTED, "this pair was judged right before", guards=verdicts), pair, verdicts
            )
        return Weighed(decision(Step.POLICY, "no guard vetoes", guards=verdicts), pair, verdicts)

    def ruled(self, weighed: Weighed, policy: Policy, score: float) -> Decision:
        """The decision after the policy has spoken about a pair that nothing refused."""
        if weighed.decision.step == Step.PROMOTED or not weighed.clear:
            return weighed.decision
        ruling = policy.rule(score)
        return decision(ruling.step, ruling.reason, guards=weighed.verdicts, bound=ruling.bound)


def denied(record: VectorRecord, text: str) -> VectorRecord | None:
    """The record after its answer was reported wrong for `text`; None when it was wrong too often to be kept."""
    hashed = mark(text)
    listed = (*(h for h in record.denied if h != hashed), hashed)
    promoted = tuple(h for h in record.promoted if h != hashed)
    return None if len(listed) > MAX_DENIED else replace(record, denied=listed, promoted=promoted)


def promoted(record: VectorRecord, text: str) -> VectorRecord:
    """The record after its answer was judged right for `text`."""
    hashed = mark(text)
    if hashed in record.denied or hashed in record.promoted:
        return record
    return replace(record, promoted=(*record.promoted, hashed)[-MAX_DENIED:])
