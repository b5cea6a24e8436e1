"""Whether obstore works in this process: its threads (a Tokio runtime) do not survive a fork.

In a child of a process that used obstore every call waits for ever, for threads that are not there; nothing raises. So
it is seen before a fork whether such threads run, whoever started them, and a child that lost them is told.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_TASKS: Final = "/proc/self/task"
_FORKED_WITHOUT_EXEC: Final = 0x40  # PF_FORKNOEXEC in the kernel's include/linux/sched.h


def alive() -> bool:
    """Whether obstore can be used here: its threads run, or can be started."""
    return not _state.lost


def used() -> None:
    """Tell that obstore's threads are being started in this process."""
    _state.running = True


class _State:
    """What is known of the threads in this process."""

    def __init__(self) -> None:
        self.running = False
        # Somebody else may have used obstore, and forked, before this module was loaded.
        self.lost = "obstore" in sys.modules and not threads_run() and forked_without_exec()

    def before_fork(self) -> None:
        self.running = self.running or threads_run()

    def after_fork(self) -> None:
        self.lost, self.running = self.lost or self.running, False


def threads_run() -> bool:
    """Whether threads of a Tokio runtime run in this process. Where the system does not tell: whether obstore was
    imported, which errs on the safe side."""
    try:
        tasks = os.listdir(_TASKS)
    except OSError:
        return "obstore" in sys.modules
    return any(_name_of(task).startswith("tokio") for task in tasks)


def _name_of(task: str) -> str:
    try:
        with open(f"{_TASKS}/{task}/comm") as comm:
            return comm.read()
    except OSError:
        return ""  # it ended meanwhile


def forked_without_exec() -> bool:
    """Whether this process is a fork that has run no program of its own since. True where the system does not tell."""
    try:
        flags = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[6]
    except OSError:
        return True
    return bool(int(flags) & _FORKED_WITHOUT_EXEC)


_state = _State()
os.register_at_fork(before=_state.before_fork, after_in_child=_state.after_fork)
