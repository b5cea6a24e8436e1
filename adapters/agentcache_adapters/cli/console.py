"""What all commands share of the terminal: where they write, and how they say that something was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.text import Text

from agentcache_core.errors import AgentCacheError

WRONG_INPUT = 2

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def plain(text: str) -> Text:
    """Text that came from a file: no markup, and nothing in it can steer the terminal."""
    return Text("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


def fail(message: str) -> typer.Exit:
    """What to raise for wrong input: prints the message, exit status 2."""
    err.print("error: ", style="bold red", end="")
    err.print(plain(message))
    return typer.Exit(WRONG_INPUT)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what AgentCache refuses into a message and exit status 2."""
    try:
        yield
    except AgentCacheError as error:
        raise fail(str(error)) from error


def print_json(value: Any) -> None:
    """One JSON document on standard output, indented."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
