"""The command line of the service: `agentcache-service serve | migrate | create-admin | worker | …`."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from agentcache_service import schema
from agentcache_service.app import build_app, work_until
from agentcache_service.logs import configure_logs
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.money.reconcile import reconcile as reconcile_money
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="AgentCache's hosted service.")


def _service() -> Service:
    settings = Settings()
    configure_logs(settings)
    return build_service(settings)


@app.command()
def migrate() -> None:
    """Bring the database schema to the newest version."""
    service = _service()
    schema.upgrade(service.db)
    typer.echo("The schema is current.")


@app.command()
def reconcile() -> None:
    """Prove the books: every posting, sale, invoice, payout and commission explained (exit 1 when one is not)."""
    report = reconcile_money(_service().db, CHECKS)
    for line in report.lines:
        typer.echo(line)
    if report.problems:
        raise typer.Exit(1)


@app.command()
def worker() -> None:
    """Do background jobs until stopped (for installations with worker_in_process=false)."""
    service = _service()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    work_until(service, stopping)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Migrate, then answer on http://127.0.0.1:8080 (or as the settings say)."""
    import uvicorn

    chosen = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = Settings(**chosen)  # type: ignore[arg-type]  # names are checked by pydantic
    configure_logs(settings)
    service = build_service(settings)
    schema.upgrade(service.db)
    typer.echo(f"AgentCache on {settings.public_url} (state in {settings.data_dir})")
    uvicorn.run(
        build_app(service=service), host=settings.host, port=settings.port, log_config=None, server_header=False
    )


@app.command(name="write-migration")
def write_migration(area: str, message: str) -> None:
    """For developers: compare tables with a freshly migrated database and write the area's next migration."""
    import tempfile
    from pathlib import Path

    from agentcache_service.db import Database

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'fresh.db'}")
        schema.upgrade(database)
        typer.echo(str(schema.write_migration(database, area, message)))
        database.close()


def main() -> None:
    """The entry point of `agentcache-service`."""
    app()
