"""Neon's database address: accepted when a real PostgreSQL answers there and nothing about it is unsafe."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agentcache_service.errors import ServiceError
from agentcache_service.market import neon
from agentcache_service.safe_http import SafeClient
from agentcache_service.service import Service

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[int]:
    """A port of this machine that leads to the tests' PostgreSQL, which itself listens on a Unix socket only."""
    folder = Path(parse_qs(urlsplit(postgres_server).query)["host"][0])
    (path,) = (found for found in folder.glob(".s.PGSQL.*") if not found.name.endswith(".lock"))
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(caller: socket.socket) -> None:
        with caller, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(path))
            back = threading.Thread(target=pump, args=(server, caller))
            back.start()
            pump(caller, server)
            back.join()

    def accept() -> None:
        while not stopping.is_set():
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(caller,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    stopping.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def shop(service: Service) -> Service:
    service.outgoing = SafeClient(allow=["127.0.0.0/8"])
    return service


def test_a_database_that_answers_is_accepted_and_named(shop: Service, database: int) -> None:
    address = f"postgresql://postgres:pw@127.0.0.1:{database}/postgres?sslmode=disable"
    assert neon.check(shop, {"database_url": address}).startswith("PostgreSQL 1")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql://u:p@example.com/d", "whole connection string"),
        ("postgresql://127.0.0.1/d", "whole connection string"),
        ("postgresql://u:p@127.0.0.1:{port}/d?sslmode=require&passfile=/etc/passwd", "not accepted"),
        ("postgresql://u:p@127.0.0.1:1/d?sslmode=disable", "did not accept"),
        ("postgresql://postgres:p@127.0.0.1:{port}/nowhere?sslmode=disable", "did not accept"),
        ("postgresql://u:p@10.0.0.1/d", "public address"),
        ("postgresql://u:p@169.254.169.254/d", "public address"),
    ],
)
def test_an_address_that_is_unsafe_or_dead_is_refused(shop: Service, database: int, address: str, said: str) -> None:
    with pytest.raises(ServiceError, match=said):
        neon.check(shop, {"database_url": address.format(port=database)})


def test_an_unencrypted_connection_to_elsewhere_is_refused(service: Service) -> None:
    service.outgoing = SafeClient(resolver=lambda _host, _port: ["93.184.216.34"])
    fields: dict[str, Any] = {"database_url": "postgresql://u:p@db.example/d?sslmode=disable"}
    with pytest.raises(ServiceError, match="sslmode=require"):
        neon.check(service, fields)
