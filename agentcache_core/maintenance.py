"""Maintenance of one tenant: sweep its tiers, write use back, plan and make moves between tiers.

Everything here is safe to stop at any point and to run beside readers, writers and other maintainers. `auto` does it
behind a store, seldom and under a lease where the authority has leases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import ormsgpack

from agentcache_core import access
from agentcache_core.codec.dictionary import MOST_SAMPLES, DictionarySet, train
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import BackendError
from agentcache_core.moves import Mover, survey
from agentcache_core.policy.placement import LIST_PRICES, Access, Move, Place, Plan, Policy, Prices, Rules, plan
from agentcache_core.runtime import Runtime
from agentcache_core.settings import Settings
from agentcache_core.space import Ban, Generation, Space
from agentcache_core.store.blobs import GRACE
from agentcache_core.store.dictionaries import load_all, save
from agentcache_core.store.entries import EntryRecord
from agentcache_core.store.ledger import ASSET_KIND, Ledger, shown, tenants
from agentcache_core.store.sweep import SweepReport, sweep
from agentcache_core.store.vectors import prune_vectors
from agentcache_core.store.verify import Checks, VerifyReport, verify
from agentcache_core.tier import StoredTier
from agentcache_core.tiering import Tiers
from agentcache_core.verdicts import Verdicts

FIRST_AFTER: Final = 600.0
EVERY: Final = 24 * 3600.0
LEASE_SECONDS: Final = 600.0
BAN_AGE: Final = 3600.0
MOST_READ: Final = 10_000
MOST_SHOWN: Final = 100
_SCHEMES: Final = {
    **dict.fromkeys(("rediss", "unix", "redis+cluster", "rediss+cluster"), "redis"),
    **dict.fromkeys(("gs", "gcs", "az"), "s3"),
}


@dataclass(slots=True)
class MaintenanceReport:
    """What maintenance did, or on a dry run would do.

    swept: a `SweepReport` for each tier. expired: entries dropped from memory. leftovers: expired values and traces of
    crashes that stores reclaimed by themselves. plan: the moves between tiers and what
    they save in US dollars a month. shown: on a dry run, the plain keys of the first entries that would move, by name.
    moved: moves made. dictionaries: for each kind that got a new one, the size of
    answers with it as a share of their size without. vectors: vector records removed because their entries are gone.
    trouble: for each tier that failed, why.
    """

    dry_run: bool
    swept: dict[str, SweepReport] = field(default_factory=dict)
    expired: int = 0
    leftovers: int = 0
    bans_dropped: int = 0
    plan: Plan = field(default_factory=Plan)
    shown: dict[bytes, str] = field(default_factory=dict)
    moved: int = 0
    vectors: int = 0
    dictionaries: dict[str, float] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)


class Maintenance:
    """The maintenance of one cache. `spaces` answers the namespaces this process has used; `stopping()` says that the
    cache is closing, and ends what is going on."""

    def __init__(
        self,
        tiers: Tiers,
        settings: Settings,
        spaces: Callable[[], Iterable[Space]],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopping = stopping
        self._tiers = tiers
        self._settings = settings
        self._spaces = spaces
        self._now = settings.clock.now
        auto = settings.maintenance == "auto" and not tiers.local
        self.due = settings.clock.monotonic() + FIRST_AFTER if auto else float("inf")

    async def run(
        self,
        rt: Runtime,
        space: Space,
        *,
        dry_run: bool = False,
        grace: float = GRACE,
        policy: Policy | None = None,
        prices: dict[str, Prices] | None = None,
        move: bool = True,
    ) -> MaintenanceReport:
        """Maintain the tenant of `space`; `move=False` leaves entries in their tiers. Trouble is told in the report."""
        report = MaintenanceReport(dry_run)
        if self._tiers.near is not None and not dry_run:
            report.expired = self._tiers.near.expire(self._now())
        if self._tiers.local:
            return report
        if not dry_run:
            await self._write_use_back(rt, space, report)
        judged = Verdicts(self._authority.store(rt.face), space, self._authority.pipeline(space))
        for tier in self._tiers.stored:
            await self._guarded(tier, report, tier.prepare(rt, space))
            await self._sweep(rt, space, tier, judged, report, grace)
        pruned = prune_vectors(self._authority.store(rt.face), space.tenant_prefix, now=self._now(), dry_run=dry_run)
        report.vectors = await self._guarded(self._authority, report, pruned) or 0
        if not report.trouble:
            await self._guarded(self._authority, report, self._train(rt, space, report))
        if not dry_run and not report.trouble and not any(swept.unreadable for swept in report.swept.values()):
            report.bans_dropped = await self._drop_bans(rt, space, judged, report)
        if move and len(self._tiers.stored) > 1 and not report.trouble:
            await self._place(rt, space, judged, report, policy or Rules(), prices or {})
        return report

    async def sweep_all(self, rt: Runtime, *, dry_run: bool = False, grace: float = GRACE) -> MaintenanceReport:
        """Sweep every tenant on every tier, for an operator. Entries are judged by generation and bans only, since
        tags need each tenant's secret; of a tenant whose frames cannot be read no blob is removed."""
        report = MaintenanceReport(dry_run)
        settings = self._settings
        for tier in self._tiers.stored:
            for digits in await self._guarded(tier, report, tenants(tier.store(rt.face))) or ():
                space = Space("", "", settings.secret)
                space.tenant_prefix = digits
                # Of its own, so that no tenant's dictionary is ever used for what another one writes.
                held, pipeline = DictionarySet(), Pipeline(secret=settings.secret, keyring=settings.keyring)
                pipeline.use(held)
                await self._guarded(tier, report, load_all(tier.store(rt.face), pipeline, digits, held))
                judged = Verdicts(self._authority.store(rt.face), space, pipeline, tags=False)
                await self._sweep(rt, space, tier, judged, report, grace, pipeline)
        return report

    async def verify(self, rt: Runtime, space: Space, *, repair: bool = False) -> dict[str, VerifyReport]:
        """Read everything of a tenant back, tier by tier. Raises `BackendError`."""
        reports: dict[str, VerifyReport] = {}
        mended: set[bytes] = set()
        parts = Checks(self._ledger(rt, space, self._authority), repair=repair)
        authority_first = sorted(self._tiers.stored, key=lambda tier: tier is not self._authority)
        for tier in authority_first:
            await tier.prepare(rt, space)
            ledger = parts.ledger if tier is self._authority else self._ledger(rt, space, tier)
            reports[tier.name] = await verify(ledger, repair=repair, parts=parts, mended=mended)
        for prefix in mended:
            await self._distrust(rt, space, prefix)
        return {tier.name: reports[tier.name] for tier in self._tiers.stored}

    async def _distrust(self, rt: Runtime, space: Space, prefix: bytes) -> None:
        """See that no near copy of a namespace is served before it was compared with what is stored now."""
        named = [known for known in self._mine(space) if known.prefix == prefix]
        meant = named[0] if named else Space(space.tenant, "", self._settings.secret)
        meant.prefix = prefix
        await self._tiers.of(rt, meant).bump(cut=False)
        for known in named:
            self._tiers.drop_near(known)

    @property
    def _authority(self) -> StoredTier:
        authority = self._tiers.authority
        assert authority is not None
        return authority

    def _ledger(self, rt: Runtime, space: Space, tier: StoredTier, pipeline: Pipeline | None = None) -> Ledger:
        return Ledger(
            tier.store(rt.face),
            pipeline or tier.pipeline(space),
            space.tenant_prefix,
            stopping=self._stopping,
            keeps_parts=tier is self._authority,
        )

    def _mine(self, space: Space) -> list[Space]:
        return [known for known in self._spaces() if known.tenant == space.tenant]

    async def _write_use_back(self, rt: Runtime, space: Space, report: MaintenanceReport) -> None:
        store, pipeline = self._authority.store(rt.face), self._authority.pipeline(space)
        for known in self._mine(space):
            noted = known.access.drain()
            if noted:
                written = access.write_back(store, pipeline, known.access_prefix, noted, now=self._now())
                await self._guarded(self._authority, report, written)

    async def _sweep(
        self,
        rt: Runtime,
        space: Space,
        tier: StoredTier,
        judged: Verdicts,
        report: MaintenanceReport,
        grace: float,
        pipeline: Pipeline | None = None,
    ) -> None:
        ledger = self._ledger(rt, space, tier, pipeline)

        async def dead(name: bytes, record: EntryRecord) -> bool:
            return await judged.dead(name, record) or (
                record.kind == ASSET_KIND
                and tier is not self._authority
                and await self._overwritten(rt, space, name, record)
            )

        work = sweep(ledger, now=self._now(), grace=grace, dead=dead, dry_run=report.dry_run)
        swept = await self._guarded(tier, report, work)
        reclaim = getattr(ledger.store, "sweep", None)
        if reclaim is not None and not report.dry_run:
            report.leftovers += await self._guarded(tier, report, reclaim()) or 0
        if swept is not None:
            report.swept[tier.name] = swept.plus(report.swept.get(tier.name))

    async def _overwritten(self, rt: Runtime, space: Space, name: bytes, copy: EntryRecord) -> bool:
        """Whether the authority, read after a copy was, has another record: a writer died before it told of an
        overwrite. Asked for assets alone, since their copies name parts that the authority no longer keeps."""
        stored = await self._authority.store(rt.face).get(name)
        record = await self._authority.record_in(rt, space, name, stored) if stored else None
        return record is not None and record.identity != copy.identity

    async def _train(self, rt: Runtime, space: Space, report: MaintenanceReport) -> None:
        """Train a dictionary for each kind whose answers it makes smaller; stored on every tier before it is used."""
        authority = self._authority
        held = authority.dictionaries[space.tenant]
        ledger = self._ledger(rt, space, authority)
        for kind, samples in (await sampled(ledger)).items():
            current = held.current(kind)
            trained = train(samples, None if current is None else current[1])
            if trained is None:
                continue
            report.dictionaries[kind] = trained.ratio
            for tier in self._tiers.stored if not report.dry_run else ():
                store, pipeline = tier.store(rt.face), tier.pipeline(space)
                await save(store, pipeline, space.tenant_prefix, kind, trained, now=self._now())
                tier.dictionaries[space.tenant].add(trained.number, kind, trained.content, self._now())

    async def _drop_bans(self, rt: Runtime, space: Space, judged: Verdicts, report: MaintenanceReport) -> int:
        """Forget the bans that a sweep passed long ago; answers how many.

        A computation that began before a ban may still be under way when the sweep passes, and its answer must meet
        the ban. So this run notes how far it came, and bans up to there are dropped by a run an hour later.
        """
        dropped = 0
        for known in self._mine(space):
            generation, bans = judged.seen(known.prefix)
            if generation is not None:
                dropped += await self._guarded(self._authority, report, self._pass(rt, known, generation, bans)) or 0
        return dropped

    async def _pass(self, rt: Runtime, space: Space, generation: Generation, bans: tuple[Ban, ...]) -> int:
        store, name, now = self._authority.store(rt.face), space.prefix + b"/s", self._now()
        noted = await store.get(name)
        old = 0
        if noted:
            lineage, when, seq = _noted(noted.data)
            if lineage != generation.lineage or now - when < BAN_AGE:
                if lineage == generation.lineage:
                    return 0
            else:
                old = sum(ban.seq <= seq for ban in bans)
                if old:
                    await self._tiers.of(rt, space).drop_bans(seq)
        if bans:
            await store.put(name, ormsgpack.packb([generation.lineage, now, generation.seq]))
        return old

    async def _place(
        self,
        rt: Runtime,
        space: Space,
        judged: Verdicts,
        report: MaintenanceReport,
        policy: Policy,
        prices: dict[str, Prices],
    ) -> None:
        now = self._now()
        # What lies on the authority stays there, and nothing is moved to tiers that are colder still.
        stored = self._tiers.stored[: self._tiers.stored.index(self._authority) + 1]
        places = [place_of(tier, prices) for tier in stored]
        ledgers = [self._ledger(rt, space, tier) for tier in stored]
        found = await self._guarded(
            self._authority, report, survey(rt, space, ledgers, self._authority, judged, now=now)
        )
        if found is None:
            return
        for known in self._mine(space):  # nothing but what a dry run has not written back
            for digest, (hits, computed, read) in known.access.noted().items():
                found.used(known.entries_prefix + digest, Access(hits, computed, read, now), now)
        report.plan = plan(found.items(), places, policy, now=now)
        wanted = tuple(move for move in report.plan.moves if _taken(move, stored[move.target]))
        report.plan = replace(report.plan, moves=wanted)
        if report.dry_run:
            await self._guarded(self._authority, report, self._name(rt, space, stored, report))
            return
        mover = Mover(rt, space, stored, self._authority, clock=self._settings.clock, go_on=ledgers[-1].go_on)
        for move in wanted:
            work = mover.make(move, found)
            if await self._guarded(stored[min(move.source, move.target)], report, work):
                report.moved += 1

    async def _name(self, rt: Runtime, space: Space, stored: Sequence[StoredTier], report: MaintenanceReport) -> None:
        for move in report.plan.moves[:MOST_SHOWN]:
            tier = stored[move.source]
            found = await tier.store(rt.face).get(move.name)
            record = await tier.record_in(rt, space, move.name, found) if found else None
            report.shown[move.name] = shown(move.name, record)

    async def _guarded(self, tier: StoredTier, report: MaintenanceReport, work: Any) -> Any:
        """Await work on a tier; trouble goes into the report, and None comes back."""
        try:
            return await work
        except BackendError as problem:
            report.trouble[tier.name] = f"{type(problem).__name__}: {problem}"
            return None

    async def auto(self, rt: Runtime, space: Space) -> MaintenanceReport | None:
        """One run, if no other process is at it or did it in the last day."""
        if any(tier.store(rt.face).capabilities.metered for tier in self._tiers.stored):
            self.due = float("inf")
            return None
        self.due = self._settings.clock.monotonic() + EVERY
        store = self._authority.store(rt.face)
        acquire = getattr(store, "acquire", None)
        name = space.tenant_prefix + b"/m"
        try:
            last = await store.get(name)
            if last and self._now() - float(last.data) < EVERY / 2:
                return None
            if acquire is not None and await acquire(space.tenant_prefix + b"/l/maintain", LEASE_SECONDS) is None:
                return None
            report = await self.run(rt, space)
            if not report.trouble:
                await store.put(name, repr(self._now()).encode())
        except (BackendError, ValueError):
            return None
        return report


def _taken(move: Move, target: StoredTier) -> bool:
    """Whether the target of a move would take it: what is too large or small for a tier is not promoted into it."""
    return move.verb == "demote" or (target.spec.promote and target.takes(move.size))


async def sampled(ledger: Ledger) -> dict[str, list[bytes]]:
    """Payloads to learn from, by kind: those of the first entries in the ledger, whose names are random digests."""
    samples: dict[str, list[bytes]] = {}
    seen = 0
    async for line in ledger.lines():
        seen += 1
        if seen > MOST_READ:
            break
        record = line.record
        if isinstance(record, EntryRecord) and record.payload and record.kind not in ("", ASSET_KIND):
            of_kind = samples.setdefault(record.kind, [])
            if len(of_kind) < MOST_SAMPLES:
                of_kind.append(record.payload)
    return samples


def _noted(data: bytes) -> tuple[bytes, float, int]:
    """How far an earlier run came in a namespace: lineage, time, sequence number; nothing when that is damaged."""
    try:
        lineage, when, seq = ormsgpack.unpackb(data)
        return bytes(lineage), float(when), int(seq)
    except (ValueError, TypeError):
        return b"", 0.0, 0


def place_of(tier: StoredTier, prices: dict[str, Prices]) -> Place:
    """A tier as placement sees it: prices by its name or URL scheme, else round list prices, else none."""
    scheme = tier.name.partition("://")[0] if "://" in tier.name else tier.name
    scheme = _SCHEMES.get(scheme, scheme)
    price = prices.get(tier.name) or prices.get(scheme) or LIST_PRICES.get(scheme) or Prices()
    return Place(tier.name, price, tier.min_value, tier.max_value)
