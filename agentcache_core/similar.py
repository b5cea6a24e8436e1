"""Answers to similar questions: conducts the semantic stack between the tiers, the embedder and the matcher.

Nothing here is asked before the exact key missed. A near entry is served only after it was read like any other, so
expiry and every kind of invalidation hold for it too; what cannot be read any more leaves the index. Vectors are
stored beside their entries, off the write path; the index in memory is derived from them.
"""

from __future__ import annotations

import inspect
import random
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentcache_core.background import Background
from agentcache_core.codec.serialize import loads
from agentcache_core.errors import EmbedderError
from agentcache_core.events import Events
from agentcache_core.forking import watch
from agentcache_core.keys import Key
from agentcache_core.model import CacheControl, Decision, Freshness
from agentcache_core.policy.freshness import freshness
from agentcache_core.runtime import Runtime
from agentcache_core.semantic.audit import Tightened, Trail, answer_text, plainly_equal
from agentcache_core.semantic.configuration import Semantic
from agentcache_core.semantic.decision import SERVING, Policy, Step, decision
from agentcache_core.semantic.embedder import Encoder
from agentcache_core.semantic.guards import DEFAULT_GUARDS, compare, first_veto, judge, read
from agentcache_core.semantic.matcher import Candidate, Matcher, Weighed, denied, promoted
from agentcache_core.semantic.partition import Bypass, Place, place_of, unfit
from agentcache_core.semantic.perrequest import Observation, PerRequest
from agentcache_core.semantic.record import VectorRecord
from agentcache_core.semantic.verifier import Afterwards
from agentcache_core.settings import Settings
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found
from agentcache_core.tiering import Tiers
from agentcache_core.vectors import Vectors

MAX_EXPLORING = 1_000
MAX_SEEN = 10_000
MAX_OWN = 50
SAME_ANSWER = 0.85
"""How similar the texts of two answers must be to count as one; facts in them must agree besides."""
FACTS = tuple(guard for guard in DEFAULT_GUARDS if guard.name in ("numbers", "literals", "negation", "direction"))


@dataclass(frozen=True, slots=True)
class Near:
    """A stored answer that may stand for another question, and why."""

    key: Key
    found: Found
    similarity: float
    decision: Decision
    candidate: Candidate
    place: Place


class Similar:
    """The semantic side of one cache, shared by its views and faces."""

    def __init__(
        self, semantic: Semantic, tiers: Tiers, settings: Settings, events: Events, background: Background
    ) -> None:
        self.semantic = semantic
        self.encoder = Encoder(semantic.embedder)
        self.matcher = Matcher(semantic.guards)
        self._vectors = Vectors(semantic.embedder.fingerprint, self.matcher, tiers, settings, events)
        self._tiers = tiers
        self._settings = settings
        self._events = events
        self._background = background
        self._policies: dict[bytes, Policy] = {}
        self._steps: dict[bytes, dict[str, int]] = {}
        self._trails: dict[bytes, Trail] = {}
        self._exploring: OrderedDict[tuple[bytes, bytes], Candidate] = OrderedDict()
        self._seen: OrderedDict[bytes, tuple[Observation, ...]] = OrderedDict()
        self._chance = random.Random(semantic.seed)  # noqa: S311 - chooses what to audit, keeps no secret
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock in a child."""
        self._lock = threading.Lock()

    # Looking

    async def look(self, rt: Runtime, space: Space, key: Key, request: object, control: CacheControl) -> Near | None:
        """The stored answer to a similar question that passes every step, or None; counted and told by step."""
        if not self._settings.reads or control.no_cache or control.refresh:
            return None
        place = place_of(space.keys, request, key, control)
        if isinstance(place, Bypass):
            self._note(space, key, decision(Step.BYPASS, place.reason), None)
            return None
        try:
            near, said, similarity = await self._search(rt, space, key, place, control)
        except EmbedderError as error:
            space.counters.errors += 1
            near, said, similarity = None, decision(Step.EMBEDDER, str(error)), None
        self._note(space, key, said, similarity)
        if near is not None:
            space.counters.semantic_hits += 1
        return near

    async def _search(
        self, rt: Runtime, space: Space, key: Key, place: Place, control: CacheControl
    ) -> tuple[Near | None, Decision, float | None]:
        policy = self.policy(space)
        if self.trail(space).off:
            return None, decision(Step.AUDIT, "the audit switched semantic answers off"), None
        if policy.threshold > 1.0:
            return None, decision(Step.POLICY, policy.rule(0.0).reason), None
        partition = await self._vectors.partition(rt, space, place.partition)
        if not len(partition):
            return None, decision(Step.EMPTY, "nothing is stored in this partition"), None
        if not await rt.offload(lambda: self.encoder.fits(place.text)):
            return None, decision(Step.BYPASS, "longer than the model reads"), None
        vector = (await self.encoder.encode(rt, [place.text]))[0]
        candidates = self.matcher.nearest(partition, vector, floor=policy.threshold, now=self._settings.clock.now())
        said = decision(Step.THRESHOLD, f"nothing stored reaches similarity {policy.threshold:g}")
        best: float | None = None
        if isinstance(policy, PerRequest):
            near_enough = any(self.matcher.weigh(place.text, candidate).clear for candidate in candidates)
            self._count_asked(space, candidate=near_enough)
        for candidate in candidates:
            weighed = self.matcher.weigh(place.text, candidate)
            verdict = await self._decide(rt, weighed, candidate, place.text, policy)
            if best is None:
                said, best = verdict, candidate.similarity
            if verdict.step not in SERVING:
                if verdict.step == Step.POLICY and isinstance(policy, PerRequest):
                    self._explore(space, key, candidate)
                    break  # one exploration a request: what is computed now is compared with this answer
                if verdict.step == Step.VERIFIER and policy.rule(candidate.similarity).serve:
                    await self._judge_behind(rt, space, place, candidate)
                continue
            found = await self._entry(rt, space, candidate, control)
            if found is None:
                await self._vectors.drop(rt, space, partition, candidate.record.digest)
                said = decision(Step.GONE, "the near answer is no longer stored")
                continue
            served = self._key_of(space, candidate.record)
            near = Near(served, found, candidate.similarity, verdict, candidate, place)
            return near, verdict, candidate.similarity
        return None, said, best

    async def _decide(self, rt: Runtime, weighed: Weighed, candidate: Candidate, text: str, policy: Policy) -> Decision:
        """The rest of the stack after the guards: verifier, then policy."""
        if not weighed.clear:
            return weighed.decision
        score = candidate.similarity
        verifier = self.semantic.verifier
        if isinstance(verifier, Afterwards) and weighed.decision.step != Step.PROMOTED:
            return decision(Step.VERIFIER, "the judge is asked afterwards", guards=weighed.verdicts)
        if verifier is not None and weighed.decision.step != Step.PROMOTED:
            try:
                answer = verifier(text, candidate.record.text, candidate.similarity)
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:  # noqa: BLE001 - what a user's verifier raises must not reach the agent
                return decision(Step.VERIFIER, f"the verifier failed: {error!r}", guards=weighed.verdicts)
            if answer is False or (not isinstance(answer, bool) and float(answer) < 0.5):
                return decision(Step.VERIFIER, f"the verifier said {answer!r}", guards=weighed.verdicts)
        if isinstance(policy, PerRequest) and weighed.decision.step != Step.PROMOTED:
            ruling = policy.draw(score, self._seen.get(candidate.record.digest, ()), self._chance.random())
            return decision(ruling.step, ruling.reason, guards=weighed.verdicts, bound=ruling.bound)
        return self.matcher.ruled(weighed, policy, score)

    async def _judge_behind(self, rt: Runtime, space: Space, place: Place, candidate: Candidate) -> None:
        """Ask a slow judge in the background; a pair it approves is served from then on."""
        verifier = self.semantic.verifier
        if not isinstance(verifier, Afterwards):
            return

        async def ask() -> None:
            answer = await rt.offload(lambda: verifier.judge(place.text, candidate.record.text, candidate.similarity))
            if inspect.isawaitable(answer):
                answer = await answer
            partition = self.matcher.partition(space.prefix, place.partition)
            current = partition.records.get(candidate.record.digest)
            if answer is True and current is not None:
                await self._vectors.keep(rt, space, place.partition, promoted(current, place.text))

        await self._background.submit(rt, "judge", ask, key=("judge", candidate.record.digest, place.text))

    async def _entry(self, rt: Runtime, space: Space, candidate: Candidate, control: CacheControl) -> Found | None:
        found = await self._tiers.find(rt, space, self._key_of(space, candidate.record))
        if found is None:
            return None
        record, now = found.record, self._settings.clock.now()
        if control.max_age is not None and now - record.created_at > control.max_age:
            return None
        if self._settings.timeless or freshness(record.stale_at, record.expires_at, now) is Freshness.FRESH:
            return found
        return None

    def _key_of(self, space: Space, record: VectorRecord) -> Key:
        if record.kind == "text":
            return space.keys.key(record.text)
        return Key(record.kind, record.digest)

    # Remembering

    async def remember(
        self, rt: Runtime, space: Space, key: Key, request: object, value: object, record: EntryRecord
    ) -> None:
        """Make a stored answer findable by meaning, in the background; refused and truncated answers never are."""
        place = place_of(space.keys, request, key, CacheControl())
        if isinstance(place, Bypass) or unfit(value) is not None:
            return
        expires_at = None if record.meta.get("sliding") else record.expires_at
        kind, digest, created_at = key.kind, key.digest, record.created_at
        explored = self._exploring.pop((space.prefix, digest), None)

        async def embed() -> None:
            try:
                if not self.encoder.fits(place.text):
                    return
                vector = (await self.encoder.encode(rt, [place.text]))[0]
            except EmbedderError as error:
                space.counters.errors += 1
                self._events.tell(
                    "semantic", tenant=space.tenant, namespace=space.namespace, kind=kind, reason=str(error)
                )
                return
            if explored is not None:
                await self._observe(rt, space, explored, value)
            read(place.text)  # the guards' reading of the stored side is made here and not while somebody waits
            vectors = VectorRecord(digest, kind, place.text, vector, created_at, expires_at)
            await self._vectors.keep(rt, space, place.partition, vectors)

        await self._background.submit(rt, "embed", embed, key=("embed", space.prefix, digest))

    # Learning

    def policy(self, space: Space) -> Policy:
        """The policy of a namespace as it stands after all that was reported."""
        return self._policies.get(space.prefix, self.semantic.policy)

    def report(self, rt: Runtime, space: Space, near: Near, *, correct: bool) -> None:
        """Take note of whether a served answer was right: a wrong pair is never served again."""
        with self._lock:
            self._policies[space.prefix] = self.policy(space).learn(near.similarity, correct)
        partition = self.matcher.partition(space.prefix, near.place.partition)
        current = partition.records.get(near.candidate.record.digest)
        if current is None:
            return
        changed = promoted(current, near.place.text) if correct else denied(current, near.place.text)
        if changed is current:
            return
        if changed is None:
            self.matcher.remove(partition, current.digest)
        else:
            self.matcher.add(partition, changed, name=partition.names.get(current.digest))

        async def write() -> None:
            if changed is None:
                await self._vectors.drop(rt, space, partition, current.digest)
            else:
                await self._vectors.keep(rt, space, near.place.partition, changed)

        self._background.start(rt, "report", write)

    # Exploring (the per-request policy)

    def _count_asked(self, space: Space, *, candidate: bool) -> None:
        with self._lock:
            policy = self.policy(space)
            if isinstance(policy, PerRequest):
                self._policies[space.prefix] = policy.asked(candidate=candidate)

    def _explore(self, space: Space, key: Key, candidate: Candidate) -> None:
        """Remember which stored answer the one that is computed now is to be compared with."""
        with self._lock:
            self._exploring[space.prefix, key.digest] = candidate
            while len(self._exploring) > MAX_EXPLORING:
                self._exploring.popitem(last=False)

    async def _observe(self, rt: Runtime, space: Space, candidate: Candidate, value: object) -> None:
        """Compare a fresh answer with the stored one that might have stood for it."""
        found = await self._tiers.find(rt, space, self._key_of(space, candidate.record))
        if found is None:
            return
        stored = loads(found.value, serializers=tuple(self._settings.serializers)) if found.packed else found.value
        correct = await self._same_answer(rt, stored, value)
        with self._lock:
            policy = self.policy(space)
            if isinstance(policy, PerRequest):
                self._policies[space.prefix] = policy.observed(candidate.similarity, correct)
            own = (*self._seen.get(candidate.record.digest, ()), (candidate.similarity, correct))
            self._seen[candidate.record.digest] = own[-MAX_OWN:]
            while len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)

    # Auditing

    def trail(self, space: Space) -> Trail:
        """What the audits of a namespace found so far."""
        return self._trails.get(space.prefix, Trail())

    def chosen(self, *, known: bool) -> bool:
        """Whether this hit is one of the share that is audited. `known`: the caller said how to compute the answer."""
        share = self.semantic.audit
        return (known or self.semantic.recompute is not None) and share > 0.0 and self._chance.random() < share

    async def audited(self, rt: Runtime, space: Space, near: Near, served: Any, recomputed: Any) -> bool:
        """Take note of a recomputed answer; answers whether the served one was right."""
        correct = await self._same_answer(rt, served, recomputed)
        with self._lock:
            before = self.trail(space)
            after = before.noted(correct=correct, max_error=self.semantic.max_error)
            self._trails[space.prefix] = after
            if after.raised > before.raised:
                base = self.policy(space)
                inner = base.policy if isinstance(base, Tightened) else base
                self._policies[space.prefix] = Tightened(inner, after.raised)
        self.report(rt, space, near, correct=correct)
        if self._events.active:
            detail = {"correct": correct, "similarity": near.similarity, **after.figures()}
            self._events.tell(
                "audit", tenant=space.tenant, namespace=space.namespace, reason=after.state, detail=detail
            )
        return correct

    async def _same_answer(self, rt: Runtime, served: Any, recomputed: Any) -> bool:
        if self.semantic.equivalent is not None:
            return bool(self.semantic.equivalent(served, recomputed))
        known = plainly_equal(served, recomputed)
        if known is not None:
            return known
        one, other = answer_text(served) or "", answer_text(recomputed) or ""
        if not one.strip() or not other.strip() or not (self.encoder.fits(one) and self.encoder.fits(other)):
            return False
        try:
            first, second = await self.encoder.encode(rt, [one, other])
        except EmbedderError:
            return False
        facts = judge(compare(one, other), FACTS)
        return float(first @ second) >= SAME_ANSWER and first_veto(facts) is None

    # Figures

    def _note(self, space: Space, key: Key, said: Decision, similarity: float | None) -> None:
        steps = self._steps.setdefault(space.prefix, {})
        steps[said.step] = steps.get(said.step, 0) + 1
        if self._events.active:
            detail = {"step": said.step, "similarity": similarity, "guards": dict(said.guards), "bound": said.bound}
            self._events.tell(
                "semantic",
                tenant=space.tenant,
                namespace=space.namespace,
                kind=key.kind,
                reason=said.reason,
                detail=detail,
            )

    def figures(self, space: Space) -> Mapping[str, Any]:
        """How often each step decided in a namespace, and what is held in memory."""
        return {
            "steps": dict(self._steps.get(space.prefix, {})),
            "vectors": self.matcher.vectors,
            "embedder": self.semantic.embedder.fingerprint,
            "threshold": self.policy(space).threshold,
            "audit": self.trail(space).figures(),
        }
