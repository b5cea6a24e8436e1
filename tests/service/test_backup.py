"""Backup and restore as a drill: back up, lose everything, restore, and go on, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from sqlalchemy import create_engine, func, select, text
from starlette.testclient import TestClient
from typer.testing import CliRunner

from agentcache_service import backup, cli, schema
from agentcache_service.app import build_app
from agentcache_service.clock import FixedClock
from agentcache_service.db import Database, normalise_url
from agentcache_service.identity.tables import ApiKey, User
from agentcache_service.models import metadata
from agentcache_service.money import entries, ledger
from agentcache_service.service import Service
from agentcache_service.usage import quota, reconcile


def _used(service: Service) -> tuple[str, TestClient]:
    """A service with a customer who stored things; the organization and the customer's program."""
    user = world.make_user(service, "ada")
    org_id = world.make_org(service, user, plan="pro")
    api = TestClient(build_app(service=service), headers=dict(world.make_key(service, org_id, user).headers))
    assert api.post("/api/cache/set", json={"key": "k", "value": {"kept": True}}).status_code == 200
    assert api.post("/api/assets?key=file", content=b"firmware" * 9000).status_code == 201
    _book(service, "first")
    return org_id, api


def _book(service: Service, source_id: str) -> int:
    """Write one transaction into the ledger; its number."""
    at = service.clock.now()
    with service.db.write() as session:
        return ledger.post(session, entries.plan_payment(source_id, 19_000_000, gateway="local", at=at)).id


def _damage(service: Service) -> None:
    """Lose the database and everything in the data folder but the master key."""
    folder = service.settings.data_dir
    if service.db.is_sqlite:
        for path in folder.glob("service.db*"):
            path.unlink()
    else:
        engine = create_engine(normalise_url(service.settings.database_url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "master.key":
            path.unlink()


def test_after_everything_was_lost_logins_values_assets_and_books_are_there_again(
    any_service: Service, tmp_path: Path, clock: FixedClock
) -> None:
    org_id, api = _used(any_service)
    cid = any_service.market.packages.put(b"an agent's package")
    any_service.meter.flush(everything=True)
    before = _counts(any_service.db)
    archive = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    names = set(backup.back_up(any_service.settings, archive, now=clock.now()))
    assert {"rows/users.jsonl", "cache0.db", "payments.db"} <= names
    assert archive.stat().st_mode & 0o777 == 0o600
    any_service.close()
    _damage(any_service)

    backup.restore(any_service.settings, archive)
    again = make_service(any_service.settings, clock)
    try:
        assert _counts(again.db) == before
        assert schema.differences(again.db) == []
        assert reconcile.run(again) == []
        with TestClient(build_app(service=again)) as there:
            login = there.post("/api/account/login", json={"login": "ada", "password": world.PASSWORD})
            assert login.status_code == 200, login.text
            key = {name: api.headers[name] for name in ("x-api-key", "x-namespace")}
            there.cookies.clear()
            assert there.post("/api/cache/get", json={"key": "k"}, headers=key).json()["value"] == {"kept": True}
            stored = there.post("/api/assets?key=copy", content=b"firmware" * 9000, headers=key).json()
            assert stored["deduplicated"]
            assert there.get(f"/api/assets/{stored['asset']}", headers=key).content == b"firmware" * 9000
        assert again.market.packages.get(cid) == b"an agent's package"
        with again.db.read() as session:
            assert quota.used(session, org_id, "hot_bytes", quota.STOCK) == len('{"kept":true}')
    finally:
        again.close()


def _counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        query = {table.name: select(func.count()).select_from(table) for table in metadata.sorted_tables}
        return {name: session.scalar(count) or 0 for name, count in query.items()}


def test_null_and_the_json_value_null_and_every_moment_come_back_as_they_were(
    any_service: Service, tmp_path: Path, clock: FixedClock
) -> None:
    user = world.make_user(any_service, "ada")
    org_id = world.make_org(any_service, user)
    world.make_key(any_service, org_id, user)
    world.make_key(any_service, org_id, user, namespaces=["cdn"])
    query = text("SELECT id, CAST(scopes AS TEXT), CAST(namespaces AS TEXT), created_at FROM api_keys ORDER BY id")
    with any_service.db.read() as session:
        before = session.execute(query).all()
    archive = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    backup.back_up(any_service.settings, archive, now=clock.now())
    any_service.close()
    _damage(any_service)
    backup.restore(any_service.settings, archive)
    again = make_service(any_service.settings, clock)
    with again.db.read() as session:
        assert session.execute(query).all() == before
        assert session.scalars(select(ApiKey.created_at)).first() == clock.now()
    again.close()


@pytest.mark.postgres
def test_an_installation_moves_from_sqlite_to_postgresql_by_its_backup(
    service: Service, tmp_path: Path, clock: FixedClock, postgres_url: str
) -> None:
    _used(service)
    archive = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    backup.back_up(service.settings, archive, now=clock.now())
    settings = make_settings(tmp_path / "new", database_url=postgres_url, master_key=_key_of(service))
    backup.restore(settings, archive)
    moved = make_service(settings, clock)
    assert _counts(moved.db) == _counts(service.db)
    assert _book(moved, "second") == 2  # PostgreSQL's own numbers go on after those that were loaded
    moved.close()


def _key_of(service: Service) -> str:
    return (service.settings.data_dir / "master.key").read_text()


def test_nothing_that_is_there_is_overwritten(any_service: Service, tmp_path: Path, clock: FixedClock) -> None:
    _used(any_service)
    archive = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    backup.back_up(any_service.settings, archive, now=clock.now())
    with pytest.raises(FileExistsError):
        backup.back_up(any_service.settings, archive, now=clock.now())
    with pytest.raises(backup.CannotBackUp, match="exist already"):
        backup.restore(any_service.settings, archive)
    any_service.engine.close()
    for name in ("cache.db", "payments.db", *(["service.db"] if any_service.db.is_sqlite else [])):
        for path in any_service.settings.data_dir.glob(f"{name}*"):
            path.unlink()
    if not any_service.db.is_sqlite:
        with pytest.raises(backup.CannotBackUp, match="not empty"):
            backup.restore(any_service.settings, archive)
        assert not (any_service.settings.data_dir / "cache.db").exists()  # refused before anything was put in place


def test_an_archive_of_the_first_format_is_still_restored(service: Service, tmp_path: Path, clock: FixedClock) -> None:
    _used(service)
    service.meter.flush(everything=True)
    archive = tmp_path.parent / f"{tmp_path.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as old:
        about = tmp_path / "about.json"
        about.write_text(json.dumps({"format": 1, "made_at": clock.now().isoformat()}))
        old.add(about, "about.json")
        for name in ("service.db", "cache.db"):
            copy = tmp_path / f"copy-{name}"
            with closing(sqlite3.connect(tmp_path / name)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
            old.add(copy, name.replace("cache", "cache0"))
    settings = make_settings(tmp_path / "new", master_key=_key_of(service))
    assert backup.restore(settings, archive) == ["service.db", "cache0.db"]
    again = make_service(settings, clock)
    with again.db.read() as session:
        assert session.scalars(select(User.email)).one() == "ada@example.com"
    assert reconcile.run(again) == []
    again.close()


def test_a_file_that_is_no_backup_and_one_of_a_newer_version_are_refused(tmp_path: Path, clock: FixedClock) -> None:
    for about, words in (({"format": 9}, "another format"), ({"format": 2, "schema": ["core_9999"]}, "newer version")):
        archive = tmp_path / f"{about['format']}.tar.gz"
        entry = tmp_path / "about.json"
        entry.write_text(json.dumps(about))
        with tarfile.open(archive, "w:gz") as made:
            made.add(entry, "about.json")
        with pytest.raises(backup.CannotBackUp, match=words):
            backup.restore(make_settings(tmp_path / "data"), archive)


def test_the_commands_say_what_is_not_in_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCACHE_SERVICE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AGENTCACHE_SERVICE_FILES_URL", f"file://{tmp_path}/files")
    make_service(make_settings(tmp_path / "data"), FixedClock()).close()
    made = CliRunner().invoke(cli.app, ["backup", str(tmp_path / "a.tar.gz")])
    assert made.exit_code == 0, made.output
    assert "master.key" in made.output
    assert f"file://{tmp_path}/files" in made.output.replace("\n", "")
    shutil.rmtree(tmp_path / "data")
    restored = CliRunner().invoke(cli.app, ["restore", str(tmp_path / "a.tar.gz")])
    assert restored.exit_code == 0, restored.output
