"""Requests given to a command: a JSON file, or standard input as `-`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from agentcache_adapters.cli.console import fail

_MAX_BYTES = 1 << 30


def read_request(name: str) -> Any:
    """The request in a JSON file (`-`: standard input): an object, or a string for a plain key."""
    where = "standard input" if name == "-" else name
    try:
        if name == "-":
            text = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise fail(f"cannot read {where}: {error.strerror or error}") from error
    if len(text) > _MAX_BYTES:
        raise fail(f"{where} is longer than 1 GiB, which is no request")
    try:
        request = json.loads(text)
    except UnicodeDecodeError as error:
        raise fail(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise fail(f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise fail(f"{where} is not JSON that can be read: {error}") from error
    if not isinstance(request, (dict, str)):
        raise fail(f"{where} holds a JSON {_kind(request)}; a request is an object, or a string for a plain key")
    return request


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", list: "array", type(None): "null"}
    return kinds[type(value)]
