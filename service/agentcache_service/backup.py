"""Backup and restore: one archive of the database and of what lies in the data folder, made while the service runs.

    about.json                     format, time, the schema's revisions
    rows/<table>.jsonl             every row of the database (see `rows`), SQLite or PostgreSQL
    cache<number>.db               each cache tier that is a SQLite file
    payments.db                    the books of play money
    outbox/ packages/ credentials/ files, where they are kept on this machine

Not in it: the master key, and what lies in stores that have backups of their own (Redis, buckets); `left_out` names it.
Archives of format 1, which held a SQLite database as a file, are still restored.
"""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic.util import CommandError
from sqlalchemy.engine import make_url

from agentcache_core.urls import parse_url
from agentcache_service import rows
from agentcache_service.db import Database
from agentcache_service.settings import Settings

_FORMAT = 2
_FOLDERS = ("outbox", "packages", "credentials")
_LOCAL_FILE = re.compile(rf"(?:{'|'.join(_FOLDERS)})(?:/\w[\w.-]*){{1,2}}")
_ROWS = re.compile(r"rows/\w+\.jsonl")


class CannotBackUp(Exception):
    """This archive, folder or database does not fit."""


def _is_sqlite(settings: Settings) -> bool:
    return make_url(settings.database_url).get_backend_name() == "sqlite"


def _database_file(settings: Settings) -> Path:
    return Path(make_url(settings.database_url).database or "")


def _stores(settings: Settings) -> dict[str, Path]:
    """The SQLite files beside the database, by the names they have in the archive."""
    found = {"payments.db": settings.data_dir / "payments.db"}
    for number, tier in enumerate(settings.cache_tiers):
        if parse_url(tier).scheme == "sqlite":
            found[f"cache{number}.db"] = Path(parse_url(tier).path)
    return found


def left_out(settings: Settings) -> list[str]:
    """What an archive of this installation does not hold."""
    found = ["the master key" + ("" if settings.master_key else f" ({settings.data_dir / 'master.key'})")]
    urls = [*settings.cache_tiers, *([settings.files_url] if settings.files_url else [])]
    found += [parse_url(url).shown for url in urls if parse_url(url).scheme not in ("sqlite", "memory")]
    return found


def back_up(settings: Settings, target: Path, *, now: datetime) -> list[str]:
    """Write the archive (mode 0600; refuses to overwrite) and return what is in it.

    The database is as of one moment, each other part as of a little later: what was stored in between is set right by
    `reconcile` after a restore.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = []
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with (
        os.fdopen(descriptor, "wb") as raw,
        tarfile.open(fileobj=raw, mode="w:gz") as archive,
        tempfile.TemporaryDirectory(dir=settings.data_dir) as folder,
    ):
        database = Database(settings.database_url)
        try:
            revisions, tables = rows.dump(database, Path(folder))
        finally:
            database.close()
        _add_text(archive, "about.json", {"format": _FORMAT, "made_at": now.isoformat(), "schema": revisions})
        for name, path in [*((f"rows/{table.name}", table) for table in tables), *_copies(settings, Path(folder))]:
            archive.add(path, name)
            names.append(name)
    return names


def _add_text(archive: tarfile.TarFile, name: str, content: Any) -> None:
    body = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    archive.addfile(entry, io.BytesIO(body))


def _copies(settings: Settings, folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything but the database: names in the archive, and files to be read."""
    for name, path in _stores(settings).items():
        if path.exists():
            _copy_database(path, folder / name)
            yield name, folder / name
    if settings.files_url:
        return
    for kind in _FOLDERS:
        for path in sorted((settings.data_dir / kind).rglob("*")):
            name = path.relative_to(settings.data_dir).as_posix()
            if path.is_file() and _LOCAL_FILE.fullmatch(name):
                yield name, path


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that others may be writing to (SQLite's own backup)."""
    with closing(sqlite3.connect(source, timeout=60)) as reader, closing(sqlite3.connect(target)) as writer:
        reader.backup(writer)


def restore(settings: Settings, source: Path) -> list[str]:
    """Put an archive's content into place and return what was. Refuses to overwrite files, and rows of a database."""
    places = _stores(settings)
    if _is_sqlite(settings):
        places["service.db"] = _database_file(settings)
    taken = [str(path) for path in places.values() if path.exists()]
    if taken:
        raise CannotBackUp(f"These exist already; move them away first: {', '.join(taken)}")
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tarfile.open(source, "r:gz") as archive, tempfile.TemporaryDirectory(dir=settings.data_dir) as folder:
        about = _about(archive)
        if about["format"] == 1 and not _is_sqlite(settings):
            raise CannotBackUp("This archive holds a SQLite database; restore it on SQLite, and back that up again.")
        names = []
        for entry in archive:
            known = entry.name in places or _LOCAL_FILE.fullmatch(entry.name) or _ROWS.fullmatch(entry.name)
            if known and entry.isfile():
                _extract(archive, entry, Path(folder) / entry.name)
                names.append(entry.name)
        if about["format"] > 1:  # first the part that may still refuse; then nothing is left to go wrong half-way
            _load(settings, Path(folder) / "rows", about["schema"])
        for name in names:
            if not _ROWS.fullmatch(name):
                target = places.get(name, settings.data_dir / name)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                (Path(folder) / name).rename(target)
    return names


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    stream = archive.extractfile(entry)
    assert stream is not None
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        while block := stream.read(1 << 20):
            out.write(block)


def _load(settings: Settings, folder: Path, revisions: list[str]) -> None:
    database = Database(settings.database_url)
    try:
        rows.load(database, folder, revisions)
    except rows.NotEmpty as found:
        raise CannotBackUp(f"The database is not empty ({found.table} has rows); give a new one.") from None
    except CommandError as unknown:
        raise CannotBackUp(f"This archive was made by a newer version of the service ({unknown}).") from None
    finally:
        database.close()


def _about(archive: tarfile.TarFile) -> dict[str, Any]:
    try:
        stream = archive.extractfile("about.json")
    except KeyError:
        stream = None
    about = json.loads(stream.read()) if stream is not None else {}
    if about.get("format") not in (1, _FORMAT):
        raise CannotBackUp("This is not a backup of this service, or one of another format.")
    found: dict[str, Any] = about
    return found
