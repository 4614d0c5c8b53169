"""The first clip is cut and annotated while Ray starts, which takes as long and leaves time for it.

What it gives lies in the ledger as if a worker had died after it. Nothing depends on it: it may fail or be
ended at any moment, and cutting and annotating then start where they would have.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.weights import Learned
from dataset.scratch import Scratch
from pipelines.ledger import Ledger
from pipelines.plan import Step
from pipelines.rows import VideoRow

_PATIENCE_S = 8.0
"""How much longer than Ray's start the cutting of the first clip may take."""


@dataclass(frozen=True)
class Ahead:
    """The clip that a head start has in hand; whoever is given it waits, and finds it annotated."""

    clip: str
    busy: str  # a file, locked for as long

    def wait(self) -> None:
        """Return once it is let go of, or the process that had it is gone."""
        with contextlib.suppress(FileNotFoundError), open(self.busy) as file:
            fcntl.flock(file, fcntl.LOCK_SH)


@dataclass
class HeadStart:
    """The process, and what it tells: `cut` is the end of a pipe that closes when the first clip is cut."""

    child: subprocess.Popen[bytes]
    cut: int
    busy: Path
    ledger: Ledger
    video: str

    def join(self) -> Ahead | None:
        """Return once the first clip is cut, with that clip; at the latest after some seconds, when the
        process is ended: two may not cut one video."""
        if not select.select([self.cut], [], [], _PATIENCE_S)[0]:
            self.child.kill()
            self.child.wait()
        clips = [entry.fields["clip_id"] for entry in self.ledger.rows(self.video) if entry.files]
        return Ahead(clips[0], str(self.busy)) if clips else None


@contextlib.contextmanager
def head_start(
    cutter: Any, steps: Sequence[Step], ledger: Ledger, videos: Sequence[VideoRow],
) -> Iterator[HeadStart | None]:
    """A process that does the first clip of the first video, and ends with the block at the latest.

    None where that would not help: what is fetched or rendered first would be so twice.
    """
    first = videos[0]
    path = Path(first.item["uri"])
    is_made = any(first.item.get(key) is not None for key in ("splat", "pictures"))
    if is_made or not path.is_absolute() or not path.is_file() or ledger.rows(first.video):
        yield None
        return
    with Scratch("ahead") as folder:
        busy = folder / "busy"
        held = os.open(busy, os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)  # the child's from here on: it shares the open file
        cut, told = os.pipe()
        child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.head_start_child", str(os.getpid()), str(told)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, pass_fds=(held, told))
        os.close(held)
        os.close(told)
        try:
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError, pickle.PicklingError, AttributeError, TypeError):
                child.stdin.write(pickle.dumps((cutter, _embedded(steps), ledger, first)))
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            yield HeadStart(child, cut, busy, ledger, first.video)
        finally:
            child.kill()
            child.wait()
            os.close(cut)


def _embedded(steps: Sequence[Step]) -> list[Step]:
    """The first stages, up to one that needs a GPU or weights: what is loaded here would be loaded twice."""
    found = []
    for step in steps:
        stage = step.stage
        if stage.resources.num_gpus or (isinstance(stage, Learned) and stage.needs()):
            break
        found.append(step)
    return found
