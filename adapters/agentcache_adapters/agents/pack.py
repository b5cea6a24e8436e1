"""Packing an agent: a folder becomes a reproducible ZIP archive that the marketplace accepts."""

from __future__ import annotations

import fnmatch
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = (
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "node_modules",
    ".DS_Store",
    "*.pyc",
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "dist",
    "build",
    "*.db",
    "*.sqlite",
)
KEPT = (".env.example",)
MAX_BYTES = 50 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackError(ValueError):
    """The folder cannot be packed; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive just written."""

    path: Path
    files: tuple[str, ...]
    size: int
    sha256: str


def pack(folder: Path, target: Path | None = None) -> Packed:
    """Write `<folder>.zip` (or `target`) with every plain file of a folder except what never belongs into a package.

    The same files give the same bytes. Raises `PackError` for links, for a missing README.md and beyond 50 MiB.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise PackError(f"{folder} is not a folder")
    if not (folder / "README.md").is_file():
        raise PackError(f"{folder} has no README.md: buyers start from it")
    target = target or folder.with_name(f"{folder.name}.zip")
    chosen = [path for path in _files(folder) if path.resolve() != target.resolve()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in chosen:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            archive.writestr(entry, path.read_bytes())
    body = target.read_bytes()
    if len(body) > MAX_BYTES:
        target.unlink()
        raise PackError(f"the package would have {len(body)} bytes; at most {MAX_BYTES} are allowed")
    names = tuple(path.relative_to(folder).as_posix() for path in chosen)
    return Packed(target, names, len(body), hashlib.sha256(body).hexdigest())


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _left_out(path.name):
            continue
        if path.is_symlink():
            raise PackError(f"{path} is a link; packages hold plain files only")
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _left_out(name: str) -> bool:
    return name not in KEPT and any(fnmatch.fnmatch(name, pattern) for pattern in LEFT_OUT)
