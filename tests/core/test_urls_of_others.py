"""A backend of someone else's is found by its entry point, and only when its scheme is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODULE = """
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend
from agentcache_core.urls import Options

def open_url(url, *, face):
    options = Options(url)
    length = options.integer("log_length", 10, least=1)
    options.finish()
    backend = DictBackend(log_length=length)
    return in_threads(backend) if face == "async" else backend
"""

PROGRAM = """
import sys
from agentcache_core import Cache
from agentcache_core.errors import ConfigurationError
from agentcache_core.urls import installed_schemes, open_backend
assert "theirs" in installed_schemes()
assert "their_store" not in sys.modules
backend = open_backend("theirs://anywhere?log_length=3")
assert type(backend).__name__ == "DictBackend"
for wrong in ("theirs://anywhere?size=3", "their://anywhere"):
    try:
        open_backend(wrong)
    except ConfigurationError as error:
        assert "theirs" in str(error), error
    else:
        raise SystemExit(f"{wrong} was accepted")
with Cache("theirs://anywhere") as cache:
    cache.set("k", 1)
    assert cache.get("k") == 1
print("found")
"""


def test_an_entry_point_adds_a_scheme(tmp_path: Path) -> None:
    (tmp_path / "their_store.py").write_text(MODULE)
    info = tmp_path / "their_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agentcache.backends]\ntheirs = their_store\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "found\n", done.stderr
