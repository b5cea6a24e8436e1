"""Run benchmarks by name: `python -m benchmarks [NAME...] [--json] [--backend URL] [--log FILE] [--page FILE]`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import Report, Settings
from benchmarks.page import page_of

FOLDERS = ("micro", "traces", "quality", "load")


def found() -> dict[str, str]:
    """Every benchmark: its name, and the module that answers its question (one that has a function `run`)."""
    here = Path(__file__).parent
    modules: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((here / folder).glob("*.py")):
            if not path.stem.startswith("_") and "def run(" in path.read_text(encoding="utf-8"):
                name = path.stem if path.stem not in modules else f"{folder}.{path.stem}"
                modules[name] = f"benchmarks.{folder}.{path.stem}"
    return modules


def run_one(module: str, settings: Settings) -> Report:
    """Answer one question."""
    report: Report = importlib.import_module(module).run(settings)
    return report


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import os

    return {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}


def main(arguments: list[str] | None = None) -> int:
    """The command line; 2 for a name that does not exist."""
    modules = found()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure AgentCache beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run (all by default): {', '.join(modules)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--small", action="store_true", help="once and quickly: only see that they run")
    parser.add_argument(
        "--backend", "--url", dest="url", metavar="URL", help="measure a cache on this URL where the question allows it"
    )
    parser.add_argument(
        "--log", metavar="FILE", help="take the model calls of this log, in any shape that `agentcache replay` reads"
    )
    parser.add_argument("--page", metavar="FILE", help="write the ratios to this Markdown file as well")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="how long to look, where the question is what happens over time"
    )
    parser.add_argument(
        "--and", dest="earlier", metavar="FILE", help="put what an earlier run printed with --json on the page as well"
    )
    chosen = parser.parse_args(arguments)
    folders = [name for name in chosen.names if name in FOLDERS]
    named = [name for name in chosen.names if name not in FOLDERS]
    chosen.names = named or [name for name, module in modules.items() if module.split(".")[1] in folders]
    unknown = [name for name in chosen.names if name not in modules]
    if unknown:
        print(f"no benchmark called {', '.join(unknown)}; there are {', '.join(modules)}", file=sys.stderr)
        return 2
    settings = Settings(chosen.small, chosen.url, chosen.log, chosen.seconds)
    reports = {}
    for name in chosen.names or modules:
        reports[name] = run_one(modules[name], settings)
        if not chosen.json:
            print(f"{name}: {reports[name].as_table()}\n", flush=True)
    if chosen.page:
        shown = {name: report.as_json() for name, report in reports.items()}
        command = f"python -m benchmarks {' '.join([*chosen.names, *['--small'] * chosen.small])}".rstrip()
        if chosen.earlier:
            earlier = json.loads(Path(chosen.earlier).read_text(encoding="utf-8"))["reports"]
            shown = {**shown, **{name: report for name, report in earlier.items() if name not in shown}}
            command += f" --and {Path(chosen.earlier).name} (python -m benchmarks {' '.join(earlier)} --json)"
        Path(chosen.page).write_text(
            page_of(shown, command=f"{command} --page {chosen.page}", machine=machine()), encoding="utf-8"
        )
    if chosen.json:
        print(
            json.dumps({"machine": machine(), "reports": {name: report.as_json() for name, report in reports.items()}})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
