"""Backup and restore of an embedded installation: one archive of databases and outbox, made while the service runs."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import make_url

from agentcache_service.settings import Settings

_FORMAT = 1


class CannotBackUp(Exception):
    """This installation keeps its state elsewhere, or the archive or folder does not fit."""


def _databases(settings: Settings) -> dict[str, Path]:
    """The SQLite files of this installation by the names they have in the archive."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise CannotBackUp("The database is not SQLite: use its own tools (pg_dump).")
    found = {"service.db": Path(url.database)}
    for number, tier in enumerate(settings.cache_tiers):
        if tier.startswith("sqlite:///"):
            found[f"cache{number}.db"] = Path(tier.removeprefix("sqlite:///").partition("?")[0])
    return found


def back_up(settings: Settings, target: Path, *, now: datetime) -> list[str]:
    """Write the archive (mode 0600; refuses to overwrite) and return what is in it. The master key is left out."""
    names = []
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        about = json.dumps({"format": _FORMAT, "made_at": now.isoformat()}).encode()
        entry = tarfile.TarInfo("about.json")
        entry.size = len(about)
        archive.addfile(entry, io.BytesIO(about))
        with tempfile.TemporaryDirectory(dir=settings.data_dir) as folder:
            for name, path in _databases(settings).items():
                if path.exists():
                    copy = Path(folder) / name
                    _copy_database(path, copy)
                    archive.add(copy, name)
                    names.append(name)
        for mail in sorted((settings.data_dir / "outbox").glob("*.eml")):
            archive.add(mail, f"outbox/{mail.name}")
            names.append(f"outbox/{mail.name}")
    return names


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that others may be writing to (SQLite's own backup)."""
    with closing(sqlite3.connect(source, timeout=60)) as reader, closing(sqlite3.connect(target)) as writer:
        reader.backup(writer)


def restore(settings: Settings, source: Path) -> list[str]:
    """Put an archive's content into place and return what was. Refuses to overwrite databases that exist."""
    places = _databases(settings)
    taken = [str(path) for path in places.values() if path.exists()]
    if taken:
        raise CannotBackUp(f"These exist already; move them away first: {', '.join(taken)}")
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    names = []
    with tarfile.open(source, "r:gz") as archive:
        _check_format(archive)
        for entry in archive:
            target = places.get(entry.name)
            if entry.name.startswith("outbox/") and "/" not in entry.name.removeprefix("outbox/"):
                target = settings.data_dir / "outbox" / Path(entry.name).name
            if target is None or not entry.isfile():
                continue
            stream = archive.extractfile(entry)
            assert stream is not None
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
                while block := stream.read(1 << 20):
                    out.write(block)
            names.append(entry.name)
    return names


def _check_format(archive: tarfile.TarFile) -> None:
    try:
        stream = archive.extractfile("about.json")
    except KeyError:
        stream = None
    if stream is None or json.loads(stream.read()).get("format") != _FORMAT:
        raise CannotBackUp("This is not a backup of this service, or one of another format.")
