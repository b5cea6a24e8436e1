"""Fixtures of the adapters' tests: the local provider, and the folder on the path so that tests can import it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# LiteLLM would fetch its price list from the network at import.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
sys.path.insert(0, str(Path(__file__).parent))

from upstream import Upstream, serve


def pytest_configure(config: pytest.Config) -> None:
    """LangChain's suites use the mark of a plugin that is switched off here."""
    config.addinivalue_line("markers", "benchmark: of LangChain's standard suites")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A fresh local model provider."""
    with serve() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis", "tiers"])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> str | list[str]:
    """The URLs of an empty cache on every kind of storage; what needs a server starts a real one."""
    sqlite = f"sqlite:///{tmp_path}/cache.db"
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return {"memory": "memory://", "sqlite": sqlite, "tiers": ["memory://", sqlite]}[request.param]
