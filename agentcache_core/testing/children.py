"""A forked child process inside a test: its failure becomes the test's failure."""

from __future__ import annotations

import os
import select
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_child(work: Callable[[], None], *, seconds: float = 60.0) -> Iterator[int]:
    """Run `work` in a forked child while the block runs here. An `AssertionError` carries the child's traceback."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads; here it is the point
        child = os.fork()
    if child == 0:
        _work_and_exit(work, writing)
    os.close(writing)
    try:
        yield child
        trouble = _wait(reading, child, seconds)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    if trouble:
        raise AssertionError(f"in the child process:\n{trouble}")


def _work_and_exit(work: Callable[[], None], writing: int) -> None:
    try:
        work()
        os.write(writing, b".")
    except BaseException:  # noqa: BLE001 - whatever happens in the child is told to the parent
        os.write(writing, traceback.format_exc()[-60_000:].encode())
    finally:
        os._exit(0)


def _wait(reading: int, child: int, seconds: float) -> str:
    said = b""
    while select.select([reading], [], [], seconds)[0]:
        chunk = os.read(reading, 65_536)
        if not chunk:
            return "" if said == b"." else said.decode() or "it died without a word"
        said += chunk
    os.kill(child, signal.SIGKILL)
    return f"it did not finish within {seconds} seconds"
