"""Two releases of a source archive to find equal content in: real ones where they can be had, made-up ones else."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

CACHE = Path(".cache/bench")
PACKAGE, OLD, NEW = "sympy", "1.13.1", "1.13.3"


def releases(*, small: bool) -> tuple[str, bytes, bytes, str]:
    """What they are, both as uncompressed tar files, and why they are not the real ones ("" when they are)."""
    if small:
        old, new = edited_library(most=40)
        return "parts of the standard library, before and after made-up edits", old, new, "--small"
    try:
        return f"{PACKAGE} {OLD} and {NEW}", wheel_as_tar(OLD), wheel_as_tar(NEW), ""
    except (OSError, subprocess.SubprocessError) as problem:
        old, new = edited_library(most=2000)
        return "the standard library, before and after made-up edits", old, new, f"{PACKAGE} cannot be had: {problem}"


def wheel_as_tar(version: str) -> bytes:
    """The files of a wheel from the package index, as a tar file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not list(CACHE.glob(f"{PACKAGE}-{version}-*.whl")):
        pip = [sys.executable, "-m", "pip"] if _has_pip() else [shutil.which("pip") or "pip"]
        wanted = ["--no-deps", "--only-binary", ":all:", f"{PACKAGE}=={version}", "-d", str(CACHE)]
        subprocess.run([*pip, "download", "-q", *wanted], check=True, capture_output=True, timeout=120)
    (wheel,) = CACHE.glob(f"{PACKAGE}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as files:
        return tar_of({name: files.read(name) for name in sorted(files.namelist()) if not name.endswith("/")})


def _has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def edited_library(*, most: int) -> tuple[bytes, bytes]:
    """Python's own library as a tar file, and again with a line changed in every twentieth file and a file added."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.glob("*.py"))[:most]
    paths += sorted(path for path in root.glob("[a-z]*/*.py") if "site-packages" not in path.parts)[: most - len(paths)]
    old = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    new = dict(old)
    for name in list(old)[::20]:
        new[name] = old[name].replace(b"return", b"return  # edited\n", 1)
    new["a_new_file.py"] = b"print('new')\n" * 50
    return tar_of(old), tar_of(dict(sorted(new.items())))


def tar_of(files: dict[str, bytes]) -> bytes:
    """Files as an uncompressed tar file, the same bytes whenever it is made."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def members(content: bytes) -> list[bytes]:
    """The files in a tar file."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [file.read() for entry in tar if entry.isfile() and (file := tar.extractfile(entry)) is not None]
