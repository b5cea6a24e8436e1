"""The command line: `agentcache`. One file per command; needs the extra `agentcache[cli]`."""

from __future__ import annotations

import sys

_MISSING = "the command line needs an extra that is not installed: pip install 'agentcache[cli]' (missing: {name})"


def main() -> None:
    """Run the command line; exit status 0 for success, 2 for wrong use or wrong input."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        print(_MISSING.format(name=error.name), file=sys.stderr)  # rich, the usual way to print, is what may be missing
        raise SystemExit(2) from None
    from agentcache_adapters.cli.app import app

    app()
