"""What tests of backends share: opening one by its URL, of either kind, to be used from blocking code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from agentcache_core.backend import AsyncBackend
from agentcache_core.testing import driven
from agentcache_core.urls import open_backend


@pytest.fixture(params=["blocking", "async"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Opens the backend that a URL names, once for each face; all are closed at the end."""
    opened: list[Any] = []

    def opens(url: str) -> Any:
        backend = open_backend(url, face=request.param)
        opened.append(driven(cast("AsyncBackend", backend)) if request.param == "async" else backend)
        return opened[-1]

    yield opens
    for backend in opened:
        backend.close()
        if request.param == "async":
            backend.stop()
