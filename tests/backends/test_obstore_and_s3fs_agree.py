"""What one client wrote the other reads: the same keys, the same objects, the same versions, the same conditions."""

from __future__ import annotations

import dataclasses
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from agentcache_backends.filesystem.s3 import S3Backend, S3Settings, settings_of
from agentcache_backends.filesystem.s3.settings import ClientChoice
from agentcache_backends.filesystem.s3.through_s3fs import LARGE
from agentcache_core.backend import Put
from agentcache_core.clock import ManualClock
from agentcache_core.errors import BackendUnavailable
from agentcache_core.model import MISSING
from agentcache_core.testing.servers import S3Server
from agentcache_core.urls import parse_url

pytestmark = pytest.mark.s3
CLIENTS: tuple[ClientChoice, ...] = ("obstore", "s3fs")
DIRECTIONS = list(itertools.permutations(CLIENTS))
NAMES = (b"a/e/" + bytes(range(32)), b"\x00", b"x" * 100, b"x" * 101, b"\xff" * 512, b"~/%2F/ +&?#")

Opens = Callable[..., S3Backend]


@pytest.fixture
def opens(s3_url: str) -> Iterator[Opens]:
    """Opens the test's bucket by one client, in a folder below the test's own, with a clock of one's own."""
    settings, opened = settings_of(parse_url(s3_url)), list[S3Backend]()

    def by(client: ClientChoice, folder: str = "", clock: ManualClock | None = None) -> S3Backend:
        place = dataclasses.replace(settings, client=client, prefix=settings.prefix + folder, timeout=20.0)
        backend = S3Backend(place, clock=clock or ManualClock(time.time()))
        assert backend.connection.client == client
        opened.append(backend)
        return backend

    yield by
    for backend in opened:
        backend.close()


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
@pytest.mark.parametrize("folder", ["", "/plain/folder", "/~ odd % é+&=;@:,$'()[]{}|^`\"<>\\#?* /x"])
def test_what_one_client_wrote_the_other_reads(
    opens: Opens, writer: ClientChoice, reader: ClientChoice, folder: str
) -> None:
    one, other = opens(writer, folder), opens(reader, folder)
    versions = one.put_many([Put(name, name * 3, expires_at=time.time() + 1000) for name in NAMES])
    assert other.get_many(NAMES) == [(name * 3, version) for name, version in zip(NAMES, versions, strict=True)]
    assert [(stat.name, stat.version) for stat in one.scan(b"")] == [(s.name, s.version) for s in other.scan(b"")]
    assert other.get_range(NAMES[0], 5, 7) == (NAMES[0] * 3)[5:12]
    for name, version in zip(NAMES, versions, strict=True):
        assert other.put(name, b"no", if_absent=True) is None
        newer = other.put(name, b"yes", if_version=version)
        assert newer is not None
        assert one.put(name, b"late", if_version=version) is None
        assert one.delete(name, if_version=version) is False
        assert other.delete(name, if_version=newer) is True
        assert one.get(name) is MISSING


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
def test_a_large_value_goes_up_in_parts_and_comes_back_whole(
    opens: Opens, writer: ClientChoice, reader: ClientChoice
) -> None:
    data = os.urandom(LARGE // 16) * 17
    version = opens(writer).put(b"large", data)
    assert version is not None
    assert version.endswith(b'-3"')  # the ETag of three parts
    stored = opens(reader).get(b"large")
    assert stored is not MISSING
    assert stored.version == version
    assert stored.data == data
    assert opens(reader).get_range(b"large", LARGE, 100) == data[LARGE : LARGE + 100]
    assert _unfinished(opens(reader)) == []


def test_an_upload_that_fails_leaves_no_parts_behind(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opens("s3fs")
    client, _ = backend.connection._slow()
    ask = client._ask

    async def failing(verb: str, *args: object, **arguments: object) -> object:
        if arguments.get("PartNumber") == 2:
            raise BackendUnavailable("S3: the network broke")
        return await ask(verb, *args, **arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(client, "_ask", failing)
    with pytest.raises(BackendUnavailable, match="the network broke"):
        backend.put(b"large", bytes(LARGE + 1))
    assert _unfinished(backend) == []
    assert backend.get(b"large") is MISSING


def _unfinished(backend: S3Backend) -> list[str]:
    connection = backend.connection
    client, _ = connection._slow()
    answer = client._fs.call_s3(
        "list_multipart_uploads", Bucket=connection.settings.bucket, Prefix=connection.settings.folder
    )
    return [found["Key"] for found in answer.get("Uploads", ())]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_store_inside_anothers_folder_is_not_seen_from_outside(opens: Opens, client: ClientChoice) -> None:
    outer, inner = opens(client), opens(client, "/6162")
    for number in range(3):
        outer.put(b"ab%d" % number, b"outer")
        inner.put(b"cd%d" % number, b"inner")
    assert [stat.name for stat in outer.scan(b"")] == [b"ab0", b"ab1", b"ab2"]
    assert [stat.name for stat in outer.scan(b"ab")] == [b"ab0", b"ab1", b"ab2"]
    assert [stat.name for stat in inner.scan(b"")] == [b"cd0", b"cd1", b"cd2"]


def test_names_alike_in_their_first_bytes_are_listed_in_order(opens: Opens) -> None:
    backend = opens("obstore")
    names = [b"n" * 100 + bytes([number]) * 20 for number in range(12)]
    backend.put_many([Put(name, name) for name in [b"n" * 99, *names, b"o"]])
    assert [stat.name for stat in backend.scan(b"n")] == [b"n" * 99, *names]
    assert [stat.name for stat in backend.scan(b"n", after=names[4])] == names[5:]
    assert [stat.name for stat in backend.scan(b"n" * 100)] == names


@pytest.mark.parametrize("client", CLIENTS)
def test_a_sweep_removes_what_expired_and_nothing_else(opens: Opens, client: ClientChoice) -> None:
    clock = ManualClock(time.time())
    backend = opens(client, clock=clock)
    for number in range(5):
        backend.put(b"gone/%d" % number, b"v", expires_at=clock.now() + 1)
        backend.put(b"stays/%d" % number, b"v", expires_at=clock.now() + 100_000)
    _put_foreign(backend, "notes.txt", b"somebody's notes")
    clock.advance(1800)
    assert backend.sweep() == 0  # expired, but not long ago
    clock.advance(3600)
    backend.put(b"gone/3", b"again")
    assert backend.sweep() == 4
    assert [stat.name for stat in backend.scan(b"")] == [b"gone/3", *(b"stays/%d" % number for number in range(5))]
    assert backend.sweep() == 0  # it reads every header, so once an hour
    assert _keys(backend).count("notes.txt") == 1
    assert len(_keys(backend)) == 7


def test_a_sweep_takes_uploads_of_ours_back_that_never_ended(opens: Opens) -> None:
    """moto says of every upload that it began in 2010."""
    backend = opens("obstore")
    client, _ = backend.connection._slow()
    folder, bucket = backend.connection.settings.folder, backend.connection.settings.bucket
    for name in ("6162", "notes.txt"):
        client._fs.call_s3("create_multipart_upload", Bucket=bucket, Key=folder + name)
    assert backend.sweep() == 1
    assert _unfinished(backend) == [f"{folder}notes.txt"]


def _put_foreign(backend: S3Backend, name: str, data: bytes) -> None:
    client, _ = backend.connection._slow()
    settings = backend.connection.settings
    client._fs.call_s3("put_object", Bucket=settings.bucket, Key=settings.folder + name, Body=data)


def _keys(backend: S3Backend) -> list[str]:
    client, _ = backend.connection._slow()
    settings = backend.connection.settings
    answer = client._fs.call_s3("list_objects_v2", Bucket=settings.bucket, Prefix=settings.folder)
    return [item["Key"][len(settings.folder) :] for item in answer["Contents"]]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_cannot_be_read_counts_as_absent_to_writers_and_may_be_deleted(opens: Opens, client: ClientChoice) -> None:
    backend = opens(client)
    for data in (b"", b"short", b"X" * 2000):
        _put_foreign(backend, b"k".hex(), data)
        assert list(backend.scan(b"")) == []
        assert backend.put(b"k", b"ours", if_version=b'"whatever"') is None
        assert backend.put(b"k", b"ours", if_absent=True) is not None
        _put_foreign(backend, b"k".hex(), data)
        assert backend.delete(b"k") is True
        assert backend.delete(b"k") is False


@pytest.mark.parametrize("client", CLIENTS)
def test_a_bucket_that_does_not_exist_is_said_to_be_absent(s3_url: str, client: ClientChoice) -> None:
    settings = dataclasses.replace(settings_of(parse_url(s3_url)), bucket="nobody-made-this", client=client)
    backend = S3Backend(settings)
    for call in (
        lambda: backend.get(b"k"),
        lambda: backend.put(b"k", b"v"),
        lambda: backend.put(b"k", b"v", if_absent=True),
        lambda: backend.delete(b"k"),
        lambda: list(backend.scan(b"")),
        lambda: backend.get_many([b"k"] * 40),
    ):
        with pytest.raises(BackendUnavailable, match="bucket nobody-made-this does not exist"):
            call()
    backend.close()


class _Forgetful:
    """Stands before an S3 server, hands every request on, and hangs up instead of telling the first answer to a PUT."""

    def __init__(self, server: S3Server) -> None:
        self._behind = server.port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.forgotten = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._one(connection)

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65_536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if b"100-continue" in head.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < length:
            body += connection.recv(65_536)
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
        with socket.create_connection(("127.0.0.1", self._behind), timeout=10) as behind:
            behind.sendall(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            answer = b"".join(iter(lambda: behind.recv(65_536), b""))
        if head.startswith(b"PUT") and not self.forgotten:
            self.forgotten += 1
            return
        status, _, rest = answer.partition(b"\r\n")
        connection.sendall(status + b"\r\nConnection: close\r\n" + rest)

    def __enter__(self) -> _Forgetful:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.mark.parametrize("condition", ["if_absent", "if_version"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_conditional_write_whose_answer_was_lost_is_not_taken_for_refused(
    own_s3: S3Server, client: ClientChoice, condition: str
) -> None:
    """Clients ask again when the connection breaks; the second time the store refuses, for the first was done."""
    key = "testing"
    direct = S3Backend(S3Settings(own_s3.bucket, "p", own_s3.endpoint, key=key, secret=key, client=client))
    held = direct.put(b"k", b"old") if condition == "if_version" else None
    with _Forgetful(own_s3) as between:
        backend = S3Backend(S3Settings(own_s3.bucket, "p", between.endpoint, key=key, secret=key, client=client))
        version = backend.put(b"k", b"new", if_absent=held is None, if_version=held)
        assert between.forgotten == 1
        assert direct.get(b"k") == (b"new", version)
        backend.close()
    direct.close()
