"""The foundation: migrations, transactions, jobs, vault, errors, mail, logs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import inspect, select
from starlette.testclient import TestClient

from agentcache_service import jobs, schema
from agentcache_service.clock import FixedClock
from agentcache_service.crypto import SealBroken, Vault
from agentcache_service.db import Database
from agentcache_service.jobs_tables import Job
from agentcache_service.logs import HIDDEN, hide_secrets
from agentcache_service.mail import Smtp, compose
from agentcache_service.service import Service
from agentcache_service.settings import Settings

JSON = {"content-type": "application/json"}


def test_migrations_go_up_and_down_and_match_the_tables(any_database_url: str) -> None:
    database = Database(any_database_url)
    assert not schema.is_current(database)
    schema.upgrade(database)
    assert schema.is_current(database)
    assert schema.differences(database) == []
    schema.downgrade(database)
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    schema.upgrade(database)
    database.close()


def test_the_url_of_a_tier_may_hold_commas_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiers = ["memory://", "redis+cluster://one:7000,two:7000/?timeout=1s", "s3://bucket/prefix"]
    monkeypatch.setenv("AGENTCACHE_SERVICE_CACHE_TIERS", f" {', '.join(tiers)},")
    assert Settings(data_dir=tmp_path).cache_tiers == tiers


def test_a_job_exists_exactly_if_its_change_was_committed(any_service: Service) -> None:
    with pytest.raises(RuntimeError), any_service.db.write() as session:  # noqa: PT012 - the block is the transaction
        jobs.enqueue(session, any_service.clock, "x")
        raise RuntimeError
    assert jobs.claim(any_service.db, any_service.clock, kinds=["x"]) is None
    with any_service.db.write() as session:
        jobs.enqueue(session, any_service.clock, "x")
    assert jobs.claim(any_service.db, any_service.clock, kinds=["x"]) is not None


def test_two_workers_never_hold_one_job(any_service: Service) -> None:
    with any_service.db.write() as session:
        for _ in range(20):
            jobs.enqueue(session, any_service.clock, "x")
    taken: list[str] = []

    def work() -> None:
        while (held := jobs.claim(any_service.db, any_service.clock, kinds=["x"])) is not None:
            taken.append(held.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(set(taken))) == (20, 20)


def test_a_job_whose_worker_died_is_taken_over_and_the_dead_one_cannot_finish_it(
    service: Service, clock: FixedClock
) -> None:
    with service.db.write() as session:
        jobs.enqueue(session, clock, "x")
    first = jobs.claim(service.db, clock, kinds=["x"])
    assert first is not None
    assert jobs.claim(service.db, clock, kinds=["x"]) is None
    clock.advance(seconds=jobs.LEASE.total_seconds() + 1)
    second = jobs.claim(service.db, clock, kinds=["x"])
    assert second is not None
    assert second.id == first.id
    assert not jobs.finish(service.db, clock, first)
    assert jobs.finish(service.db, clock, second)


def test_a_failing_job_is_tried_again_later_and_at_last_given_up(service: Service, clock: FixedClock) -> None:
    def fails(_claim: jobs.Claim) -> None:
        raise ValueError("no")

    worker = jobs.Worker(service.db, clock, {"x": fails})
    with service.db.write() as session:
        jobs.enqueue(session, clock, "x")
    tries = 0
    for _ in range(20):
        tries += worker.run_due()
        clock.advance(days=30)
    assert tries == jobs.MAX_ATTEMPTS
    with service.db.read() as session:
        row = session.scalars(select(Job)).one()
    assert (row.state, row.last_error) == ("failed", "ValueError: no")


def test_a_repeated_job_is_planted_once_per_turn_by_many_workers(service: Service, clock: FixedClock) -> None:
    ran: list[str] = []
    functions = {"x": lambda claim: ran.append(claim.payload["slot"])}
    workers = [jobs.Worker(service.db, clock, functions) for _ in range(3)]
    for _ in range(2):
        for worker in workers:
            worker.plant((jobs.Repeated("x", jobs.daily),))
            worker.run_due()
        clock.advance(days=1)
    assert ran == ["2026-01-15", "2026-01-16"]


def test_a_sealed_value_opens_in_its_place_only_and_survives_a_new_master_key() -> None:
    old, new = b"o" * 32, b"n" * 32
    sealed = Vault(old).seal(b"secret", place="a/1")
    vault = Vault(new, previous=(old,))
    assert vault.open(sealed, place="a/1") == b"secret"
    assert vault.needs_resealing(sealed)
    with pytest.raises(SealBroken):
        vault.open(sealed, place="a/2")
    with pytest.raises(SealBroken):
        Vault(new).open(sealed, place="a/1")
    for position in (0, 5, 15, 40, -1):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealBroken):
            vault.open(bytes(changed), place="a/1")


def test_the_master_key_file_is_private_and_made_once(service: Service) -> None:
    path = service.settings.data_dir / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600


def test_settings_refuse_what_would_be_unsafe_or_useless(tmp_path: Path) -> None:
    for wrong in ({"cors_origins": "*"}, {"mail_transport": "smtp"}, {"public_url": "ftp://x"}):
        with pytest.raises(ValueError, match=r"must|needs"):
            Settings(data_dir=tmp_path, **wrong)  # type: ignore[arg-type]


def test_every_refusal_has_one_shape(client: TestClient) -> None:
    for answer, status, code in [
        (client.get("/api/nowhere"), 404, "not_found"),
        (client.get("/api/account/me"), 401, "unauthenticated"),
        (client.put("/api/account/me", json={}), 405, "method_not_allowed"),
        (client.post("/api/account/login", content=b"{not json", headers=JSON), 400, "bad_request"),
        (client.post("/api/account/login", content=b"\xff\xfe", headers=JSON), 400, "bad_request"),
        (client.post("/api/account/login", json={"login": "x"}), 422, "invalid"),
        (client.post("/api/account/login", content=b" " * (2 << 20)), 413, "too_large"),
    ]:
        body = answer.json()
        assert (answer.status_code, body["success"], body["error"]) == (status, False, code), answer.text
        assert body["message"]


def test_the_openapi_document_names_400_and_our_shape_everywhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusal = operation["responses"]["400"]["content"]["application/json"]["schema"]
            assert refusal == {"$ref": "#/components/schemas/ErrorBody"}, (path, method)


def test_answers_carry_security_headers_and_a_request_id(client: TestClient) -> None:
    headers = client.get("/healthz").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert len(headers["x-request-id"]) == 16


def test_logs_hide_secrets_by_name_and_by_form() -> None:
    key = "ac_" + "0" * 64
    event: dict[str, Any] = {
        "event": f"call with {key}",
        "password": "x",
        "nested": {"api_key": "y", "url": "a://u:p@h"},
    }
    cleaned = hide_secrets(None, "info", event)
    assert cleaned["password"] == cleaned["nested"]["api_key"] == HIDDEN
    assert key not in str(cleaned)
    assert "u:p" not in str(cleaned)


class _Mailbox:
    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
        self.messages.append(envelope.content)
        return "250 OK"


def test_a_mail_reaches_a_real_smtp_server() -> None:
    box = _Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Grüße"
        message.set_content("hello")
        Smtp(f"smtp://127.0.0.1:{port}").deliver(message)
    finally:
        controller.stop()
    assert b"hello" in box.messages[0]


def test_a_subject_cannot_smuggle_headers() -> None:
    class User:
        first_name, username = "x\r\nBcc: all@example.com", "x"

    subject, text, _ = compose("verify", {"user": User(), "url": "u"})
    assert "\n" not in subject
    assert "Bcc" in text


def test_reads_cannot_be_kept_and_writes_roll_back_together(any_service: Service) -> None:
    with any_service.db.read() as session:
        jobs.enqueue(session, any_service.clock, "x", run_at=any_service.clock.now() + timedelta(days=1))
    with any_service.db.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_metrics_are_for_this_machine_or_the_token(service: Service) -> None:
    from agentcache_service.app import build_app

    app = build_app(service=service)
    local = TestClient(app, client=("127.0.0.1", 1))
    assert "agentcache_http_requests_total" in local.get("/metrics").text
    assert local.get("/metrics", headers={"x-forwarded-for": "8.8.8.8"}).status_code == 404
    assert TestClient(app, client=("192.0.2.1", 1)).get("/metrics").status_code == 404


def test_help_of_the_command_line_imports_none_of_the_service() -> None:
    # pydantic is not among them: typer itself imports it to show some options
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from agentcache_service.cli import app\n"
        "answer = CliRunner().invoke(app, ['serve', '--help'])\n"
        "assert answer.exit_code == 0, answer.output\n"
        "heavy = ('fastapi', 'sqlalchemy', 'uvicorn', 'agentcache_core', 'agentcache_service.settings')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "[]"
