"""Importing the engine costs nothing and does nothing: each promise in its own fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWED_ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST_"))}


def run_fresh(program: str, *, cwd: Path) -> str:
    """Run `program` in a new interpreter with warnings as errors and answer what it printed."""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ALLOWED_ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


WATCH = """
import sys
seen = []
def watch(event, args):
    if event in {events!r} or (event == "open" and {writes} and writes_to(args)):
        seen.append((event, repr(args)[:200]))
def writes_to(args):
    path, mode, flags = args
    import os
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
sys.addaudithook(watch)
import agentcache_core
from agentcache_core import *
print(seen)
"""


@pytest.mark.parametrize("module", ["numpy", "asyncio", "redis", "torch", "zstandard", "pydantic", "httpx", "httpx2"])
def test_importing_loads_no_heavy_module(module: str, tmp_path: Path) -> None:
    program = f"import sys, agentcache_core; print({module!r} in sys.modules)"
    assert run_fresh(program, cwd=tmp_path) == "False"


def test_importing_opens_no_socket(tmp_path: Path) -> None:
    events = ("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname")
    assert run_fresh(WATCH.format(events=events, writes=False), cwd=tmp_path) == "[]"


def test_importing_writes_no_file(tmp_path: Path) -> None:
    events = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
    assert run_fresh(WATCH.format(events=events, writes=True), cwd=tmp_path) == "[]"
    assert list(tmp_path.iterdir()) == []


def test_importing_changes_no_environment(tmp_path: Path) -> None:
    events = ("os.putenv", "os.unsetenv", "os.chdir")
    assert run_fresh(WATCH.format(events=events, writes=False), cwd=tmp_path) == "[]"
    program = "import os; before = dict(os.environ); import agentcache_core; print(before == dict(os.environ))"
    assert run_fresh(program, cwd=tmp_path) == "True"


def test_importing_starts_no_thread_and_no_process(tmp_path: Path) -> None:
    events = ("_thread.start_new_thread", "subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn")
    assert run_fresh(WATCH.format(events=events, writes=False), cwd=tmp_path) == "[]"
    program = "import threading, agentcache_core; print(threading.active_count())"
    assert run_fresh(program, cwd=tmp_path) == "1"


def test_the_watch_itself_sees_what_it_is_asked_to_see(tmp_path: Path) -> None:
    program = WATCH.format(events=("socket.__new__", "os.putenv"), writes=True).replace(
        "print(seen)",
        "import os, socket; socket.socket().close(); os.putenv('A', 'b'); open('x', 'w').close(); print(len(seen))",
    )
    assert run_fresh(program, cwd=tmp_path) == "3"
