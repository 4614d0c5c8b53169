"""The process of a head start: reads what to do from stdin and leaves what it finds in the ledger.

    python -m pipelines.head_start_child PARENT_PID PIPE < pickled (cutter, steps, ledger, video)
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from dataset.clip import to_row
from pipelines.ledger import Ledger
from pipelines.plan import CUT, Step
from pipelines.rows import ClipRow, VideoRow
from pipelines.workers import Limits

_LOOK_S = 0.2


class _NoBoard:
    """Nobody counts deaths here: a clip that ends this process is given to workers, who do."""

    def begin(self, work: str) -> int:
        return 1

    def begun(self, work: str) -> int:
        return 0

    def end(self, work: str) -> None: ...

    def release(self, clips: list[str]) -> None: ...


def cut_first(cutter: Any, ledger: Ledger, video: VideoRow) -> ClipRow | None:
    """Stage the rows of a video up to its first clip, which is returned; None if it has none."""
    from annotate.source.item import SourceItem

    cutter.setup()
    started = time.perf_counter()
    for index, clip in enumerate(cutter.cut(SourceItem(**video.item), set(video.committed))):
        seconds = time.perf_counter() - started
        entry = ledger.add_row(video.video, index, to_row(clip.record), clip.files, seconds)
        if clip.files:
            return ClipRow(video.video, clip.record.clip_id, entry.fields, entry.files, {CUT: seconds})
    return None


def annotate(clip: ClipRow, steps: Sequence[Step], ledger: Ledger) -> None:
    """What a worker would do with it."""
    from pipelines.clip_worker import ClipWorker

    board: Any = _NoBoard()
    worker = ClipWorker(steps, ledger, board, Limits(1, 1), threads=1, is_last=False)
    worker({name: [value] for name, value in clip.to_row().items()})


def _end_with(parent: int) -> None:
    """End this process once its parent is gone, however that went: the next run may cut the same video."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def main(parent: int, told: int) -> None:
    """Do as the parent says; `told` is closed once there is a clip."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cutter, steps, ledger, video = pickle.load(sys.stdin.buffer)
    clip = cut_first(cutter, ledger, video)
    os.close(told)
    if clip is not None and steps:
        annotate(clip, steps, ledger)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
