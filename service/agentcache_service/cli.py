"""The command line of the service: `agentcache-service serve | migrate | create-admin | worker | …`.

Every command imports what it needs when it runs: the whole service takes seconds to import, and help should not.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agentcache_service.service import Service
    from agentcache_service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="AgentCache's hosted service.")


def _settings(**chosen: Any) -> Settings:
    """The settings of the environment; a wrong one is told by its variable's name, and the command ends."""
    from pydantic import ValidationError

    from agentcache_service.logs import configure_logs
    from agentcache_service.settings import Settings

    try:
        settings = Settings(**chosen)
    except ValidationError as refused:
        for problem in refused.errors():
            names = [f"AGENTCACHE_SERVICE_{str(part).upper()}" for part in problem["loc"][:1]]
            typer.echo(": ".join([*names, problem["msg"]]), err=True)
        raise typer.Exit(1) from None
    configure_logs(settings)
    return settings


def _built(settings: Settings) -> Service:
    """The service of these settings; what is not installed is told, and the command ends."""
    from agentcache_core.errors import ConfigurationError
    from agentcache_service.service import build_service

    try:
        return build_service(settings)
    except ConfigurationError as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(1) from None


def _service() -> Service:
    return _built(_settings())


@app.command()
def check() -> None:
    """Look at the settings and the stores they name; tell what is missing (exit 1 where something would break)."""
    from agentcache_service import check as checking
    from agentcache_service.clock import SystemClock

    findings = checking.run(_settings(), SystemClock())
    for finding in findings:
        typer.echo(str(finding))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the database schema to the newest version."""
    from agentcache_service import schema

    service = _service()
    schema.upgrade(service.db)
    typer.echo("The schema is current.")


@app.command()
def reconcile(
    mend: Annotated[bool, typer.Option(help="Set counters of usage right; the ledger is never changed.")] = False,
) -> None:
    """Prove the books: every posting, sale, invoice, payout, commission and counter explained (else exit 1)."""
    from agentcache_service.market.reconcile import CHECKS
    from agentcache_service.money.reconcile import reconcile as reconcile_money
    from agentcache_service.usage.reconcile import run as reconcile_usage

    service = _service()
    report = reconcile_money(service.db, CHECKS)
    for line in report.lines:
        typer.echo(line)
    differences = reconcile_usage(service, mend=mend)
    for item in differences:
        typer.echo(
            f"usage: {item.org_id} {item.metric}: counted {item.counter}, recounted {item.recount}: {item.reason}"
        )
    typer.echo(f"usage: {len(differences)} differences" + (", set right" if mend and differences else ""))
    service.close()
    if report.problems or (differences and not mend):
        raise typer.Exit(1)


@app.command(name="create-admin")
def create_admin(
    email: Annotated[str, typer.Option(prompt="E-mail address")],
    username: Annotated[str, typer.Option(prompt=True)],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="AGENTCACHE_ADMIN_PASSWORD")
    ],
) -> None:
    """Make a platform admin. There is no default one, and none by sign-up; the first login sets up a second factor."""
    from agentcache_service import schema
    from agentcache_service.errors import ServiceError
    from agentcache_service.identity import accounts

    service = _service()
    schema.upgrade(service.db)
    try:
        user_id = accounts.create_admin(service, email=email, username=username, password=password)
    except ServiceError as refused:
        typer.echo(refused.message, err=True)
        raise typer.Exit(1) from None
    finally:
        service.close()
    typer.echo(f"Made {user_id}. Sign in at {service.settings.public_url}/login and set up the second factor.")


@app.command(name="backup")
def back_up(target: Path) -> None:
    """Write an archive of the database and the data folder while the service runs; tells what is not in it."""
    from agentcache_service import backup
    from agentcache_service.clock import SystemClock

    settings = _settings()
    try:
        names = backup.back_up(settings, target, now=SystemClock().now())
    except (backup.CannotBackUp, FileExistsError) as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{target}: {len(names)} files. Not in it: {', '.join(backup.left_out(settings))}")


@app.command()
def restore(source: Path) -> None:
    """Put an archive into an empty data folder and an empty database, and bring the schema to the newest version."""
    from agentcache_service import backup, schema
    from agentcache_service.usage.reconcile import run as reconcile_usage

    try:
        names = backup.restore(_settings(), source)
    except (backup.CannotBackUp, FileExistsError) as refused:
        typer.echo(str(refused), err=True)
        raise typer.Exit(1) from None
    service = _service()
    schema.upgrade(service.db)
    differences = reconcile_usage(service, mend=True)
    service.close()
    typer.echo(f"Restored {len(names)} files; {len(differences)} counters of what was under way then were set right.")
    typer.echo("Sealed secrets open only with the master key of the old installation.")


@app.command()
def worker() -> None:
    """Do background jobs until stopped (for installations with worker_in_process=false)."""
    from agentcache_service.app import work_until

    service = _service()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    work_until(service, stopping)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes.")] = None,
) -> None:
    """Migrate, then answer on http://127.0.0.1:8080 (or as the settings say)."""
    import uvicorn

    from agentcache_service import schema, servers
    from agentcache_service.app import build_app

    given = {"host": host, "port": port, "workers": workers}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = _settings(**chosen)
    service = _built(settings)
    schema.upgrade(service.db)
    typer.echo(f"AgentCache on {settings.public_url} (state in {settings.data_dir})")
    if settings.workers == 1:
        uvicorn.run(build_app(service=service), **servers.options(settings))
        return
    service.close()
    for name, value in chosen.items():  # the processes read their settings from the environment
        os.environ[f"AGENTCACHE_SERVICE_{name.upper()}"] = str(value)
    raise typer.Exit(servers.run_several(settings))


@app.command(name="write-migration")
def write_migration(area: str, message: str) -> None:
    """For developers: compare tables with a freshly migrated database and write the area's next migration."""
    from agentcache_service import schema
    from agentcache_service.db import Database

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'fresh.db'}")
        schema.upgrade(database)
        typer.echo(str(schema.write_migration(database, area, message)))
        database.close()


def main() -> None:
    """The entry point of `agentcache-service`."""
    app()


if __name__ == "__main__":
    main()
