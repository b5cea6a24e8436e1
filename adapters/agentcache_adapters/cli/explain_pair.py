"""`agentcache explain-pair A B`: would the answer to one question be served for the other, and why?"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from agentcache_adapters.cli.console import failures, out, plain, print_json
from agentcache_adapters.cli.explain import AsJson
from agentcache_adapters.cli.semantic import EmbedderName, embedder_named


def explain_pair(
    a: Annotated[str, typer.Argument(help="The question that is asked.")],
    b: Annotated[str, typer.Argument(help="The question whose answer is stored.")],
    threshold: Annotated[float, typer.Option(help="The cosine similarity from which on pairs are looked at.")] = 0.95,
    max_error: Annotated[float | None, typer.Option(help="Decide by a proven bound; needs --calibration.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="What `agentcache calibrate` wrote.")] = None,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Show the similarity of two questions, every guard's verdict, and the decision."""
    from agentcache_core.semantic.configuration import Semantic
    from agentcache_core.semantic.decision import SERVING
    from agentcache_core.semantic.scoring import score_pair

    with failures(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an uncalibrated bound is told as the decision below
        semantic = Semantic(threshold, embedder=embedder_named(embedder), max_error=max_error, calibration=calibration)
        found = score_pair(semantic, a, b)
    served = found.decision.step in SERVING
    if as_json:
        print_json(
            {
                "similarity": found.similarity,
                "guards": {name: str(verdict) for name, verdict in found.guards.items()},
                "decision": {
                    "served": served,
                    "step": found.decision.step,
                    "reason": found.decision.reason,
                    "bound": found.decision.bound,
                },
            }
        )
        return
    shown = "not measured" if found.similarity is None else f"{found.similarity:.4f}"
    out.print(plain(f"similarity {shown}  ({semantic.embedder.fingerprint})"))
    table = Table("guard", "verdict")
    for name, verdict in found.guards.items():
        table.add_row(plain(name), plain(str(verdict)))
    out.print(table)
    verdict_text = "served" if served else "not served"
    out.print(verdict_text, style="bold green" if served else "bold red", end=" ")
    out.print(plain(f"by step {found.decision.step}: {found.decision.reason}"))
