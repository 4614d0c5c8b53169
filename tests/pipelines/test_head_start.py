"""The first clip, cut and annotated by a process of its own while Ray starts."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import tiny

from annotate.cut.cutter import CutConfig, Cutter
from annotate.duplicates.stage import HashStage
from annotate.source.item import SourceItem
from annotate.splats.config import SplatConfig, SplatVideo
from annotate.stage import Resources
from dataset.store import Store
from pipelines.board import Board
from pipelines.clip_worker import ClipWorker
from pipelines.head_start import Ahead, head_start
from pipelines.head_start_child import cut_first
from pipelines.ledger import Ledger
from pipelines.plan import Step
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
    with head_start(cutter(), [], ahead, [source]) as start:
        assert start is not None and start.child.wait(60) == 0
        assert start.join() is not None
    [entry] = ahead.rows("v")
    assert "mp4" in entry.files and ahead.has_files(entry)
    assert cut_all(ahead, source) == cut_all(plain, source)
    assert len(ahead.rows("v")) >= 3


def test_its_end_loses_nothing(tmp_path: Path) -> None:
    source, ledger = video(tmp_path), Ledger(Store(tmp_path / "work"))
    with head_start(cutter(), [], ledger, [source]) as start:
        assert start is not None
    assert start.child.poll() is not None
    assert cut_all(ledger, source) == cut_all(Ledger(Store(tmp_path / "plain")), source)


def test_there_is_none_where_it_would_be_work_done_twice(tmp_path: Path) -> None:
    source, ledger = video(tmp_path), Ledger(Store(tmp_path / "work"))
    (tmp_path / "scene.ply").write_bytes(b"ply")
    scene = SplatVideo(0, None, SplatConfig())
    for item in (SourceItem("synthetic://room-walk?seed=1", id="r"),
                 SourceItem(str(tmp_path / "scene.ply"), id="s", splat=scene)):
        with head_start(cutter(), [], ledger, [VideoRow("r", asdict(item), [])]) as start:
            assert start is None
    cut_first(cutter(), ledger, source)
    with head_start(cutter(), [], ledger, [source]) as start:
        assert start is None


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
with head_start(slow, [], Ledger(Store(folder)), [VideoRow("v", {"uri": folder + "/a.mp4"}, [])]) as start:
    print(start.child.pid, flush=True)
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


def test_the_first_clip_is_annotated_up_to_what_needs_a_gpu(tmp_path: Path) -> None:
    source, ledger = video(tmp_path), Ledger(Store(tmp_path / "work"))
    hashing, drawing = Step(HashStage(), "k1"), SimpleNamespace(resources=Resources(num_gpus=0.5))
    steps = [hashing, Step(drawing, "k2"), Step(HashStage(), "k3")]  # type: ignore[arg-type]
    with head_start(cutter(), steps, ledger, [source]) as start:
        assert start is not None
        ahead = start.join()
        assert ahead is not None
        ahead.wait()
        [entry] = ledger.rows("v")
        assert ahead.clip == entry.fields["clip_id"]
        found = ledger.find("v", ahead.clip, hashing.stage.name, "k1")
    assert found is not None and found.fields["video_hash"] and found.failure is None
    assert ledger.find("v", ahead.clip, hashing.stage.name, "k3") is None


def test_a_worker_waits_for_the_clip_that_is_in_hand_and_for_no_other(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    with busy.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits = threading.Thread(target=Ahead("c", str(busy)).wait)
        waits.start()
        worker = ClipWorker([], Ledger(Store(tmp_path / "work")), cast(Any, Alone()), Limits(1, 1), 1, False,
                            Ahead("c", str(busy)))
        other = ClipRow("v", "other").to_row()
        worker({name: [value] for name, value in other.items()})  # does not hang
        assert waits.is_alive()
    waits.join(60)
    assert not waits.is_alive()
    busy.unlink()
    Ahead("c", str(busy)).wait()  # the run is over
