"""`agentcache agents new|pack`: start an agent from a template, and pack it for the marketplace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentcache_adapters.agents.pack import PackError
from agentcache_adapters.agents.pack import pack as pack_folder
from agentcache_adapters.agents.templates import NAMES, TemplateError, new_agent
from agentcache_adapters.cli.console import fail, out, plain

agents = typer.Typer(no_args_is_help=True, help="Agents for the marketplace: start one, pack one.")


@agents.command()
def new(
    name: Annotated[str, typer.Argument(help="The agent's name: lower-case letters, digits and dashes.")],
    template: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}.")] = "basic-agent",
    folder: Annotated[Path, typer.Option(help="Where the agent's folder is made.")] = Path(),
) -> None:
    """Make a new agent from a template."""
    try:
        written = new_agent(name, folder, of=template)
    except TemplateError as error:
        raise fail(str(error)) from error
    for path in written:
        out.print(plain(str(path)))
    out.print(plain(f"{len(written)} files; start with {folder / name / 'README.md'}"))


@agents.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="The agent's folder.")],
    output: Annotated[Path | None, typer.Option(help="The archive to write; default <folder>.zip.")] = None,
) -> None:
    """Pack an agent's folder into the archive that the marketplace takes."""
    try:
        made = pack_folder(folder, output)
    except PackError as error:
        raise fail(str(error)) from error
    out.print(plain(f"{made.path}  {len(made.files)} files  {made.size} bytes  sha256 {made.sha256}"))
