"""Which near questions does a semantic cache answer: how many duplicates, and how many that mean something else?"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentcache_core import Cache, Semantic
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.semantic import DEFAULT_GUARDS, FACT_GUARDS, Encoder, PairVerifier, compare, default_guards, judge
from agentcache_core.semantic.embedder import as_embedder
from agentcache_core.semantic.guards import first_veto
from agentcache_core.semantic.perrequest import PerRequest
from benchmarks.harness import Goal, Report, Row, Settings
from benchmarks.quality._builtin import BUILT_IN
from benchmarks.quality._gptcache import gptcache_served
from benchmarks.quality._pairs import LANGUAGES, Labelled, Scored, Vectors, halves, load, sampled, score
from benchmarks.workload import data_folder

THRESHOLD = 0.95
RECALL = 0.65
FALSE_HITS = 0.10
LOOKED_AT = 0.78
"""The cosine from which on the fitted verifier is asked."""
Rule = Callable[[Scored, float], bool]


def plain(scored: Scored, threshold: float) -> bool:
    return scored.cosine >= threshold


def guarded(scored: Scored, threshold: float) -> bool:
    return scored.cosine >= threshold and scored.veto is None


RULES: dict[str, Rule] = {"plain cosine": plain, "agentcache": guarded}


def share(scored: Sequence[Scored], rule: Rule, threshold: float) -> float:
    """How many of the pairs are served, in percent."""
    return 100.0 * sum(rule(one, threshold) for one in scored) / len(scored) if scored else 0.0


def false_hits(scored: Sequence[Scored], rule: Rule, threshold: float) -> float:
    """How many of the served pairs mean something else, in percent."""
    served = [one for one in scored if rule(one, threshold)]
    return 100.0 * sum(not one.pair.same for one in served) / len(served) if served else 0.0


def threshold_for_recall(scored: Sequence[Scored], rule: Rule, recall: float) -> float:
    """The highest threshold, in steps of 0.005, at which this share of the true duplicates is served."""
    same = [one for one in scored if one.pair.same]
    for step in range(200, 99, -1):
        if share(same, rule, step / 200) >= 100 * recall:
            return step / 200
    return 0.5


def threshold_for_false_hits(scored: Sequence[Scored], rule: Rule, allowed: float) -> float:
    """The lowest threshold, in steps of 0.005, at which false hits stay within `allowed`."""
    fitting = [step / 200 for step in range(100, 200) if false_hits(scored, rule, step / 200) <= 100 * allowed]
    return min(fitting, default=1.0)


def streams(scored: Sequence[Scored], *, count: int, length: int) -> list[Row]:
    """Random streams of QQP pairs through the per-request policy: how often its bound is broken, and its recall; and
    that of the best fixed similarity in hindsight."""
    rows: list[Row] = []
    for allowed in (0.005, 0.01, 0.02):
        broken, recalls, hindsight = 0, [], []
        for seed in range(count):
            chance = random.Random(seed)
            stream = chance.sample(list(scored), min(length, len(scored)))
            errors, hits = per_request_stream(stream, allowed, chance)
            same = max(1, sum(one.pair.same for one in stream))
            broken += errors > allowed * len(stream)
            recalls.append(100 * hits / same)
            hindsight.append(100 * _best_in_hindsight(stream, allowed) / same)
        note = f"bound broken in {broken} of {count} streams of {min(length, len(scored)):,}"
        rows.append(
            Row(f"QQP streams, recall at {allowed:.1%} errors of all: per request", statistics.mean(recalls), note=note)
        )
        rows.append(
            Row(
                f"QQP streams, recall at {allowed:.1%} errors of all: best cosine, hindsight",
                statistics.mean(hindsight),
            )
        )
    return rows


def per_request_stream(stream: Sequence[Scored], allowed: float, chance: random.Random) -> tuple[int, int]:
    """(wrong answers, right answers) that the per-request policy serves of one stream."""
    policy = PerRequest(allowed, LOOKED_AT)
    errors = hits = 0
    for one in stream:
        near = one.cosine >= LOOKED_AT and one.veto is None
        policy = policy.asked(candidate=near)
        if near and policy.draw(one.cosine, (), chance.random()).serve:
            hits += one.pair.same
            errors += not one.pair.same
        elif near:
            policy = policy.observed(one.cosine, one.pair.same)
    return errors, hits


def _best_in_hindsight(stream: Sequence[Scored], allowed: float) -> int:
    errors = hits = best = 0
    for one in sorted(stream, key=lambda one: -one.cosine):
        hits += one.pair.same
        errors += not one.pair.same
        if errors <= allowed * len(stream):
            best = hits
    return best


def checklist(scored: Sequence[Scored]) -> tuple[list[Row], dict[str, Any]]:
    """Near-misses by kind at the default threshold, and all of them at the threshold that keeps enough duplicates."""
    fixed, judged = halves(scored)
    rows: list[Row] = []
    kinds = sorted({one.pair.kind for one in judged if not one.pair.same})
    for name, rule in RULES.items():
        for kind in kinds:
            near = [one for one in judged if one.pair.kind == kind and not one.pair.same]
            rows.append(Row(f"near-misses served, {kind.lower()}: {name}", share(near, rule, THRESHOLD)))
        rows += _overall("CheckList", judged, name, rule, THRESHOLD)
        cut = threshold_for_recall(fixed, rule, RECALL)
        rows += _overall(f"CheckList at {RECALL:.0%} recall", judged, name, rule, cut, note=f"threshold {cut:g}")
    return rows, {"vetoes": _vetoes(judged)}


def _overall(what: str, judged: Sequence[Scored], name: str, rule: Rule, threshold: float, note: str = "") -> list[Row]:
    different = [one for one in judged if not one.pair.same]
    same = [one for one in judged if one.pair.same]
    return [
        Row(f"{what}, different served: {name}", share(different, rule, threshold), note=note),
        Row(f"{what}, recall: {name}", share(same, rule, threshold), note=note),
    ]


def _vetoes(scored: Sequence[Scored]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in scored:
        if one.veto is not None and one.cosine >= THRESHOLD:
            found[one.veto] = found.get(one.veto, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def questions(scored: Sequence[Scored]) -> list[Row]:
    """QQP: recall and false hits at the default threshold, and recall at the threshold fixed for false hits."""
    fixed, judged = halves(scored)
    rows: list[Row] = []
    for name, rule in RULES.items():
        same = [one for one in judged if one.pair.same]
        rows.append(Row(f"QQP, recall: {name}", share(same, rule, THRESHOLD)))
        rows.append(Row(f"QQP, false hits of served: {name}", false_hits(judged, rule, THRESHOLD)))
        cut = threshold_for_false_hits(fixed, rule, FALSE_HITS)
        note = f"threshold {cut:g}, false hits {false_hits(judged, rule, cut):.1f} %"
        rows.append(Row(f"QQP, recall at {FALSE_HITS:.0%} false hits: {name}", share(same, rule, cut), note=note))
    return rows


def latency(encoder: Encoder, *, entries: int, rounds: int) -> list[Row]:
    """The median of a semantic lookup among `entries` stored questions, and of embedding its text alone."""
    stored = [f"How many {noun} of order {n} were shipped?" for n in range(entries // 2) for noun in ("boxes", "bags")]
    asked = [f"Please tell me how many boxes of order {n} were shipped" for n in range(rounds)]
    alone: list[float] = []
    whole: list[float] = []
    with Cache(
        "memory://?max_entries=1000000", semantic=Semantic(embedder=encoder.embedder), background=False
    ) as cache:
        similar = cache._engine.similar
        assert similar is not None
        for start in range(0, len(stored), 256):  # one batch warms the memo for many
            batch = stored[start : start + 256]
            drive(similar.encoder.encode(BLOCKING, batch))
            cache.set_many((text, "some") for text in batch)
        for text in asked:
            other = text.replace("boxes", "crates")
            before = time.perf_counter()
            encoder.embedder.embed([other])
            alone.append(time.perf_counter() - before)
            before = time.perf_counter()
            cache.lookup(text)
            whole.append(time.perf_counter() - before)
    embed, lookup = statistics.median(alone), statistics.median(whole)
    return [
        Row("embedding one question alone, p50", 100.0, note=f"{1e3 * embed:.1f} ms"),
        Row("semantic lookup, p50", 100 * lookup / embed, note=f"{1e3 * lookup:.1f} ms, {len(stored):,} entries"),
    ]


def guard_time(scored: Sequence[Scored]) -> float:
    """The mean time of all guards for one candidate whose text was read before, in microseconds."""
    from agentcache_core.semantic.guards import align, judge, read

    near = [one.pair for one in scored if one.cosine >= 0.9][:1000] or [one.pair for one in scored][:100]
    readings = [(read(pair.a), read(pair.b)) for pair in near]
    for a, b in readings:
        judge(align(a, b), DEFAULT_GUARDS)
    before = time.perf_counter()
    for a, b in readings:
        judge(align(a, b), DEFAULT_GUARDS)
    return 1e6 * (time.perf_counter() - before) / len(near)


def fitted(scored: Sequence[Scored], encoder: Encoder) -> list[Row]:
    """A verifier fitted to one half of QQP, its threshold fixed there, judged on the other. Measured, never shipped."""
    fixed, judged = halves(scored)
    seen = [one.pair for one in fixed if one.cosine >= LOOKED_AT]
    verifier = PairVerifier.fit(
        ((pair.a, pair.b, pair.same) for pair in seen), embedder=encoder.embedder, max_false_hits=FALSE_HITS
    )
    near = [one.pair for one in judged if one.cosine >= LOOKED_AT]
    chances = verifier.probabilities([(pair.a, pair.b) for pair in near])
    served = [
        pair
        for pair, chance in zip(near, chances, strict=True)
        if chance >= verifier.threshold and first_veto(judge(compare(pair.a, pair.b), FACT_GUARDS)) is None
    ]
    same = sum(one.pair.same for one in judged)
    wrong = 100.0 * sum(not pair.same for pair in served) / len(served) if served else 0.0
    recall = 100.0 * sum(pair.same for pair in served) / same if same else 0.0
    note = f"fitted to {len(seen):,} pairs, threshold {verifier.threshold:.3f}"
    return [Row("QQP, recall: fitted verifier", recall, note=note), Row("QQP, false hits: fitted verifier", wrong)]


def measure(
    folder: Path | None, *, vectors: Path | None, qqp: int | None, small: bool, embedder: str | None, fit: bool = False
) -> Report:
    """The whole answer. Without a folder of data only the built-in pairs are judged."""
    encoder = Encoder(as_embedder(embedder), memo=100_000)
    store = Vectors(encoder, vectors)
    limit = 24 if small else None
    left_out: dict[str, str] = {}
    rows: list[Row] = []
    extra: dict[str, Any] = {"embedder": encoder.fingerprint, "threshold": THRESHOLD}

    def scored(name: str, pairs: list[Labelled], guards: Any = DEFAULT_GUARDS) -> list[Scored]:
        return score(pairs, store.of(name, (text for pair in pairs for text in (pair.a, pair.b))), guards)

    def file(name: str, most: int | None = None) -> list[Labelled]:
        path = None if folder is None else folder / f"{name}.jsonl.gz"
        if path is None or not path.exists():
            left_out[name] = f"no {name}.jsonl.gz in {folder or 'AGENTCACHE_BENCH_DATA/semantic'}"
            return []
        return sampled(load(path), limit if limit is not None else most)

    built_in = scored("built-in", list(BUILT_IN))
    for name, rule in RULES.items():
        rows += _overall("built-in pairs", built_in, name, rule, THRESHOLD)
    if found := scored("checklist", file("checklist")):
        more, extra["checklist"] = checklist(found)
        rows += more
        extra["guards_microseconds_per_candidate"] = round(guard_time(found), 1)
    if found := scored("pawsx_en", file("pawsx_en")):
        for name, rule in RULES.items():
            rows += _overall("PAWS-X en", halves(found)[1], name, rule, THRESHOLD)
    for name in [f"pawsx_{code}" for code in LANGUAGES] + ["korean_questions"]:
        code = "ko" if name.startswith("korean") else name[-2:]
        if pairs := file(name):
            shown = "Korean questions" if name.startswith("korean") else f"PAWS-X {code}"
            judged = halves(scored(name, pairs))[1]
            rows += _overall(shown, judged, "plain cosine", plain, THRESHOLD)
            rows += _overall(shown, judged, "agentcache", guarded, THRESHOLD, note="language not served by default")
            opened = halves(scored(name, pairs, default_guards(["en", code])))[1]
            rows += _overall(shown, opened, f"agentcache serving {code}", guarded, THRESHOLD)
    if pairs := file("qqp", qqp):
        found = scored("qqp", pairs)
        rows += questions(found)
        rows += streams(found, count=2 if small else 20, length=8_000)
        if fit:
            rows += fitted(found, encoder)
    rows += gptcache_served(scored("checklist", file("checklist", 600)) or built_in, encoder, left_out)
    rows += latency(encoder, entries=40 if small else 10_000, rounds=2 if small else 200)
    goals = (
        Goal("semantic lookup, p50", "embedding one question alone, p50", 1.3),
        Goal("CheckList, different served: agentcache", "CheckList, different served: plain cosine", 0.1),
    )
    return Report(__doc__ or "", "%", tuple(rows), goals, left_out, extra)


def run(settings: Settings) -> Report:
    found = data_folder()
    folder = None if found is None else found / "semantic"
    return measure(folder, vectors=None, qqp=12_000, small=settings.small, embedder=None)


def main(arguments: list[str] | None = None) -> int:
    """`python -m benchmarks.quality.semantic [DATA] [--json] [--vectors DIR] [--qqp N] [--embedder NAME]`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.semantic", description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, help="the folder of the labelled pairs (*.jsonl.gz)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--small", action="store_true", help="24 pairs of each file")
    parser.add_argument("--vectors", type=Path, help="keep embeddings in this folder between runs")
    parser.add_argument("--qqp", type=int, default=12_000, help="how many QQP pairs to judge (0: all)")
    parser.add_argument("--fit", action="store_true", help="fit a verifier to one half of QQP, judge it on the other")
    parser.add_argument("--embedder", help="a sentence-transformers name or path instead of the default model")
    chosen = parser.parse_args(arguments)
    folder = chosen.data
    if folder is None:
        found = data_folder()
        folder = None if found is None else found / "semantic"
    elif not folder.is_dir():
        print(f"no folder {folder}", file=sys.stderr)
        return 2
    report = measure(
        folder,
        vectors=chosen.vectors,
        qqp=chosen.qqp or None,
        small=chosen.small,
        embedder=chosen.embedder,
        fit=chosen.fit,
    )
    print(json.dumps(report.as_json()) if chosen.json else report.as_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
