"""The first clip, cut by a process of its own while Ray starts."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tiny

from annotate.cut.cutter import CutConfig, Cutter
from annotate.source.item import SourceItem
from annotate.splats.config import SplatConfig, SplatVideo
from dataset.store import Store
from pipelines.board import Board
from pipelines.head_start import cut_first, head_start, join
from pipelines.ledger import Ledger
from pipelines.processes import descendants
from pipelines.rows import ClipRow, VideoRow
from pipelines.workers import CutWorker, Limits

FRAMES = 9


class Alone(Board):
    """The board of a worker that has it to itself."""

    def wait_for_turn(self, video: str) -> None: ...

    def wait_for_room(self, limit: int) -> None: ...


def cutter() -> Cutter:
    return Cutter(CutConfig(frames=FRAMES, width=128, height=96))


def video(folder: Path) -> VideoRow:
    path = tiny.write_video(folder / "a.mp4", 3 * FRAMES, seed=1)
    return VideoRow("v", asdict(SourceItem(str(path), id="a")), [])


def cut_all(ledger: Ledger, source: VideoRow) -> list[dict[str, Any]]:
    """What a worker yields, without what it cost."""
    board: Any = Alone()
    rows = [ClipRow.from_row(row)
            for row in CutWorker(cutter(), ledger, board, Limits(3, 9))(source.to_row())]
    return [asdict(row) | {"seconds": None} for row in rows]


def test_cutting_goes_on_behind_the_first_clip(tmp_path: Path) -> None:
    source = video(tmp_path)
    plain, ahead = Ledger(Store(tmp_path / "plain")), Ledger(Store(tmp_path / "ahead"))
    with head_start(cutter(), ahead, [source]) as child:
        assert child is not None and child.wait(60) == 0
        join(child)
    [entry] = ahead.rows("v")
    assert "mp4" in entry.files and ahead.has_files(entry)
    assert cut_all(ahead, source) == cut_all(plain, source)
    assert len(ahead.rows("v")) >= 3


def test_its_end_loses_nothing(tmp_path: Path) -> None:
    source, ledger = video(tmp_path), Ledger(Store(tmp_path / "work"))
    with head_start(cutter(), ledger, [source]) as child:
        assert child is not None
    assert child.poll() is not None
    assert cut_all(ledger, source) == cut_all(Ledger(Store(tmp_path / "plain")), source)


def test_there_is_none_where_it_would_be_work_done_twice(tmp_path: Path) -> None:
    source, ledger = video(tmp_path), Ledger(Store(tmp_path / "work"))
    (tmp_path / "scene.ply").write_bytes(b"ply")
    scene = SplatVideo(0, None, SplatConfig())
    for item in (SourceItem("synthetic://room-walk?seed=1", id="r"),
                 SourceItem(str(tmp_path / "scene.ply"), id="s", splat=scene)):
        with head_start(cutter(), ledger, [VideoRow("r", asdict(item), [])]) as child:
            assert child is None
    cut_first(cutter(), ledger, source)
    with head_start(cutter(), ledger, [source]) as child:
        assert child is None
    join(None)


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Else it would cut on while the next run cuts the same video."""
    (tmp_path / "a.mp4").write_bytes(b"")
    code = """
import sys, time
from functools import partial
from types import SimpleNamespace
from dataset.store import Store
from pipelines.head_start import head_start
from pipelines.ledger import Ledger
from pipelines.rows import VideoRow
folder = sys.argv[1]
slow = SimpleNamespace(setup=partial(time.sleep, 600))
with head_start(slow, Ledger(Store(folder)), [VideoRow("v", {"uri": folder + "/a.mp4"}, [])]) as child:
    print(child.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        [child] = [process for process in descendants() if process.pid == pid]
        time.sleep(1.0)  # it now waits in its cutter, or is still on its way there
        parent.kill()
    deadline = time.monotonic() + 120
    while child.is_alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not child.is_alive
