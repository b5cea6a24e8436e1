"""The size bound of the SQLite backend: what goes when the store has grown too large."""

from __future__ import annotations

import random
from typing import Any

from agentcache_backends.sqlite.connections import Connection
from agentcache_backends.sqlite.files import ValueFiles
from agentcache_core.clock import Clock

_ROUNDS = 400
_RUN = 72


class Bound:
    """Keeps a store under `max_bytes`, database pages and files together; None bounds nothing.

    The size is looked at after every 1/64 of the bound that a connection wrote, so that each writing process may
    overshoot by as much. Expired values go first; then, of two runs of neighbours, the third that is worth least: by
    weight, then by age; weights are times, so a value without one counts by its age. Neighbours, because SQLite frees
    whole pages only.
    """

    def __init__(self, max_bytes: int | None, files: ValueFiles, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self._files = files
        self._now = clock.now
        self._hand = 0
        self._random = random.Random()  # noqa: S311 - a sample, not a secret

    def wrote(self, connection: Connection, size: int) -> None:
        """Count what a connection wrote, and look at the store's size when it is time."""
        connection.unmeasured += size
        if self.max_bytes is not None and connection.unmeasured > self.max_bytes // 64:
            self.enforce(connection)

    def enforce(self, connection: Connection) -> None:
        """Evict until the store is at most 15/16 of its bound, when it is above that now."""
        connection.unmeasured = 0
        if self.max_bytes is None:
            return
        goal = self.max_bytes - self.max_bytes // 16
        for _ in range(_ROUNDS):
            if self.size(connection) <= goal:
                return
            if not self.drop_expired(connection, most=200) and not self._drop_worst(connection):
                return

    def size(self, connection: Connection) -> int:
        """The bytes in use: pages of the database that are not free, and files."""
        pages, free, page = (
            connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
        files = connection.execute("SELECT total(size) FROM stored WHERE file IS NOT NULL").fetchone()[0]
        return int((pages - free) * page + files)

    def drop_expired(self, connection: Connection, *, most: int) -> int:
        """Delete up to `most` values that expired; answers how many went."""
        some = "SELECT rowid FROM stored WHERE expires_at <= ? LIMIT ?"
        return self._drop(connection, some, (self._now(), most))

    def _drop_worst(self, connection: Connection) -> int:
        low, high = connection.execute("SELECT min(rowid), max(rowid) FROM stored").fetchone()
        if low is None:
            return 0
        run = "SELECT rowid, weight, modified_at FROM stored WHERE rowid > ? ORDER BY rowid LIMIT ?"
        # One run behind a hand that goes round, so that every value's turn comes; one from anywhere to compare with,
        # so that a run of dear values loses none while cheap ones are elsewhere.
        ours = connection.execute(run, (self._hand, _RUN)).fetchall()
        self._hand = ours[-1][0] if len(ours) == _RUN else 0
        theirs = connection.execute(run, (self._random.randint(low - 1, high), _RUN)).fetchall()
        rows = list({row[0]: row for row in ours + theirs}.values())
        rows.sort(key=lambda row: (row[2] if row[1] is None else row[1], row[2]))
        worst = [row[0] for row in rows[: (len(rows) + 2) // 3]]
        return self._drop(connection, ",".join("?" * len(worst)), worst)

    def _drop(self, connection: Connection, which: str, arguments: Any) -> int:
        gone = connection.execute(f"DELETE FROM stored WHERE rowid IN ({which}) RETURNING file", arguments).fetchall()  # noqa: S608 - constants and marks
        for (file,) in gone:
            if file:
                self._files.remove(file)
        return len(gone)
