"""Finds axe-core, the accessibility checker: `AGENTCACHE_AXE`, else an npm folder beside the repository's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

VERSION = "4.14.1"


def axe_source() -> str:
    """The checker's JavaScript; fetched once from npm into `.cache/axe` where it is not there yet."""
    given = os.environ.get("AGENTCACHE_AXE")
    if given:
        return Path(given).read_text("utf-8")
    folder = Path(__file__).parents[2] / ".cache" / "axe"
    file = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("the accessibility test needs npm, or AGENTCACHE_AXE=/path/to/axe.min.js")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"axe-core@{VERSION}"],
            check=True,
            capture_output=True,
            timeout=150,
        )
    return file.read_text("utf-8")
