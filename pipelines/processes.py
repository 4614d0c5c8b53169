"""Processes that this one has started, and their end.

A worker of Ray's that is told to go while it still starts can wait for ever on a lock of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Process:
    """A process and when it started, since numbers are used again."""

    pid: int
    started: str  # clock ticks since the machine's start

    @property
    def is_alive(self) -> bool:
        found = _stat(self.pid)
        return found is not None and found[1] == self.started


def descendants() -> list[Process]:
    """All processes below this one; none where the system has no /proc."""
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        found = _stat(int(entry.name))
        if found is not None:
            parents[int(entry.name)], started[int(entry.name)] = found
    below, ahead = [], [os.getpid()]
    while ahead:
        parent = ahead.pop()
        children = [pid for pid, its in parents.items() if its == parent]
        below += children
        ahead += children
    return [Process(pid, started[pid]) for pid in below]


def end(processes: Collection[Process], patience_s: float = _PATIENCE_S) -> None:
    """Return once none of them is alive; those that do not end by themselves in time are killed."""
    deadline = time.monotonic() + patience_s
    while any(process.is_alive for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        if process.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _stat(pid: int) -> tuple[int, str] | None:
    """Parent and start of a process; None where there is none, or where it is only waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])
