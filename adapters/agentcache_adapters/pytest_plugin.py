"""The pytest plugin: tests of agents that record their model's answers once and replay them ever after.

The fixture `agentcache` is a cache over a folder of recordings that one can read, review and commit. With
`--agentcache=record` what is not recorded is asked and recorded; without, a request that is not recorded fails its test
and shows where it differs from the nearest recording. `refresh` asks everything anew, `off` asks and records nothing.

Loaded by pytest through the entry point `agentcache`; the engine is imported when the fixture is first used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from agentcache_adapters.recordings import Recorded, RecordingFolder
    from agentcache_core import Cache

MODES: Final = ("replay", "record", "refresh", "off")
_SHOWN: Final = 12


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the settings."""
    group = parser.getgroup("agentcache", "recorded answers of models and tools")
    group.addoption(
        "--agentcache",
        choices=MODES,
        default="replay",
        help="replay (default): answer from recordings, fail on what is not recorded; record: ask and record what is "
        "not; refresh: ask and record everything; off: ask everything, record nothing",
    )
    parser.addini("agentcache_dir", "the folder of recordings, from the root folder", default="tests/recordings")
    parser.addini("agentcache_redact", "regular expressions for what is never written down", type="linelist")


class Recordings:
    """The recordings of one test session: a cache filled from the folder, and what the tests asked of it."""

    def __init__(self, config: pytest.Config, store: Path) -> None:
        from agentcache_adapters.recordings import RecordingFolder, Redaction
        from agentcache_core.testing.recording import recording_cache

        self.mode: Any = config.getoption("--agentcache")
        redaction = Redaction(config.getini("agentcache_redact"))
        self.folder: RecordingFolder = RecordingFolder(config.rootpath / config.getini("agentcache_dir"), redaction)
        self.asked: dict[bytes, Any] = {}
        self.known: dict[bytes, Recorded] = {}
        self.used: set[str] = set()
        self.written: set[str] = set()
        url = f"sqlite:///{store / 'recordings.db'}"
        loading: dict[bytes, Any] = {}
        self._shelf = recording_cache(url, mode="record", redact=redaction.request, asked=loading)
        for recorded in self.folder.read():
            self.known[self._shelf.key(recorded.request).digest] = recorded
            self._shelf.set(recorded.request, recorded.answer)
        self.cache: Cache = recording_cache(
            url,
            mode=self.mode,
            redact=redaction.request,
            asked=self.asked,
        )

    def begin(self) -> None:
        """A test begins: nothing has been asked yet."""
        self.asked.clear()

    def end(self) -> str:
        """A test ended: write what is new, note what was used; answers what is wrong, "" when nothing is."""
        missing = []
        for digest, request in list(self.asked.items()):
            recorded = self.known.get(digest)
            if recorded is not None:
                self.used.add(recorded.path.name)
            if self.mode in ("record", "refresh") and (recorded is None or self.mode == "refresh"):
                self._write(digest, request)
            if self.mode == "replay" and recorded is None:
                missing.append(request)
        return "\n\n".join(self._described(request) for request in missing[:_SHOWN])

    def _write(self, digest: bytes, request: Any) -> None:
        from agentcache_adapters.recordings import Recorded

        hit = self._shelf.lookup(request)
        if hit is not None:
            kind = self._shelf.key(request).kind
            path = self.folder.write(request, hit.value, kind=kind, digest=digest)
            before = self.known.get(digest)
            if before is not None and before.path != path:
                before.path.unlink(missing_ok=True)
            self.known[digest] = Recorded(request, hit.value, path)
            self.written.add(path.name)
            self.used.add(path.name)

    def _described(self, request: Any) -> str:
        from agentcache_core.keys.diff import nearest

        found = nearest(request, [recorded.request for recorded in self.known.values()])
        head = "a request is not recorded (run with --agentcache=record to ask and record it)"
        if found is None:
            return f"{head}; {self.folder.path} holds no recording"
        near, differences = found
        path = next(recorded.path for recorded in self.known.values() if recorded.request is near)
        lines = [f"  {difference}" for difference in differences if difference.change != "ignored"]
        more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        return "\n".join([f"{head}; from the nearest, {path.name}, it differs in:", *lines[:_SHOWN], *more])

    def unused(self) -> list[str]:
        """The recordings no test has asked for."""
        return sorted(recorded.path.name for recorded in self.known.values() if recorded.path.name not in self.used)

    def close(self) -> None:
        """Let go of the caches."""
        self.cache.close()
        self._shelf.close()


_recordings = pytest.StashKey[Recordings]()
_told_by_workers = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture(scope="session")
def _agentcache_recordings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    recordings = Recordings(request.config, tmp_path_factory.mktemp("agentcache"))
    request.config.stash[_recordings] = recordings
    yield recordings
    recordings.close()


@pytest.fixture
def agentcache(_agentcache_recordings: Any) -> Iterator[Any]:
    """A cache that replays the recordings of this project (`agentcache.aio` is its async face)."""
    _agentcache_recordings.begin()
    yield _agentcache_recordings.cache
    problem = _agentcache_recordings.end()
    if problem:
        pytest.fail(problem, pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells its controller what its tests used."""
    recordings = session.config.stash.get(_recordings, None)
    output = getattr(session.config, "workeroutput", None)
    if recordings is not None and output is not None:
        output["agentcache"] = _told(recordings)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """The controller of pytest-xdist hears what a worker's tests used."""
    told = getattr(node, "workeroutput", {}).get("agentcache")
    if told is not None:
        node.config.stash.setdefault(_told_by_workers, []).append(told)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Report what was recorded, and recordings that no test of this run asked for."""
    recordings = config.stash.get(_recordings, None)
    told = config.stash.get(_told_by_workers, [])
    if recordings is not None:
        told = [*told, _told(recordings)]
    if not told:
        return
    written = {name for one in told for name in one["written"]}
    used = {name for one in told for name in one["used"]}
    unused = {name for one in told for name in one["unused"]} - used
    if written:
        terminalreporter.section("agentcache: recorded")
        for name in sorted(written):
            terminalreporter.line(name)
    if unused:
        terminalreporter.section("agentcache: recordings no test of this run asked for")
        for name in sorted(unused):
            terminalreporter.line(name)


def _told(recordings: Recordings) -> dict[str, list[str]]:
    return {
        "used": sorted(recordings.used),
        "unused": recordings.unused(),
        "written": sorted(recordings.written),
    }
