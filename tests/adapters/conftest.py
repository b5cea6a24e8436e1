"""Fixtures of the adapters' tests: the local provider, and the folder on the path so that tests can import it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from upstream import Upstream, serve


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A fresh local model provider."""
    with serve() as running:
        yield running
