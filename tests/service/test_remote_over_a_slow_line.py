"""The remote client over a slow line: it works as it comes, says why when it does not, and recovers."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import service_world as world
from service_conftest import LiveServer
from typer.testing import CliRunner

from agentcache_adapters import remote
from agentcache_adapters.cli.app import app
from agentcache_core import MISSING, Cache, opening
from agentcache_core.clock import ManualClock
from agentcache_core.errors import NotWritten
from agentcache_core.guarding import Circuit
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.settings import DEADLINE
from agentcache_service.service import Service
from agentcache_service.web.snippets import snippets

ROUND_TRIP = 0.150


class SlowLine:
    """A proxy in front of a port: every byte takes half a round trip either way, a connection one more.

    `opened` counts connections; while `broken` is set nothing is passed on and connections are lost.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.opened = 0
        self.broken = threading.Event()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.broken.is_set():
                near.close()
                continue
            self.opened += 1
            self._ends.append(near)
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        time.sleep(ROUND_TRIP)  # the handshakes
        with self._lock:
            if self.broken.is_set():
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._ends.append(far)
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((near, far), (far, near)):
            line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=self._send, args=(target, line), daemon=True).start()
            threading.Thread(target=self._receive, args=(source, line), daemon=True).start()

    def _receive(self, source: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            line.put((time.monotonic() + ROUND_TRIP / 2, data))

    def _send(self, target: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        while True:
            at, data = line.get()
            time.sleep(max(0.0, at - time.monotonic()))
            with contextlib.suppress(OSError):
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    def cut(self) -> None:
        """Lose every connection, and refuse new ones."""
        with self._lock:
            self.broken.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listening.close()
        for end in self._ends:
            end.close()


@pytest.fixture
def line(live: LiveServer) -> Iterator[SlowLine]:
    proxy = SlowLine(live.port)
    yield proxy
    proxy.close()


@pytest.fixture
def key(service: Service) -> str:
    user = world.make_user(service, "ada")
    return world.make_key(service, world.make_org(service, user), user).headers["x-api-key"]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a busy machine; what is given without this is asked for below."""
    monkeypatch.setattr(remote, "DEADLINE", 60.0)


def _url(line: SlowLine) -> str:
    return f"agentcache+http://127.0.0.1:{line.port}"


def test_a_cache_over_a_slow_line_works_as_it_comes_over_the_connection_it_began_with(line: SlowLine, key: str) -> None:
    with Cache(_url(line), namespace="storage", api_key=key) as cache:
        assert line.opened == 1  # made when the cache was opened, not by the first call
        assert [cache.set(f"k{number}", {"n": number}) for number in range(3)] == [True] * 3
        assert [cache.get(f"k{number}") for number in range(3)] == [{"n": number} for number in range(3)]
        assert cache.set("large", "x" * 100_000)
        assert cache.get("large") == "x" * 100_000
        assert (cache.stats().errors, line.opened) == (0, 1)


def test_a_remote_tier_is_given_seconds_where_a_near_one_is_given_less(
    line: SlowLine, key: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    given: list[float] = []

    class Noting(Circuit):
        def __init__(self, name: str, *, deadline: float, **options: Any) -> None:
            given.append(deadline)
            super().__init__(name, deadline=deadline, **options)

    monkeypatch.setattr(opening, "Circuit", Noting)

    def patience(urls: list[str], **options: Any) -> list[float]:
        given.clear()
        Cache(urls, namespace="storage", api_key=key, tenant="t", **options).close()
        return list(given)

    near = f"sqlite:///{tmp_path}/near.db"
    assert patience([near, _url(line)]) == [DEADLINE, 5.0]
    assert patience([near, _url(line)], deadline="2s") == [2.0, 2.0]
    assert patience([near, f"{_url(line)}?timeout=9s"]) == [DEADLINE, 9.0]


def test_a_lost_connection_is_a_miss_that_says_why_and_the_next_call_after_a_rest_works(
    line: SlowLine, key: str
) -> None:
    clock, heard = ManualClock(), []
    with Cache(_url(line), namespace="storage", api_key=key, clock=clock) as cache:
        cache.events.subscribe(lambda event: heard.append(event))
        assert cache.set("k", 1)
        line.cut()
        assert cache.get("k") is MISSING
        assert not cache.set("k", 2)
        with pytest.raises(NotWritten, match=r"cannot be reached|given a rest"):
            cache.set("k", 2, durable=True)
        reasons = [event.reason for event in heard if event.name == "backend_error"]
        assert any(f"127.0.0.1:{line.port}" in reason for reason in reasons)
        line.broken.clear()
        clock.advance(LONGEST_REST)
        assert cache.set("k", 3)
        assert cache.get("k") == 3


def test_the_shown_python_works_over_a_slow_line_and_says_why_when_it_does_not(
    line: SlowLine, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (
        item.code
        for item in snippets(f"http://127.0.0.1:{line.port}", key=key, namespace="storage")
        if item.id == "python"
    )
    names: dict[str, Any] = {}
    exec(compile(code, "snippet", "exec"), names)
    assert capsys.readouterr().out.endswith("{'text': 'stored once'}\n")
    names["cache"].close()
    opening, _, rest = code.partition("cache.set")
    exec(compile(opening, "snippet", "exec"), names)
    line.cut()
    with pytest.raises(NotWritten, match=f"127.0.0.1:{line.port}"):
        exec(compile(f"cache.set{rest}", "snippet", "exec"), names)
    names["cache"].close()


def test_the_doctor_tells_how_far_away_a_service_is_and_what_is_wrong_with_a_key(
    line: SlowLine, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCACHE_API_KEY", key)
    told = CliRunner().invoke(app, ["doctor", _url(line), "--namespace", "storage", "--json"])
    assert told.exit_code == 0, told.output
    assert "a read of 1 KB takes" in told.output
    short = CliRunner().invoke(app, ["doctor", f"{_url(line)}?timeout=0.4s", "--namespace", "storage", "--json"])
    assert "timeout=" in short.output
    assert key not in told.output + short.output
    monkeypatch.setenv("AGENTCACHE_API_KEY", "ac_" + "0" * 64)
    wrong = CliRunner().invoke(app, ["doctor", _url(line), "--namespace", "storage", "--json"])
    assert wrong.exit_code == 1
    assert "Send a valid API key" in wrong.output
