"""Reading everything back: every entry of a tenant on one store, and every blob and part it needs, hashed once each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from agentcache_core.errors import CorruptFrame, MissingBlob, UnreadableFrame
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.ledger import PREFIX_SIZE, Ledger, Line, shown
from agentcache_core.store.manifest import Manifest, Part, Place, Table
from agentcache_core.store.packindex import PackIndex, unlist
from agentcache_core.store.paging import ManifestReader

MOST_PROBLEMS: Final = 1000
MOST_REMEMBERED: Final = 500_000
"""How many parts are remembered as read; beyond that some are read twice."""


@dataclass(slots=True)
class VerifyReport:
    """What reading everything back found. `problems` holds (plain key, or the key's digest in hex; what is wrong), the
    first 1,000 of them."""

    entries: int = 0
    blobs: int = 0
    bytes_read: int = 0
    damaged: int = 0
    unreadable: int = 0
    repaired: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def note(self, line: Line, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((shown(line.name, line.record), problem))


class Checks:
    """The blobs and packed parts of one store, each read back and hashed once however many entries need it.

    The same part may lie in two packs, whole in one and damaged in the other, so what is remembered is the place too.
    """

    def __init__(self, ledger: Ledger, *, repair: bool) -> None:
        self.ledger = ledger
        self._repair = repair
        self._known: dict[tuple[bytes, Place | None], str] = {}

    async def problem(self, part: Part, report: VerifyReport) -> str:
        """What is wrong with a blob or part, "" when nothing is. With `repair` a damaged blob is removed, and a damaged
        or lost pack taken off the index of packs, so that the next write stores the same content anew."""
        asked = (part.ref.digest, part.place)
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            known = self._known[asked] = await self._checked(part, report)
        return known

    async def _checked(self, part: Part, report: VerifyReport) -> str:
        ledger = self.ledger
        report.blobs += 1
        report.bytes_read += part.ref.size
        try:
            await ledger.blobs.check(part.ref, part.place)
        except CorruptFrame as problem:
            if self._repair and not isinstance(problem, UnreadableFrame):
                if part.place is not None:
                    await unlist(ledger.store, ledger.pipeline, ledger.tenant, part.place.pack, PackIndex())
                elif not isinstance(problem, MissingBlob):
                    await ledger.blobs.discard([part.ref])
            return str(problem)
        return ""


async def verify(
    ledger: Ledger, *, repair: bool = False, parts: Checks | None = None, mended: set[bytes] | None = None
) -> VerifyReport:
    """Read every entry of one tenant back, and every blob it needs. Raises `BackendError`.

    With `repair` damaged entries, entries whose blobs are lost, and damaged blobs are removed: they become misses, and
    the next write stores them anew. What only another program may read is told and kept. `parts` checks the parts of
    assets where they lie on another store than this. `mended` takes the prefixes of namespaces that lost an entry.
    """
    report = VerifyReport()
    own = Checks(ledger, repair=repair)
    async for line in ledger.lines():
        report.entries += 1
        report.bytes_read += line.size
        if isinstance(line.record, UnreadableFrame):
            report.unreadable += 1
            report.note(line, str(line.record))
            continue
        problem = await _problem(line, own, parts or own, report)
        if problem:
            report.damaged += 1
            report.note(line, problem)
            if repair and await ledger.store.delete(line.name, if_version=line.stat.version):
                report.repaired += 1
                if mended is not None:
                    mended.add(line.name[:PREFIX_SIZE])
    return report


async def _problem(line: Line, own: Checks, parts: Checks, report: VerifyReport) -> str:
    if isinstance(line.record, CorruptFrame):
        return str(line.record)
    record = line.record
    if record.blob is not None and (wrong := await own.problem(Part(record.blob, None, 0), report)):
        return wrong
    try:
        manifest = await own.ledger.manifest(record)
        return "" if manifest is None else await _parts_problem(manifest, parts, report)
    except CorruptFrame as problem:
        return str(problem)


async def _parts_problem(manifest: Manifest, parts: Checks, report: VerifyReport) -> str:
    """What is wrong with an asset's first part that is not whole. `CorruptFrame` when a page is not."""

    async def page(ref: BlobRef) -> bytes:
        if wrong := await parts.problem(Part(ref, None, 0), report):
            raise CorruptFrame(wrong)
        return await parts.ledger.blobs.get(ref)

    async for found in ManifestReader(manifest, page).walk():
        for part in found if isinstance(found, Table) else ():
            if wrong := await parts.problem(part, report):
                return wrong
    return ""
