"""Several clips at once: the same answers as one by one, and only the guilty clip pays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import tiny

from annotate.source.item import SourceItem
from dataset.clip import to_row
from dataset.store import Store
from pipelines.board import Board
from pipelines.clip_worker import ClipWorker
from pipelines.ledger import Ledger
from pipelines.plan import Step
from pipelines.rows import ClipRow
from pipelines.workers import Limits

CLIPS = 5


class Bench:
    """A worker without Ray around it."""

    def __init__(self, folder: Path, name: str = "video") -> None:
        self.ledger, self.board = Ledger(Store(folder / "work")), Board()
        uri = str(tiny.write_video(folder / f"{name}.mp4", 9 * CLIPS, seed=1))
        cutter = tiny.TinyCutter()
        clips = [clip for clip in cutter.cut(SourceItem(uri, id=name), ()) if clip.files]
        self.entries = [self.ledger.add_row("v", index, to_row(clip.record), clip.files, 0.0)
                        for index, clip in enumerate(clips)]
        self.log = folder / "log"

    def rows(self) -> list[ClipRow]:
        return [ClipRow("v", entry.fields["clip_id"], dict(entry.fields), entry.files)
                for entry in self.entries]

    def work(self, rows: list[ClipRow], stage: Any = None, key: str = "k") -> list[ClipRow]:
        stage = stage or tiny.Together(log=str(self.log))
        board: Any = self.board
        worker = ClipWorker([Step(stage, key)], self.ledger, board, Limits(3, 9), 1, True)
        columns = [row.to_row() for row in rows]
        out = worker({name: [row[name] for row in columns] for name in columns[0]})
        return [ClipRow.from_row(dict(zip(out, values))) for values in zip(*out.values())]

    def log_counts(self) -> Counter[str]:
        return Counter(line.split()[0] + (line.split()[1] if line.startswith("batch") else "")
                       for line in self.log.read_text().splitlines())


def test_answers_of_a_batch_are_those_of_its_clips_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    alone = [bench.work([row], tiny.Brightness(), "alone")[0] for row in bench.rows()]
    together = bench.work(bench.rows())
    assert [row.fields for row in together] == [row.fields for row in alone]
    assert all(set(row.files) == {"mp4", "means.bin"} for row in together)
    assert bench.log_counts() == {"batch5": 1, "brightness": CLIPS}


def test_what_is_known_and_what_failed_before_is_not_in_the_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = bench.rows()
    bench.work(rows[:2])
    rows[4].failure, rows[4].reason = "cut: lost", "cut_error"
    end = ClipRow("v", "", ended=[row.clip for row in rows])
    out = bench.work([*rows, end])
    assert bench.log_counts() == {"batch2": 2, "brightness": 4}
    assert [row.failure for row in out] == [None] * 4 + ["cut: lost", None]
    assert out[5].ended == end.ended


def test_a_clip_that_raises_fails_by_itself(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "awkward")
    out = bench.work(bench.rows())
    assert [row.reason for row in out] == ["brightness_error"] + [None] * 4
    assert "does not add up" in (out[0].failure or "")
    assert all(row.fields["exposure"] for row in out[1:])
    assert bench.board.begun(f"brightness {out[0].clip}") == 0


def test_a_batch_that_killed_its_worker_is_gone_through_one_by_one(tmp_path: Path) -> None:
    """Two deaths are told of one clip: the others are not blamed, and the third makes it poison."""
    bench = Bench(tmp_path)
    rows = bench.rows()
    for row in rows:  # all were in hand when the worker died
        bench.board.begin(f"brightness {row.clip}")
    for _ in range(2):
        bench.board.begin(f"brightness {rows[1].clip}")
    out = bench.work(rows)
    assert [row.reason for row in out] == [None, "poison", None, None, None]
    assert bench.log_counts() == {"batch1": 4, "brightness": 4}


def test_too_few_answers_are_an_error_of_the_stage(tmp_path: Path) -> None:
    class Short(tiny.Together):
        def process_batch(self, clips: Any) -> Any:
            return super().process_batch(clips)[1:]

    out = Bench(tmp_path)
    rows = out.work(out.rows(), Short())
    assert {row.reason for row in rows} == {"brightness_error"}
    assert rows[0].failure == "brightness: RuntimeError: stage brightness gave 0 answers for 1 clips"
