"""The database schema over time: upgrade, downgrade, and writing the next migration of an area."""

from __future__ import annotations

import os
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from agentcache_service.db import Database
from agentcache_service.models import metadata

_HERE = Path(__file__).parent / "migrations"
_MIGRATING = 0x6167656E74  # any number that no other program on this database locks by


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    folders = sorted(str(path) for path in (_HERE / "versions").iterdir() if path.is_dir() and path.name[0] != "_")
    config.set_main_option("version_locations", os.pathsep.join(folders))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(database: Database, revision: str = "heads") -> None:
    """Bring the schema to the newest revision of every area (or the one named)."""
    with database.engine.begin() as connection:
        if not database.is_sqlite:  # two machines that start at once must not both migrate; SQLite queues by itself
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str = "base") -> None:
    """Take migrations back, all of them by default."""
    with database.engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def revisions(connection: Connection) -> list[str]:
    """The revisions a database is at, one an area."""
    return sorted(MigrationContext.configure(connection).get_current_heads())


def is_current(database: Database) -> bool:
    """True when every area's newest migration has run."""
    with database.engine.connect() as connection:
        present = set(revisions(connection))
    script = ScriptDirectory.from_config(_config(None))
    reached = {revision.revision for head in present for revision in script.iterate_revisions(head, "base")}
    return set(script.get_heads()) <= reached | present


def differences(database: Database) -> list[object]:
    """What the tables in code have that the migrated database has not, and the other way round."""
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def write_migration(database: Database, area: str, message: str) -> Path:
    """Compare the code's tables with an upgraded database and write the next migration of `area`.

    Revision ids are `<area>_<nnnn>`. The first of a new area starts its own branch, which depends on `core_0001`.
    """
    folder = _HERE / "versions" / area
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob(f"{area}_*.py"))) + 1
    revision = f"{area}_{number:04d}"
    is_first = number == 1
    with database.engine.begin() as connection:
        config = _config(connection)
        made = command.revision(
            config,
            message=message,
            autogenerate=True,
            head="base" if is_first else f"{area}@head",
            splice=is_first,
            branch_label=area if is_first else None,
            version_path=str(folder),
            rev_id=revision,
            depends_on="core_0001" if is_first and area != "core" else None,
        )
    assert made is not None
    written = made[0] if isinstance(made, list) else made
    assert written is not None
    path = Path(written.path)
    final = folder / f"{revision}_{'_'.join(message.lower().split())}.py"
    path.rename(final)
    return final
