"""Fixtures for every test. The conformance suite's assertions explain themselves as if they stood in a test file."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("agentcache_core.testing")
