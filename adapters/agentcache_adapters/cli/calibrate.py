"""`agentcache calibrate PAIRS.jsonl`: from labelled pairs to a threshold whose error is proven."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Final

import typer

from agentcache_adapters.cli.console import fail, failures, out, plain, print_json
from agentcache_adapters.cli.explain import AsJson
from agentcache_adapters.cli.semantic import EmbedderName, embedder_named, labelled_pairs

NOTHING_QUALIFIES: Final = 3


def calibrate(
    pairs: Annotated[
        Path, typer.Argument(help='JSON lines {"a": …, "b": …, "label": 1 for the same meaning, else 0}.')
    ],
    max_error: Annotated[float, typer.Option(help="The share of wrong answers allowed among those served.")] = 0.01,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write.")] = Path("calibration.json"),
    confidence: Annotated[float, typer.Option(help="How sure the bound is to be.")] = 0.95,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Find the lowest threshold at which at most MAX_ERROR of the answers are wrong, with a finite-sample proof.

    Exit status 3 when no threshold qualifies; nothing is written then.
    """
    from agentcache_core.semantic.calibration import calibrate as calibration_of
    from agentcache_core.semantic.calibration import prove
    from agentcache_core.semantic.configuration import Semantic
    from agentcache_core.semantic.scoring import score_pairs

    if not (0.0 < max_error < 1.0 and 0.0 < confidence < 1.0):
        raise fail("--max-error and --confidence are shares between 0 and 1, such as 0.01 and 0.95")
    listed = list(labelled_pairs(pairs))
    with failures(), warnings.catch_warnings():
        semantic = Semantic(embedder=embedder_named(embedder))
        scored = list(score_pairs(semantic, ((a, b) for a, b, _ in listed)))
        rows = [(s.similarity or 0.0, s.clear, same) for s, (_, _, same) in zip(scored, listed, strict=True)]
        found = calibration_of(
            rows,
            fingerprint=semantic.embedder.fingerprint,
            guards_version=semantic.guards_version,
            confidence=confidence,
        )
        proof = prove(found.scores, found.correct, max_error, confidence=confidence)
    told = {"pairs": len(listed), "passed_guards": len(found.scores), "max_error": max_error, "confidence": confidence}
    if proof is None:
        if as_json:
            print_json({**told, "threshold": None})
        else:
            out.print("no threshold qualifies", style="bold red")
            out.print(
                f"{len(listed):,} pairs, {len(found.scores):,} pass the guards; more labelled pairs near the top, or a "
                "larger --max-error, may help"
            )
        raise typer.Exit(NOTHING_QUALIFIES)
    try:
        found.save(output, max_error=max_error)
    except OSError as error:
        raise fail(f"cannot write {output}: {error.strerror or error}") from error
    same_total = sum(same for _, _, same in listed)
    recall = (proof.count - proof.errors) / same_total if same_total else 0.0
    if as_json:
        print_json({**told, "threshold": proof.threshold, "count": proof.count, "errors": proof.errors,
                    "bound": proof.bound, "recall": recall, "output": str(output)})  # fmt: skip
        return
    out.print(f"threshold {proof.threshold:.4f}", style="bold green")
    out.print(
        f"{proof.errors} of {proof.count:,} pairs at or above it were wrong: with confidence {confidence:g} at most "
        f"{proof.bound:.2%} of such answers are; {recall:.1%} of the true duplicates are served"
    )
    out.print(plain(f"written to {output}; use it with Semantic(max_error={max_error:g}, calibration={str(output)!r})"))
