"""Server processes: one in the foreground, or several on one socket, replaced when they die.

Not uvicorn's own supervisor, for two reasons. It makes its socket without naming TCP, for which asyncio then leaves
Nagle's delay on: every answer would wait 40 ms for the reader's acknowledgement. And it asks each process whether it
lives and waits for the answer: one that is killed in between is not replaced until its patience ends, and that must be
long, for a process that still imports on a busy machine is no dead one. Here the kernel says who died.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import uvicorn

from agentcache_service.metrics import SHARED_FOLDER
from agentcache_service.settings import Settings

GRACE_S = 40.0
"""How long processes may take to end: connections are let go after five seconds, background work after thirty."""
LEAST_LIFE_S = 2.0
"""A process that did not live this long is replaced only after a pause as long."""
_STARTUP_FAILURE = 3  # uvicorn's exit code when the application could not be started
_log = structlog.get_logger("agentcache_service")


def options(settings: Settings) -> dict[str, Any]:
    """How uvicorn runs the application, in one process or several."""
    return {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "server_header": False,
        "timeout_graceful_shutdown": 5,
        "timeout_keep_alive": 75,  # longer than clients keep a connection: a distant one pays for it in round trips
    }


def run_several(settings: Settings) -> int:
    """Serve with `settings.workers` processes until told to stop; the exit code."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with (
        TemporaryDirectory(prefix="agentcache-metrics-") as folder,
        socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening,
    ):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
        team = _Team(settings.workers, listening, folder)
        try:
            return team.run(stopping)
        finally:
            team.stop()


class _Team:
    """The processes. They read a pipe that this process holds open, and so end with it, also when it is killed."""

    def __init__(self, size: int, listening: socket.socket, metrics_folder: str) -> None:
        self._socket = listening
        self._watched, self._held = os.pipe()
        self._environment = {**os.environ, SHARED_FOLDER: metrics_folder}
        self._members = [self._start() for _ in range(size)]

    def _start(self) -> tuple[subprocess.Popen[bytes], float]:
        descriptors = (self._socket.fileno(), self._watched)
        command = [sys.executable, "-m", "agentcache_service.servers", *map(str, descriptors)]
        member = subprocess.Popen(command, pass_fds=descriptors, env=self._environment)  # noqa: S603 - our own command
        return member, time.monotonic()

    def run(self, stopping: threading.Event) -> int:
        """Replace who dies, until told to stop or an application cannot even start."""
        while not stopping.wait(0.1):
            for place, (member, born) in enumerate(self._members):
                code = member.poll()
                if code is None:
                    continue
                if code == _STARTUP_FAILURE:
                    _log.error("a server could not start", pid=member.pid)
                    return 1
                _log.warning("a server died and is replaced", pid=member.pid, code=code)
                if time.monotonic() - born < LEAST_LIFE_S:
                    stopping.wait(LEAST_LIFE_S)
                self._members[place] = self._start()
        return 0

    def stop(self) -> None:
        """End every process, in good order where they let us."""
        for member, _ in self._members:
            member.terminate()
        for member, _ in self._members:
            try:
                member.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
        os.close(self._held)
        os.close(self._watched)


def _serve_one(listening: int, watched: int) -> None:
    """What each process does: the application of the environment on the socket it was given."""
    from agentcache_service.app import from_environment

    app = from_environment()
    server = uvicorn.Server(uvicorn.Config(app, **options(app.state.service.settings)))

    def end_with_parent() -> None:
        os.read(watched, 1)  # nothing is ever written: this returns when the other end is closed
        server.should_exit = True

    threading.Thread(target=end_with_parent, name="agentcache-parent", daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listening)])
    if not server.started:
        sys.exit(_STARTUP_FAILURE)


if __name__ == "__main__":
    _serve_one(int(sys.argv[1]), int(sys.argv[2]))
