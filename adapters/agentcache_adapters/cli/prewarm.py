"""`agentcache prewarm FILE --with module:function`: ask a file of requests ahead of time, once or on a schedule."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from agentcache_adapters.cli.console import err, fail, failures, out, plain, print_json
from agentcache_core import AsyncCache, Cache
from agentcache_core.clock import SYSTEM_CLOCK
from agentcache_core.prewarm import PrewarmReport
from agentcache_core.schedule import Schedule, run_on

SOME_FAILED = 1


def prewarm(
    file: Annotated[
        str, typer.Argument(help="JSON lines, plain or .gz: a request each, or under `request` or `body`.")
    ],
    function: Annotated[str, typer.Option("--with", metavar="MODULE:FUNCTION", help="Answers one request.")],
    url: Annotated[str, typer.Option("--backend", help="The cache to fill.")] = "sqlite:///agentcache.db",
    tenant: Annotated[str, typer.Option(help="The tenant to fill it for.")] = "",
    namespace: Annotated[str, typer.Option(help="The namespace to fill.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    rate: Annotated[float | None, typer.Option(help="Requests a second at most.")] = None,
    ttl: Annotated[str | None, typer.Option(help="How long answers live, such as 12h.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for every answer; may be repeated.")] = None,
    schedule: Annotated[str | None, typer.Option(help='Run whenever a cron expression is due: "0 6 * * 1-5".')] = None,
    timezone: Annotated[str, typer.Option(help="The time zone of the schedule.")] = "UTC",
    times: Annotated[int | None, typer.Option(min=1, help="Scheduled runs before it ends; for ever otherwise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run instead of a table.")] = False,
) -> None:
    """Ask every request of a file that is not stored yet, so that later callers find the answer.

    Started again, it goes on where it was stopped. Exit status 1 when some requests failed.
    """
    compute = load_function(function)
    options: dict[str, Any] = {"concurrency": concurrency, "rate": rate, "tags": tag or []}
    if ttl is not None:
        options["ttl"] = ttl
    last = [PrewarmReport()]

    def one_run() -> None:
        bad: list[str] = []
        with failures():
            last[0] = _run(file, compute, bad, url=url, tenant=tenant, namespace=namespace, options=options)
        _show(last[0], bad, as_json=as_json)

    if schedule is None:
        one_run()
    else:
        with failures():
            when = Schedule(schedule, timezone=timezone)
            run_on(when, one_run, clock=SYSTEM_CLOCK, wait=time.sleep, times=times)
    if last[0].failed:
        raise typer.Exit(SOME_FAILED)


def load_function(named: str) -> Callable[[Any], Any]:
    """The function `module:function` names, looked for in the working directory first."""
    module, _, name = named.partition(":")
    if not module or not name:
        raise fail(f"--with takes module:function, such as agent:answer, not {named!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise fail(f"cannot import {module!r}: {error}") from error
    except AttributeError as error:
        raise fail(f"{module!r} has no function {name!r}") from error
    if not callable(found):
        raise fail(f"{named} is a {type(found).__name__}, not a function")
    function: Callable[[Any], Any] = found
    return function


def requests_in(path: str, bad: list[str]) -> Iterator[Any]:
    """The requests of a file, one at a time; lines that hold none go to `bad`, with file and line number."""
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    request = json.loads(line)
                except ValueError as error:
                    bad.append(f"{path}:{number}: {error}")
                    continue
                if isinstance(request, dict):
                    request = request.get("request", request.get("body", request))
                if isinstance(request, dict | str):
                    yield request
                else:
                    bad.append(f"{path}:{number}: a request is an object or a string")
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _run(
    file: str,
    compute: Callable[[Any], Any],
    bad: list[str],
    *,
    url: str,
    tenant: str,
    namespace: str,
    options: dict[str, Any],
) -> PrewarmReport:
    columns = (TextColumn("prewarming"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        total = sum(1 for _ in requests_in(file, [])) if err.is_terminal else None
        task = bar.add_task("prewarming", total=total)

        def progress(report: PrewarmReport) -> None:
            bar.update(task, completed=report.total)

        if inspect.iscoroutinefunction(compute):

            async def awaited() -> PrewarmReport:
                async with AsyncCache(url, tenant=tenant, namespace=namespace) as cache:
                    return await cache.prewarm(requests_in(file, bad), compute, progress=progress, **options)

            return asyncio.run(awaited())
        with Cache(url, tenant=tenant, namespace=namespace) as cache:
            return cache.prewarm(requests_in(file, bad), compute, progress=progress, **options)


def _show(report: PrewarmReport, bad: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "total": report.total,
                "computed": report.computed,
                "already": report.already,
                "not_stored": report.not_stored,
                "failed": report.failed,
                "usd_micros": report.cost.usd_micros,
                "seconds": round(report.seconds, 3),
                "failures": [{"position": one.position, "error": one.error} for one in report.failures],
                "bad_lines": bad,
            }
        )
        return
    table = Table("requests", "computed", "stored already", "not stored", "failed", "bad lines", "dollars", "seconds")
    counts = (report.total, report.computed, report.already, report.not_stored, report.failed, len(bad))
    table.add_row(*(f"{count:,}" for count in counts), f"{report.cost.usd_micros / 1e6:.6f}", f"{report.seconds:.1f}")
    out.print(table)
    for line in bad[:10]:
        err.print(plain(line))
    for failure in report.failures[:10]:
        err.print(plain(f"request {failure.position}: {failure.error}"))
