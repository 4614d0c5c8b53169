"""The first clip is cut while Ray starts, which takes as long and leaves a core for it.

What it gives lies in the ledger as if a cutter had died after it. Nothing depends on it: it may fail or be
ended at any moment, and cutting then starts where it would have.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dataset.clip import to_row
from pipelines.ledger import Ledger
from pipelines.rows import VideoRow

_PATIENCE_S = 4.0
"""How much longer than Ray's start the first clip may take."""
_LOOK_S = 0.2


@contextlib.contextmanager
def head_start(
    cutter: Any, ledger: Ledger, videos: Sequence[VideoRow],
) -> Iterator[subprocess.Popen[bytes] | None]:
    """A process that cuts the first clip of the first video, for the time of the block; see `join`.

    None where that would not help: what is fetched or rendered first would be so twice.
    """
    first = videos[0]
    path = Path(first.item["uri"])
    is_made = any(first.item.get(key) is not None for key in ("splat", "pictures"))
    if is_made or not path.is_absolute() or not path.is_file() or ledger.rows(first.video):
        yield None
        return
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.head_start", str(os.getpid())], stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with contextlib.suppress(BrokenPipeError, pickle.PicklingError, AttributeError, TypeError):
            assert child.stdin is not None
            child.stdin.write(pickle.dumps((cutter, ledger, first)))
            child.stdin.close()
        yield child
    finally:
        child.kill()
        child.wait()


def join(child: subprocess.Popen[bytes] | None) -> None:
    """Return once it has ended, at the latest after some seconds: two may not cut one video."""
    if child is None:
        return
    deadline = time.monotonic() + _PATIENCE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait()


def cut_first(cutter: Any, ledger: Ledger, video: VideoRow) -> None:
    """Stage the rows of a video up to its first clip."""
    from annotate.source.item import SourceItem

    cutter.setup()
    started = time.perf_counter()
    for index, clip in enumerate(cutter.cut(SourceItem(**video.item), set(video.committed))):
        seconds = time.perf_counter() - started
        ledger.add_row(video.video, index, to_row(clip.record), clip.files, seconds)
        if clip.files:
            return


def _end_with(parent: int) -> None:
    """End this process once its parent is gone, however that went: the next run may cut the same video."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    cut_first(*pickle.load(sys.stdin.buffer))
