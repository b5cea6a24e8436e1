"""The commands of `agentcache`, gathered."""

from __future__ import annotations

import typer

from agentcache_adapters.cli.agents import agents
from agentcache_adapters.cli.diff import diff
from agentcache_adapters.cli.explain import explain
from agentcache_adapters.cli.prewarm import prewarm
from agentcache_adapters.cli.replay import replay
from agentcache_adapters.cli.stats import stats

app = typer.Typer(
    name="agentcache",
    help="Look into exact keys, and ask what caching would have saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(agents, name="agents")
app.command()(replay)
app.command()(explain)
app.command()(diff)
app.command()(prewarm)
app.command()(stats)
