"""Real servers made to fail: the agent's calls never do, and the store is used again without a restart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.redis
@pytest.mark.s3
def test_no_call_of_the_agent_fails_whatever_redis_and_s3_do() -> None:
    command = [sys.executable, "-m", "benchmarks", "load", "faults", "--small", "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["reports"]["faults"]
    assert len(report["rows"]) == 2 * (11 + 5)  # each of Redis's and S3's faults, on both faces
    assert report["extra"] == {"failed calls": 0, "not recovered": []}
