"""Redis in trouble: every failure is one of ours, arrives in time, names no credential, and passes by itself.

The servers are real; what cannot be asked of a real one (a reply cut short) is played by a socket of the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentcache_backends.redis import RedisBackend, Settings
from agentcache_backends.redis.loops import AsyncRedisBackend
from agentcache_backends.redis.settings import settings_of
from agentcache_core import Cache
from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, BackendUnavailable, ConfigurationError
from agentcache_core.model import MISSING
from agentcache_core.testing import driven
from agentcache_core.testing.servers import RedisServer, free_port
from agentcache_core.urls import open_backend, parse_url

pytestmark = pytest.mark.redis
TIMEOUT = 0.3
Open = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def open_redis(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a backend of either kind, to be used from blocking code."""
    opened: list[Any] = []

    def opens(port: int, **settings: Any) -> Any:
        chosen = Settings(**({"shown": f"redis://127.0.0.1:{port}", "port": port, "timeout": TIMEOUT} | settings))
        opened.append(RedisBackend(chosen) if request.param == "blocking" else driven(AsyncRedisBackend(chosen)))
        return opened[-1]

    yield opens
    for backend in opened:
        backend.close()
        if request.param == "async":
            backend.stop()


def _refused(call: Callable[[], object], kind: type[BackendError], words: str) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        call()
    assert time.monotonic() - began < 10 * TIMEOUT
    assert caught.value.__cause__ is not None


def test_a_stopped_redis_is_unavailable_until_it_is_back(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    backend.put(b"k", b"v")
    own_redis.kill()
    for call in (lambda: backend.get(b"k"), lambda: backend.put(b"k", b"w"), lambda: backend.acquire(b"l", 1.0)):
        _refused(call, BackendUnavailable, "cannot be reached")
    own_redis.start()
    assert backend.get(b"k") is MISSING
    assert backend.put(b"k", b"w", if_absent=True) is not None
    assert backend.acquire(b"l", 1.0) is not None


def test_a_restart_between_two_calls_goes_unnoticed(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    calls: list[Callable[[], object]] = [
        lambda: backend.get(b"k"),
        lambda: backend.get_many([b"k", b"l"]),
        lambda: backend.put(b"k", b"v"),
        lambda: backend.put(b"l", b"v", if_absent=True),
        lambda: backend.add(b"n", 1),
        lambda: backend.append(b"t", b"event"),
        lambda: list(backend.scan(b"")),
    ]
    for call in calls:
        backend.put(b"warm", b"v")
        own_redis.kill()
        own_redis.start()
        call()


def test_a_frozen_redis_costs_the_timeout_and_mixes_no_replies(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    backend.put(b"one", b"1")
    backend.put(b"two", b"2")
    own_redis.freeze()
    _refused(lambda: backend.get(b"one"), BackendUnavailable, "did not answer in time")
    _refused(lambda: backend.put(b"three", b"3"), BackendUnavailable, "did not answer in time")
    own_redis.thaw()
    assert backend.get(b"two").data == b"2"
    assert backend.get(b"one").data == b"1"
    assert [stored.data for stored in backend.get_many([b"two", b"one"])] == [b"2", b"1"]


def test_out_of_memory_is_full_and_reading_goes_on(open_redis: Open) -> None:
    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        backend = open_redis(server.port, timeout=5.0)
        backend.put(b"kept", b"v")

        def fill() -> None:
            for number in range(100):
                backend.put(b"k/%d" % number, b"v" * 100_000)

        _refused(fill, BackendFull, "out of memory")
        _refused(lambda: backend.put(b"k", b"v" * 100_000, if_absent=True), BackendFull, "out of memory")
        assert backend.get(b"kept").data == b"v"


def test_a_replica_is_read_only(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    backend.put(b"k", b"v")
    own_redis.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    _refused(lambda: backend.put(b"k", b"w"), BackendReadOnly, "replica")
    _refused(lambda: backend.delete(b"k"), BackendReadOnly, "replica")
    assert backend.get(b"k").data == b"v"
    own_redis.ask("REPLICAOF", "NO", "ONE")
    assert backend.put(b"k", b"w") is not None


def test_a_wrong_password_says_so_and_never_which(open_redis: Open) -> None:
    with RedisServer("--requirepass", "right-word") as server:
        for password, words in (("wrong-word", "refuses the user name or password"), (None, "asks for a password")):
            backend = open_redis(server.port, password=password)
            _refused(lambda backend=backend: backend.get(b"k"), BackendUnavailable, words)  # type: ignore[misc]  # a lambda's default
            with pytest.raises(BackendUnavailable) as caught:
                backend.put(b"k", b"v")
            told = f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {backend!r} {backend.__dict__!r}"
            assert "wrong-word" not in told
        backend = open_redis(server.port, password="right-word")
        assert backend.put(b"k", b"v") is not None


def test_loading_and_other_answers_become_ours(open_redis: Open) -> None:
    replies = {
        b"-LOADING Redis is loading the dataset in memory\r\n": (BackendUnavailable, "still loading"),
        b"-MISCONF Redis is configured to save RDB snapshots\r\n": (BackendReadOnly, "cannot save"),
        b"-MOVED 3999 127.0.0.1:6381\r\n": (BackendUnavailable, "node of a cluster"),
        b"-CLUSTERDOWN Hash slot not served\r\n": (BackendUnavailable, "cluster is down"),
        b"-BUSY Redis is busy running a script\r\n": (BackendUnavailable, "busy"),
        b"-NOPERM this user has no permissions to run secret\r\n": (BackendUnavailable, "lacks a permission"),
        b"-ERR something secret happened\r\n": (BackendUnavailable, "it answered ERR$"),
    }
    for reply, (kind, words) in replies.items():
        with _Player(reply) as player:
            backend = open_redis(player.port)
            _refused(lambda backend=backend: backend.get_many([b"k", b"l"]), kind, words)  # type: ignore[misc]  # a lambda's default


@pytest.mark.parametrize("reply", [b"$100\r\nonly a part", b"", b"$5\r", b"!!!nonsense\r\n", b"*2\r\n$1\r\na\r\n"])
def test_a_reply_cut_short_or_garbled_is_unavailable(open_redis: Open, reply: bytes) -> None:
    with _Player(reply) as player:
        backend = open_redis(player.port)
        _refused(lambda: backend.get(b"k"), BackendUnavailable, "Redis at")


def test_nobody_listening_is_unavailable(open_redis: Open) -> None:
    backend = open_redis(free_port())
    _refused(lambda: backend.get(b"k"), BackendUnavailable, "cannot be reached")


def test_what_another_application_keeps_under_our_keys_is_absent(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    own_redis.ask("SET", "ac1:v{a}/k", "someone else's")
    own_redis.ask("SET", "ac1:v{a}/long", "x" * 100)
    assert backend.get(b"a/k") is MISSING
    assert backend.get_many([b"a/k", b"a/long"]) == [MISSING, MISSING]
    assert list(backend.scan(b"a/")) == []
    assert backend.put(b"a/k", b"ours", if_absent=True) is not None
    assert backend.get(b"a/k").data == b"ours"
    own_redis.ask("LPUSH", "ac1:v{a}/list", "element")
    _refused(lambda: backend.get(b"a/list"), BackendUnavailable, "another application")


def test_after_flushall_the_log_is_a_gap(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port)
    position = backend.append(b"t", b"before")
    own_redis.ask("FLUSHALL")
    assert backend.read(b"t", position) is None
    backend.append(b"t", b"after")
    assert backend.read(b"t", position) is None


def test_a_log_is_bounded(own_redis: RedisServer, open_redis: Open) -> None:
    backend = open_redis(own_redis.port, log_length=100)
    first = backend.append(b"t", b"first")
    for number in range(1000):
        backend.append(b"t", b"%d" % number)
    assert backend.read(b"t", first) is None
    assert 100 <= len(backend.read(b"t", b"")) <= 300


def test_threads_beyond_the_bound_share_a_connection(own_redis: RedisServer) -> None:
    backend = RedisBackend(Settings("here", port=own_redis.port, max_connections=2, timeout=10.0))
    gate = threading.Barrier(6)
    wrong: list[object] = []

    def work(number: int) -> None:
        gate.wait(30)
        for turn in range(50):
            backend.put(b"k/%d" % number, b"%d" % turn)
            stored = backend.get(b"k/%d" % number)
            if stored is MISSING or stored.data != b"%d" % turn:
                wrong.append(stored)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    connected = own_redis.ask("INFO", "clients").split("connected_clients:")[1].split()[0]
    assert int(connected) <= 4
    backend.close()


def test_urls_spell_out_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(
        parse_url(
            "rediss://user:pa%20ss@cache.example:7000/3?timeout=1s&connect_timeout=2s&max_connections=5&prefix=x:"
            "&log_length=7&ca_certs=/ca.pem&check_hostname=no"
        )
    )
    assert (settings.host, settings.port, settings.database, settings.tls) == ("cache.example", 7000, 3, True)
    assert (settings.username, settings.password) == ("user", "pa ss")
    assert (settings.timeout, settings.connect_timeout, settings.max_connections) == (1.0, 2.0, 5)
    assert (settings.prefix, settings.log_length, settings.ca_certs, settings.check_hostname) == (
        b"x:",
        7,
        "/ca.pem",
        False,
    )
    assert "pa ss" not in repr(settings)
    monkeypatch.setenv("AGENTCACHE_REDIS_PASSWORD", "from-outside")
    assert settings_of(parse_url("redis://h")).password == "from-outside"
    assert settings_of(parse_url("unix:///run/redis.sock?db=2")).socket_path == "/run/redis.sock"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h/name", "number of a database"),
        ("redis://h/0?timeout=never", "option timeout"),
        ("redis://h/0?max_connections=0", "at least 1"),
        ("redis://h/0?pool=3", "unknown option pool"),
        ("unix://", "path of a socket"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_backend(url)


def test_a_unix_socket_serves_as_well(open_redis: Open) -> None:
    with RedisServer("--unixsocket", "redis.sock") as server:
        path = str(server.folder / "redis.sock")
        backend = open_redis(server.port, shown=f"unix://{path}", socket_path=path)
        version = backend.put(b"k", b"v")
        assert backend.get(b"k") == (b"v", version)


def test_the_async_backend_shares_one_connection_and_survives_cancelled_tasks(own_redis: RedisServer) -> None:
    async def scenario() -> None:
        backend = AsyncRedisBackend(Settings("here", port=own_redis.port, timeout=10.0))
        await asyncio.gather(*(backend.put(b"k/%d" % number, b"%d" % number) for number in range(200)))
        tasks = [asyncio.create_task(_read(backend, number)) for number in range(200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1::2] == [b"%d" % number for number in range(1, 200, 2)]
        connected = own_redis.ask("INFO", "clients").split("connected_clients:")[1].split()[0]
        assert int(connected) <= 2
        await backend.close()

    asyncio.run(scenario())


async def _read(backend: AsyncRedisBackend, number: int) -> bytes:
    stored = await backend.get(b"k/%d" % number)
    assert stored
    return stored.data


@pytest.mark.parametrize("verb", ["get", "add"])
def test_waiting_for_a_turn_on_the_shared_connection_counts_as_waiting(own_redis: RedisServer, verb: str) -> None:
    timeout = 3.0
    backend = RedisBackend(Settings("here", port=own_redis.port, max_connections=1, timeout=timeout))
    assert backend.get(b"k") is MISSING  # this thread has the only connection of its own
    seconds: list[float] = []
    held, ready = threading.Event(), threading.Event()

    def asks() -> None:
        assert backend.add(b"n", 0) == 0
        ready.set()
        assert held.wait(30)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="in time"):
            _ = backend.get(b"k") if verb == "get" else backend.add(b"n", 1)
        seconds.append(time.monotonic() - began)

    asking = threading.Thread(target=asks)
    asking.start()
    assert ready.wait(30)
    with backend._shared._turn:
        own_redis.freeze()
        held.set()
        asking.join(timeout * 0.8)  # it waits for its turn meanwhile, and then for a reply
    asking.join(30)
    own_redis.thaw()
    assert seconds
    assert seconds[0] < timeout * 1.5


@pytest.mark.parametrize("trouble", ["killed", "frozen", "read-only", "flushed"])
def test_no_call_of_the_agent_fails_while_redis_is_in_trouble(own_redis: RedisServer, trouble: str) -> None:
    with Cache(f"{own_redis.url}?timeout=200ms", ttl="1h") as cache:
        cache.set("known", "answer")
        assert cache.get("known") == "answer"
        if trouble == "killed":
            own_redis.kill()
        elif trouble == "frozen":
            own_redis.freeze()
        elif trouble == "read-only":
            own_redis.ask("REPLICAOF", "127.0.0.1", str(free_port()))
        else:
            own_redis.ask("FLUSHALL")
        for number in range(5):
            assert cache.get_or_compute(f"new {number}", lambda number=number: number) == number
        assert cache.get("known", default="gone") in ("answer", "gone")
        if trouble == "flushed":
            assert cache.get("known", default="gone") == "gone"


@pytest.mark.parametrize("password", [None, "word"])
def test_a_reply_that_dribbles_in_costs_no_more_than_the_timeout(open_redis: Open, password: str | None) -> None:
    with _Player(b"$1000\r\n" + b"x" * 1000, pause=TIMEOUT / 3) as player:
        backend = open_redis(player.port, password=password)
        for call in (lambda: backend.get(b"k"), lambda: backend.get_many([b"k", b"l"]), lambda: backend.add(b"n", 1)):
            _refused(call, BackendUnavailable, "did not answer in time")


def test_a_call_may_be_given_another_time_than_usual(own_redis: RedisServer) -> None:
    backend = RedisBackend(Settings("here", port=own_redis.port, timeout=60.0, max_connections=1))
    assert backend.get(b"k") is MISSING
    others: list[str] = []

    def on_the_shared_connection() -> None:
        with backend.within(0.05), pytest.raises(BackendUnavailable) as caught:
            backend.put(b"k", b"v")
        others.append(str(caught.value))

    own_redis.freeze()
    for call in (lambda: backend.get(b"k"), lambda: backend.put(b"k", b"v"), lambda: backend.acquire(b"l", 1.0)):
        with backend.within(0.05), pytest.raises(BackendUnavailable, match="did not answer in time"):
            call()
    thread = threading.Thread(target=on_the_shared_connection)
    thread.start()
    thread.join(30)
    assert others == [f"Redis at here: {'it did not answer in time'}"]
    own_redis.thaw()
    assert backend.put(b"k", b"v")
    assert backend.get(b"k").data == b"v"  # type: ignore[union-attr]
    backend.close()


def test_large_values_take_the_time_they_need(own_redis: RedisServer) -> None:
    value = bytes(range(256)) * 4096 * 8
    with _slow(own_redis.port, TIMEOUT / 8) as port:
        backend = RedisBackend(Settings("here", port=port, timeout=TIMEOUT))
        assert backend.put(b"k", value) is not None
        assert backend.get(b"k").data == value  # type: ignore[union-attr]
        assert [stored.data for stored in backend.get_many([b"k", b"k"])] == [value] * 2  # type: ignore[union-attr]
        backend.close()


@contextmanager
def _slow(port: int, pause: float) -> Iterator[int]:
    """A proxy in front of a Redis that waits before it passes on each half mebibyte of a reply; answers its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket, wait: float) -> None:
        with contextlib.suppress(OSError):
            passed = 0
            while data := source.recv(65_536):
                passed += len(data)
                if wait and passed >= 1 << 19:
                    passed = 0
                    threading.Event().wait(wait)
                sink.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(client, server, 0.0), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, pause), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


class _Player:
    """Plays a Redis that gives one fixed reply to anything and hangs up; with a `pause`, byte after byte so slowly."""

    def __init__(self, reply: bytes, *, pause: float = 0.0) -> None:
        self._reply, self._pause = reply, pause
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._play, daemon=True)

    def _play(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                if not self._pause:
                    connection.sendall(self._reply)
                    continue
                for at in range(len(self._reply)):
                    connection.sendall(self._reply[at : at + 1])
                    if self._over.wait(self._pause):
                        break

    def __enter__(self) -> _Player:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
