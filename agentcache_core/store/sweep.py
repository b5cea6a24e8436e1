"""The sweep: removes what nobody can be served any more, safely beside writers and other sweepers.

Mark and sweep by ranges of digests: entries are read, the blobs they name are marked, and unmarked blobs older than
the grace age are removed, each only in the version that was seen. Marks are bounded: when there are too many, the
upper half of the range is left to another round. An entry that another program might read keeps all blobs safe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Final

from agentcache_core.backend import Stat
from agentcache_core.errors import CorruptFrame, MissingBlob, UnreadableFrame
from agentcache_core.store.blobs import GRACE
from agentcache_core.store.entries import EntryRecord
from agentcache_core.store.ledger import Ledger, Line

MAX_MARKS: Final = 1_000_000
Dead = Callable[[bytes, EntryRecord], Awaitable[bool]]


@dataclass(slots=True)
class SweepReport:
    """What a sweep saw and removed (or, on a dry run, would remove).

    entries: seen. expired, dead (invalidated), corrupt: removed. unreadable: kept, since another program may read
    them; blobs were then left alone. blobs: seen. unnamed: removed. young: unnamed, but within the grace age, or
    of unknown age.
    missing: named, but not there. logical_bytes: what entries name; blob_bytes: what blobs take. freed_bytes: removed.
    """

    entries: int = 0
    expired: int = 0
    dead: int = 0
    corrupt: int = 0
    unreadable: int = 0
    blobs: int = 0
    unnamed: int = 0
    young: int = 0
    missing: int = 0
    logical_bytes: int = 0
    blob_bytes: int = 0
    freed_bytes: int = 0
    rounds: int = 0

    def plus(self, other: SweepReport | None) -> SweepReport:
        """The two reports added up, as of two tenants of one tier."""
        if other is None:
            return self
        return SweepReport(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


class Marks:
    """The digests seen in a range of digests, at most `most` of them: the range shrinks from above when it must."""

    __slots__ = ("_most", "digests", "high", "low")

    def __init__(self, low: bytes, most: int) -> None:
        self.low = low
        self.high: bytes | None = None
        self.digests: set[bytes] = set()
        self._most = most

    def covers(self, digest: bytes) -> bool:
        """Whether a digest lies in the range that this round decides."""
        return digest >= self.low and (self.high is None or digest < self.high)

    def add(self, digest: bytes) -> None:
        if not self.covers(digest):
            return
        self.digests.add(digest)
        if len(self.digests) > self._most:
            ordered = sorted(self.digests)
            middle = ordered[len(ordered) // 2]
            self.high = middle
            self.digests = set(ordered[: len(ordered) // 2])


async def sweep(
    ledger: Ledger,
    *,
    now: float,
    grace: float = GRACE,
    dead: Dead | None = None,
    dry_run: bool = False,
    max_marks: int = MAX_MARKS,
) -> SweepReport:
    """Sweep one tenant on one store. `dead(name, record)` says whether an entry was invalidated. Raises
    `BackendError`; whatever was removed until then was garbage, and running again goes on."""
    report = SweepReport()
    low = b""
    while True:
        marks = Marks(low, max(2, max_marks))
        report.rounds += 1
        first = report.rounds == 1
        whole = await _mark(ledger, marks, report, now=now, dead=dead, dry_run=dry_run, count=first)
        if not whole:
            await _count_blobs(ledger, report)
            return report
        await _remove_unmarked(ledger, marks, report, now=now, grace=grace, dry_run=dry_run)
        if marks.high is None:
            return report
        low = marks.high


async def _mark(
    ledger: Ledger, marks: Marks, report: SweepReport, *, now: float, dead: Dead | None, dry_run: bool, count: bool
) -> bool:
    """Read every entry: mark what the living name, remove the others. Answers whether all could be read."""
    whole = True
    async for line in ledger.lines():
        report.entries += count
        why = await _judged(line, now, dead) or await _marked(ledger, line, marks, report, count)
        if why == "unreadable":
            whole = False
            report.unreadable += count
        elif why and await _remove(ledger, line.stat, dry_run):
            setattr(report, why, getattr(report, why) + count)
            report.freed_bytes += line.size * count
        elif why:
            await _marked(ledger, line, marks, report, count)  # it was written or removed meanwhile
    return whole


async def _judged(line: Line, now: float, dead: Dead | None) -> str:
    """Why an entry may go, "" when it may not."""
    record = line.record
    if isinstance(record, UnreadableFrame):
        return "unreadable"
    if isinstance(record, CorruptFrame):
        return "corrupt"
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    return "dead" if dead is not None and await dead(line.name, record) else ""


async def _marked(ledger: Ledger, line: Line, marks: Marks, report: SweepReport, count: bool) -> str:
    """Mark what an entry names; answers why that cannot be told, "" when it can."""
    if isinstance(line.record, CorruptFrame):
        return ""
    try:
        async for ref in ledger.references(line.record):
            report.logical_bytes += ref.size * count
            marks.add(ref.digest)
    except UnreadableFrame:
        return "unreadable"
    except MissingBlob:
        return ""  # what is lost is found by readers and by `verify`
    except CorruptFrame:
        return "corrupt"
    return ""


async def _remove_unmarked(
    ledger: Ledger, marks: Marks, report: SweepReport, *, now: float, grace: float, dry_run: bool
) -> None:
    prefix = ledger.blobs_prefix
    present: set[bytes] = set()
    ordered = ledger.store.capabilities.ordered_scan
    # `after` leaves out its own name, and the lowest digest of the range must be seen: hence one byte less of it.
    async for stat in ledger.store.scan(prefix, after=prefix + marks.low[:-1] if marks.low else b""):
        digest = stat.name[len(prefix) :]
        if not marks.covers(digest):
            if ordered and marks.high is not None and digest >= marks.high:
                break
            continue
        report.blobs += 1
        ledger.go_on()
        if digest in marks.digests:
            present.add(digest)
            report.blob_bytes += stat.size
        elif not stat.modified_at or now - stat.modified_at < grace:
            report.young += 1
            report.blob_bytes += stat.size
        elif await _remove(ledger, stat, dry_run):
            report.unnamed += 1
            report.freed_bytes += stat.size
    report.missing += len(marks.digests - present)


async def _count_blobs(ledger: Ledger, report: SweepReport) -> None:
    async for stat in ledger.store.scan(ledger.blobs_prefix):
        report.blobs += 1
        report.blob_bytes += stat.size


async def _remove(ledger: Ledger, stat: Stat, dry_run: bool) -> bool:
    """Remove exactly the version that was judged; False when it was written or touched meanwhile."""
    return dry_run or bool(await ledger.store.delete(stat.name, if_version=stat.version))
