"""The commands of `agentcache`, gathered."""

from __future__ import annotations

import typer

from agentcache_adapters.cli.agents import agents
from agentcache_adapters.cli.calibrate import calibrate
from agentcache_adapters.cli.diff import diff
from agentcache_adapters.cli.doctor import doctor
from agentcache_adapters.cli.explain import explain
from agentcache_adapters.cli.explain_pair import explain_pair
from agentcache_adapters.cli.inspect import inspect
from agentcache_adapters.cli.keys import keys
from agentcache_adapters.cli.prewarm import prewarm
from agentcache_adapters.cli.purge import purge
from agentcache_adapters.cli.replay import replay
from agentcache_adapters.cli.stats import stats
from agentcache_adapters.cli.sweep import sweep
from agentcache_adapters.cli.tiering import tiering
from agentcache_adapters.cli.verify import verify

app = typer.Typer(
    name="agentcache",
    help="Look into keys and stores, keep them in order, and ask what caching would have saved.",
    epilog="Secrets come from the environment: AGENTCACHE_SECRET and AGENTCACHE_KEYRING as the cache itself was given "
    "them, AGENTCACHE_REDIS_PASSWORD, AGENTCACHE_API_KEY. With another secret nothing is found.",
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
app.command()(calibrate)
app.command("explain-pair")(explain_pair)
app.add_typer(tiering, name="tiering")
for command in (doctor, inspect, keys, purge, sweep, verify):
    app.command()(command)
