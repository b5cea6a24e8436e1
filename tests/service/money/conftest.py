"""Counterparts for payments: the local gateway, a strict recorded Stripe, and localstripe in its own process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from agentcache_service.clock import FixedClock
from agentcache_service.db import Database
from agentcache_service.money import billing_tables, tables
from agentcache_service.money.gateway import PaymentGateway
from agentcache_service.money.local_gateway import LocalGateway
from agentcache_service.money.stripe_gateway import StripeGateway
from agentcache_service.orm import Base

HERE = Path(__file__).parent
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECRET = "whsec_test"


def localstripe_python() -> Path | None:
    """The interpreter of the separate environment that holds localstripe, made by scripts/setup/30-localstripe.sh."""
    home = Path(os.environ.get("AGENTCACHE_LOCALSTRIPE_VENV", HERE.parents[2] / ".cache" / "localstripe"))
    python = home / "bin" / "python"
    return python if python.exists() else None


@pytest.fixture(scope="session")
def strict_stripe() -> Iterator[str]:
    """The address of our recorded Stripe, which honours idempotency keys and refuses what it does not know."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("strict_stripe", HERE / "strict_stripe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["strict_stripe"] = module
    spec.loader.exec_module(module)
    server = ThreadingHTTPServer(("127.0.0.1", 0), module.StrictStripe)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a localstripe started on loopback only; a failure where its environment was not made."""
    python = localstripe_python()
    if python is None:
        pytest.fail("localstripe is not installed: run scripts/setup/30-localstripe.sh")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = (
        "from aiohttp import web; from localstripe.server import app; "
        f"web.run_app(app, host='127.0.0.1', port={port}, print=None)"
    )
    home = tmp_path_factory.mktemp("localstripe")
    process = subprocess.Popen(
        [python, "-c", launcher],
        cwd=home,
        env={"TMPDIR": str(home), "PATH": os.environ.get("PATH", "")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"localstripe ended at once with status {process.returncode}")
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            pause.wait(0.1)
        else:
            return
    pytest.fail("localstripe did not answer within 30 seconds")


@pytest.fixture(params=["local", "strict_stripe", "localstripe"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> PaymentGateway:
    """Every gateway the contract suite runs against."""
    if request.param == "local":
        return LocalGateway(tmp_path / "payments.sqlite", secret=SECRET, now=lambda: NOW)
    address = request.getfixturevalue(request.param)
    return StripeGateway("sk_test_contract", webhook_secret=SECRET, base=address)


@pytest.fixture
def honours_keys(request: pytest.FixtureRequest, gateway: PaymentGateway) -> PaymentGateway:
    """The gateways that keep idempotency keys and pay out; localstripe has neither."""
    if "localstripe]" in request.node.name:
        pytest.skip("localstripe ignores Idempotency-Key and has no Connect; see docs/partners.md")
    return gateway


@pytest.fixture
def clock() -> FixedClock:
    """The hour, set by the test."""
    return FixedClock(NOW)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite database with the tables of money."""
    opened = Database(f"sqlite:///{tmp_path / 'service.db'}")
    Base.metadata.create_all(opened.engine, tables=[*tables.ALL, *billing_tables.ALL])
    yield opened
    opened.close()
