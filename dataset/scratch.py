"""Temporary folders that outlive nobody: what killed processes leave, the next one to need any removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

PREFIX = ".sana-wm-scratch-"
_ALIVE = ".alive"
"""Locked by the process that uses the folder; the kernel lets go of it when that process dies. A folder
without it is not ours, or is just being made, and is left alone."""


class Scratch:
    """A new folder in the machine's place for temporary files, for one `with`, or until `remove`.

    kind: a word for its name. Raises OSError where none can be made.
    """

    def __init__(self, kind: str) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
        made = self.path / f"{_ALIVE}.new"  # renamed once it is locked: nobody finds it free
        self._alive: int | None = os.open(made, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # without locks there, what a killed process leaves will stay
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            made.rename(self.path / _ALIVE)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all in it; nothing if that has been done."""
        if self._alive is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._alive)
            self._alive = None


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        try:
            is_left = _is_free(folder / _ALIVE)
        except OSError:  # none, somebody else's, or gone meanwhile
            continue
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)


def _is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
