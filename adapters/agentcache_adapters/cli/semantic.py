"""What the semantic commands share: how an embedder is named, and how labelled pairs are read."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from agentcache_adapters.cli.console import fail
from agentcache_adapters.cli.lines import BadLine, read_lines

EmbedderName = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="A sentence-transformers name or path, or MODULE:FUNCTION of yours; default all-MiniLM-L6-v2 (English).",
    ),
]


def embedder_named(name: str | None) -> Any:
    """What `Semantic(embedder=…)` takes, from a command line."""
    if name is None or ":" not in name or Path(name).exists():
        return name
    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise fail(f"no embedder {name!r}: {error}") from error
    finally:
        sys.path.remove("")


def labelled_pairs(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(a, b, same meaning) of every line; a line that is no such pair is wrong input."""
    try:
        for line in read_lines(path):
            if isinstance(line, BadLine):
                raise fail(str(line))
            try:
                pair = orjson.loads(line.content)
                a, b, label = pair["a"], pair["b"], pair["label"]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise fail(str(line.bad(f'is no pair {{"a": …, "b": …, "label": 0 or 1}}: {error!r}'))) from error
            if not (isinstance(a, str) and isinstance(b, str) and label in (0, 1, True, False)):
                raise fail(str(line.bad('needs texts "a" and "b" and a "label" of 0 or 1')))
            yield a, b, bool(label)
    except OSError as error:
        raise fail(f"cannot read {path}: {error.strerror or error}") from error


def semantic_keys(threshold: float, embedder: str | None) -> Any:
    """Semantic keys with a fixed threshold, as asked for on a command line."""
    from agentcache_core.semantic.configuration import Semantic

    return Semantic(threshold, embedder=embedder_named(embedder))
