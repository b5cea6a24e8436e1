"""`agentcache replay FILE…`: what would caching have saved me?"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from agentcache_adapters.cli.batches import BatchAnswers, collect_answers
from agentcache_adapters.cli.console import err, fail, failures, out, plain, print_json
from agentcache_adapters.cli.explain import AsJson
from agentcache_adapters.cli.lines import BadLine, read_lines
from agentcache_adapters.cli.logs import read_records
from agentcache_adapters.cli.replaying import Replayer, Tally
from agentcache_adapters.cli.report import render
from agentcache_adapters.cli.semantic import EmbedderName, semantic_keys
from agentcache_adapters.cli.toolplay import ToolPlay
from agentcache_core import Cache
from agentcache_core.tools.session import Scope

_SHOWN_BAD_LINES = 20
_NAMESPACE = "replay"


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Logs as JSON lines, plain or gzip.")],
    backend: Annotated[
        str | None, typer.Option(help="Where to store, as a URL (namespace 'replay'); a temporary file if not given.")
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="How often to go through the logs.")] = 1,
    model: Annotated[str | None, typer.Option(help="The model's name where a log does not give one.")] = None,
    tools: Annotated[
        Path | None, typer.Option(help="Play tool calls too, by the effects this TOML file declares.")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="The tools' world: shared by all runs, or private to each (session).")
    ] = "shared",
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file as well.")] = None,
    semantic: Annotated[bool, typer.Option("--semantic", help="Answer similar questions too.")] = False,
    threshold: Annotated[float, typer.Option(help="With --semantic: the similarity from which on.")] = 0.95,
    embedder: EmbedderName = None,
    as_json: AsJson = False,
) -> None:
    """Answer "what would caching have saved me?" from request logs.

    A line of a log is {"request" or "body", "response"}, or a line of an OpenAI batch's input or output, or a
    conversation {"traj" or "messages"}. Nothing is sent anywhere; lines that cannot be used are counted and reported.
    """
    sizes = [_size(file) for file in files]
    if html is not None:
        _check_writable(html)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="agentcache-") as folder, failures():
        url = backend or f"sqlite:///{folder}/replay.db"
        near = semantic_keys(threshold, embedder) if semantic else None
        cache = Cache(
            url,
            namespace=_NAMESPACE,
            semantic=near,
            strict=True,
            deadline="30s",
            maintenance="manual",
            background=near is None,  # what was just stored must be findable by the next line
        )
        with cache, BatchAnswers(Path(folder) / "answers.db") as answers, _progress(sum(sizes) * passes) as progress:
            for file in files:
                collect_answers(read_lines(file), answers)
            start = time.perf_counter()
            tally.played = None if tools is None else ToolPlay(cache, str(tools), cast("Scope", scope))
            replayer = Replayer(cache, tally)
            for number in range(passes):
                if tally.played is not None:
                    tally.played.begin_pass()
                bad = _one_pass(files, replayer, tally, model, answers, progress)
                _report_bad_lines(bad, quiet=number > 0)
            tally.seconds = time.perf_counter() - start
            stats = cache.stats()
            tally.bytes_stored, tally.bytes_served = stats.bytes_stored, stats.bytes_served
            evicted = sum(tier.evictions or 0 for tier in stats.tiers)
    if evicted:
        err.print(f"note: {evicted:,} entries were evicted; a larger or unbounded --backend would answer more")
    if not tally.model_calls + tally.tool_calls:
        err.print("note: no call was found in any line; `agentcache replay --help` names the shapes that are known")
    if html is not None:
        _write(html, render(tally, files=[str(file) for file in files], passes=passes))
    if as_json:
        print_json(tally.to_dict())
    else:
        _print_table(tally, passes)


def _size(file: Path) -> int:
    try:
        if file.is_dir():
            raise fail(f"{file} is a folder; give the log files in it")
        with file.open("rb"):
            return file.stat().st_size
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror or error}") from error


def _check_writable(page: Path) -> None:
    """Tell before the work that a page cannot be written, not after it; and leave a page that is there alone."""
    if page.is_dir() or not os.access(page if page.exists() else page.parent, os.W_OK):
        raise fail(f"cannot write {page}: no such folder, or not allowed, or a folder itself")


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise fail(f"cannot write {page}: {error.strerror or error}") from error


def _one_pass(
    files: list[Path],
    replayer: Replayer,
    tally: Tally,
    model: str | None,
    answers: BatchAnswers,
    progress: Callable[[int], None],
) -> Iterator[BadLine]:
    for file in files:
        yield from replayer.replay(read_records(read_lines(file, progress), model=model, answers=answers))
    for unasked in answers.unasked():
        tally.bad_lines += 1
        yield unasked


def _report_bad_lines(bad: Iterator[BadLine], *, quiet: bool) -> None:
    count = 0
    for count, line in enumerate(bad, 1):
        if not quiet and count <= _SHOWN_BAD_LINES:
            err.print(plain(f"bad line {line}"))
    if not quiet and count > _SHOWN_BAD_LINES:
        err.print(f"… and {count - _SHOWN_BAD_LINES:,} more bad lines")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal; nothing otherwise."""
    if not err.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("replaying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda step: bar.advance(task, step)


def _print_table(tally: Tally, passes: int) -> None:
    table = Table(title="What caching would have saved" + (f" ({passes} passes)" if passes > 1 else ""))
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    table.add_row("model calls", f"{tally.model_calls:,}")
    table.add_row("  answered from the cache", f"{tally.exact_hits:,}", _share(tally.exact_hits, tally.model_calls))
    if tally.semantic_hits:
        table.add_row(
            "  by a similar question", f"{tally.semantic_hits:,}", _share(tally.semantic_hits, tally.model_calls)
        )
    table.add_row("  of these, not as recorded", f"{tally.wrong_hits:,}", _share(tally.wrong_hits, tally.exact_hits))
    if tally.failed:
        table.add_row("  recorded as failed, not stored", f"{tally.failed:,}", _share(tally.failed, tally.model_calls))
    if tally.unanswered:
        table.add_row(
            "  without a recorded answer", f"{tally.unanswered:,}", _share(tally.unanswered, tally.model_calls)
        )
    table.add_row("tool calls", f"{tally.tool_calls:,}")
    table.add_row("  that repeat an earlier one", f"{tally.repeats:,}", _share(tally.repeats, tally.tool_calls))
    if tally.played is not None:
        played = tally.played
        table.add_row(
            "  of pure and reading tools", f"{played.cacheable:,}", _share(played.cacheable, tally.tool_calls)
        )
        table.add_row("  answered from the cache", f"{played.hits:,}", _share(played.hits, tally.tool_calls))
        table.add_row("  of these, not as recorded", f"{played.wrong_hits:,}", _share(played.wrong_hits, played.hits))
    table.add_row("bytes stored", f"{tally.bytes_stored:,}")
    table.add_row("bytes served from the cache", f"{tally.bytes_served:,}")
    if tally.saved.input_tokens + tally.saved.output_tokens:
        tokens = tally.saved.input_tokens + tally.saved.output_tokens
        table.add_row("tokens not spent", f"{tokens:,}")
        table.add_row("dollars not spent, at list prices", f"{tally.saved.usd_micros / 1e6:,.4f}")
    table.add_row("bad lines", f"{tally.bad_lines:,}")
    table.add_row("seconds this took", f"{tally.seconds:,.1f}")
    out.print(table)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
