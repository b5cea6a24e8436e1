"""obstore's threads do not survive a fork: a child of a process that used it asks through s3fs, in every order."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.s3

SCRIPT = """
import os, sys
from agentcache_core.testing.children import in_child
from agentcache_core.urls import open_backend

url = sys.argv[1]

def clients_work(backend, expected, seconds=20):
    assert backend.connection.client == expected, backend.connection.client
    assert backend.put(b"a/%d" % os.getpid(), b"here") is not None
    assert backend.get(b"a/%d" % os.getpid()).data == b"here"
    assert [found.data for found in backend.get_many([b"a/%d" % os.getpid()] * 5)] == [b"here"] * 5
"""


def _run(body: str, s3_url: str) -> None:
    """A program of its own, since this process has long used obstore. Its silence is part of the proof."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + body, s3_url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_of_a_process_that_used_obstore_asks_through_s3fs(s3_url: str) -> None:
    _run(
        """
backend = open_backend(url)
clients_work(backend, "obstore")

def child():
    clients_work(backend, "s3fs")
    clients_work(open_backend(url + "&client=obstore"), "s3fs")
    with in_child(lambda: clients_work(backend, "s3fs")):
        clients_work(backend, "s3fs")

with in_child(child):
    clients_work(backend, "obstore")
clients_work(backend, "obstore")
""",
        s3_url,
    )


def test_a_child_of_a_process_that_only_opened_a_store_uses_obstore(s3_url: str) -> None:
    _run(
        """
backend = open_backend(url)

def child():
    clients_work(backend, "obstore")
    with in_child(lambda: clients_work(backend, "s3fs")):
        clients_work(backend, "obstore")

with in_child(child):
    clients_work(backend, "obstore")
""",
        s3_url,
    )


def test_what_others_did_with_obstore_before_a_fork_counts(s3_url: str) -> None:
    """The parent never opens a store of ours; the child loads our module for the first time."""
    _run(
        """
from obstore.store import MemoryStore
MemoryStore().put("somebody", b"else")
assert not any(name.startswith("agentcache_backends.filesystem.s3") for name in sys.modules)
with in_child(lambda: clients_work(open_backend(url), "s3fs")):
    pass
clients_work(open_backend(url), "obstore")
""",
        s3_url,
    )


def test_an_obstore_that_nobody_used_before_a_fork_works_behind_it(s3_url: str) -> None:
    _run(
        """
backend = open_backend(url)
import obstore
with in_child(lambda: clients_work(backend, "obstore")):
    pass
""",
        s3_url,
    )
