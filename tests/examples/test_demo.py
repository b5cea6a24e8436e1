"""The demonstration runs, and shows what it says: nothing is paid for twice, and the answers do not change."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_demonstration_pays_for_nothing_twice_and_answers_alike(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "demo.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^(cold|warm|reopened from disk) +([\d. ]+)$", done.stdout, re.MULTILINE))
    asked, paid, tools_asked, tools_run, _, dollars = rows["cold"].split()
    assert int(paid) < int(asked)
    assert int(tools_run) < int(tools_asked)
    assert float(dollars) > 0
    for again in ("warm", "reopened from disk"):
        asked, paid, _, tools_run, _, dollars = rows[again].split()
        assert (int(asked), int(paid), float(dollars)) == (17, 0, 0.0)
        assert int(tools_run) == 3  # the three writes
    assert "identical" in done.stdout
    assert list(tmp_path.iterdir()) == []
