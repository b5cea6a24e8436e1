"""Checks of an agent's package: a ZIP archive that is read, never unpacked, and refused by the first rule it breaks.

Rules: no absolute or climbing paths, no links or special files, no name twice (also not in another case), bounded
counts and sizes measured while reading (what the directory claims is not believed), bounded compression ratio, no
nested archives hiding size, a README, and nothing that looks like a live secret.
"""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from .secrets_scan import Finding, scan

MAX_PACKAGE = 50 << 20
MAX_FILES = 2_000
MAX_FILE = 50 << 20
MAX_UNPACKED = 200 << 20
MAX_RATIO = 200
RATIO_FLOOR = 1 << 20
MAX_DEPTH = 20
MAX_SCANNED = 2 << 20

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


class ArchiveRefused(ValueError):
    """The package breaks a rule; the message names the file and how to mend it."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of a package: its path, its real size and its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """A checked package. `findings` are what the secrets scan saw; a package with any is held for a person."""

    files: tuple[PackedFile, ...]
    unpacked: int
    sha256: str
    readme: str
    findings: tuple[Finding, ...]


def check_package(body: bytes) -> Package:
    """Read a package and return what is in it, or raise `ArchiveRefused`."""
    if len(body) > MAX_PACKAGE:
        raise ArchiveRefused(f"The package has {len(body)} bytes; at most {MAX_PACKAGE} are allowed.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ArchiveRefused("This is not a ZIP archive; make one with `agentcache agents pack`.") from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(archive.infolist()) > MAX_FILES:
            raise ArchiveRefused(f"The package has more than {MAX_FILES} files.")
        if not entries:
            raise ArchiveRefused("The package is empty.")
        _check_names(archive.infolist())
        return _read_all(archive, entries, body)


def _check_names(entries: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        _check_name(name)
        if (folded := name.rstrip("/").casefold()) in seen:
            raise ArchiveRefused(f"{name!r} is in the package twice (names must differ by more than their case).")
        seen.add(folded)
        _check_kind(entry)
    for name in seen:
        if any(str(parent) in seen and not _is_folder(entries, str(parent)) for parent in PurePosixPath(name).parents):
            raise ArchiveRefused(f"{name!r} lies inside a file.")


def _is_folder(entries: list[zipfile.ZipInfo], folded: str) -> bool:
    return any(entry.is_dir() and entry.filename.rstrip("/").casefold() == folded for entry in entries)


def _check_name(name: str) -> None:
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise ArchiveRefused(f"{name!r} is an absolute path; use paths relative to the package.")
    if "\\" in name or "\0" in name or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise ArchiveRefused(f"{name!r} holds a character no path may have; use '/' between folders.")
    if any(part in {"", ".", ".."} for part in parts):
        raise ArchiveRefused(f"{name!r} climbs out of the package or has an empty part.")
    if len(parts) > MAX_DEPTH or len(name) > 240:
        raise ArchiveRefused(f"{name[:60]!r} is nested too deeply or too long.")
    for part in parts:
        if part.split(".")[0].lower() in _RESERVED or part[-1] in " .":
            raise ArchiveRefused(f"{name!r} cannot be unpacked on every system; rename it.")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise ArchiveRefused(f"{entry.filename!r} is a link or a special file; pack only plain files.")
    if entry.flag_bits & 0x1:
        raise ArchiveRefused(f"{entry.filename!r} is encrypted; the package must be readable.")
    if entry.compress_type not in _METHODS:
        raise ArchiveRefused(f"{entry.filename!r} is compressed in an unusual way; use plain ZIP (deflate).")


def _read_all(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], body: bytes) -> Package:
    files: list[PackedFile] = []
    findings: list[Finding] = []
    total, readme = 0, ""
    for entry in entries:
        content = _read(archive, entry, room=MAX_UNPACKED - total)
        total += len(content)
        files.append(PackedFile(entry.filename, len(content), hashlib.sha256(content).hexdigest()))
        findings.extend(scan(entry.filename, content[:MAX_SCANNED]))
        if entry.filename.lower() in {"readme.md", "readme", "readme.txt"}:
            readme = content[:100_000].decode("utf-8", "replace")
    if not readme.strip():
        raise ArchiveRefused("The package has no README.md at its top; buyers start from it.")
    if total > RATIO_FLOOR and total > len(body) * MAX_RATIO:
        raise ArchiveRefused(f"The package unpacks to more than {MAX_RATIO} times its size.")
    digest = hashlib.sha256(body).hexdigest()
    return Package(tuple(files), total, digest, readme, tuple(findings))


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, room: int) -> bytes:
    """A file's real content, given up as soon as it is larger than allowed, whatever its header says."""
    limit = min(MAX_FILE, room)
    parts: list[bytes] = []
    size = 0
    try:
        with archive.open(entry) as stream:
            while chunk := stream.read(65_536):
                size += len(chunk)
                if size > limit:
                    raise ArchiveRefused(f"{entry.filename!r} makes the package larger than {MAX_UNPACKED} bytes.")
                if size > RATIO_FLOOR and size > max(entry.compress_size, 1) * MAX_RATIO:
                    raise ArchiveRefused(f"{entry.filename!r} unpacks to more than {MAX_RATIO} times its size.")
                parts.append(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveRefused(f"{entry.filename!r} is damaged: pack it again.") from error
    return b"".join(parts)
