"""Workers that run stages on clips, each clip's video decoded once for all stages of a worker.

A worker asks the ledger first and never does a thing twice. What goes wrong with one clip is written into
its row; only a full disk or a broken store ends the run.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.stage import BatchStage, Clip, ClipStage, StageOutput
from dataset.clip import ClipRecord, from_row
from dataset.store import StoreError
from pipelines.board import BoardClient
from pipelines.head_start import Ahead
from pipelines.ledger import Entry, Ledger, StagedFile, StagingDamaged
from pipelines.plan import Step
from pipelines.rows import ClipRow
from pipelines.workers import POISON, Limits, describe, limit_threads, raise_if_full

_RECORD_FIELDS = frozenset(item.name for item in dataclasses.fields(ClipRecord))


@dataclass
class Work:
    """A clip in the hands of a worker."""

    row: ClipRow
    files: StagedFiles
    frames: LazyFrames

    @property
    def goes_on(self) -> bool:
        return self.row.failure is None and self.row.lost is None


class ClipWorker:
    """Runs neighbouring stages on some clips at a time, stage by stage."""

    def __init__(self, steps: Sequence[Step], ledger: Ledger, board: BoardClient, limits: Limits,
                 threads: int, is_last: bool, ahead: Ahead | None = None) -> None:
        self._steps = list(steps)
        self._ledger = ledger
        self._board = board
        self._limits = limits
        self._ahead = ahead  # a clip that is being done elsewhere
        self._is_last = is_last  # no stage comes after: a clip that leaves here makes room for another
        limit_threads(threads)
        for step in self._steps:
            step.stage.setup()

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Columns of ClipRows; the same ones with what the stages found."""
        rows = [ClipRow.from_row(dict(zip(batch, values))) for values in zip(*batch.values())]
        if self._ahead is not None and self._ahead.clip in [row.clip for row in rows]:
            self._ahead.wait()
            self._ahead = None
        stages = [step.stage for step in self._steps]
        works = []
        for row in rows:
            if row.ended is None and row.files and row.failure is None and row.lost is None:
                files = StagedFiles(self._ledger, row.files)
                works.append(Work(row, files, LazyFrames(files, stages)))
        for step in self._steps:
            self._step(step, [work for work in works if work.goes_on])
        for work in works:
            if work.goes_on:
                work.row.files = work.files.staged
        if self._is_last:
            self._board.release([row.clip for row in rows])
        out = [row.to_row() for row in rows]
        return {name: [row[name] for row in out] for name in out[0]}

    def _step(self, step: Step, works: Sequence[Work]) -> None:
        """One stage on all clips: those it knows from before, then the others."""
        new = []
        for work in works:
            try:
                entry = self._ledger.find(work.row.video, work.row.clip, step.stage.name, step.key)
            except StagingDamaged as error:
                work.row.lost = str(error)
                continue
            if entry is None:
                new.append(work)
            else:
                _take(step, work, entry)
        single: Sequence[Work] = new
        if len(new) > 1 and not any(self._board.begun(_name(step, work)) for work in new):
            single = self._together(step, new)
        for work in single:
            self._alone(step, work)

    def _together(self, step: Step, works: Sequence[Work]) -> Sequence[Work]:
        """Clips of which none is suspected of killing its worker; returns those to be asked one by one.

        Whatever goes wrong is the fault of one of them, and is found out alone.
        """
        for work in works:
            self._board.begin(_name(step, work))
        started = time.perf_counter()
        failed: Sequence[Work] = []
        try:
            outputs = _ask(step.stage, works)
        except StoreError:
            raise
        except Exception as error:
            raise_if_full(error)
            failed = works
        else:
            seconds = (time.perf_counter() - started) / len(works)
            for work, output in zip(works, outputs, strict=True):
                self._keep(step, work, output, seconds)
        for work in works:
            self._board.end(_name(step, work))
        return failed

    def _alone(self, step: Step, work: Work) -> None:
        stage, row = step.stage, work.row
        place = (row.video, row.clip, stage.name, step.key)
        name = _name(step, work)
        if self._board.begin(name) > self._limits.attempts:
            self._board.end(name)
            sentence = f"{stage.name}: killed its worker {self._limits.attempts} times"
            _take(step, work, self._ledger.put_failure(*place, POISON, sentence, 0.0))
            return
        started = time.perf_counter()
        try:
            [output] = _ask(stage, [work])
        except StagingDamaged as error:
            row.lost = str(error)
        except StoreError:  # no property of the clip: the run ends, and another one tries again
            raise
        except Exception as error:
            raise_if_full(error)
            seconds = time.perf_counter() - started
            sentence = describe(stage.name, error)
            _take(step, work, self._ledger.put_failure(*place, f"{stage.name}_error", sentence, seconds))
        else:
            self._keep(step, work, output, time.perf_counter() - started)
        self._board.end(name)

    def _keep(self, step: Step, work: Work, output: StageOutput, seconds: float) -> None:
        row = work.row
        entry = self._ledger.put(row.video, row.clip, step.stage.name, step.key, output.fields, output.files,
                                 seconds)
        work.files.fresh.update(output.files)
        _take(step, work, entry)


def _ask(stage: ClipStage, works: Sequence[Work]) -> list[StageOutput]:
    """A stage's answers, with fields as JSON knows them."""
    clips = [Clip(from_row(work.row.fields), work.files, work.frames) for work in works]
    if isinstance(stage, BatchStage) and stage.resources.batch_size > 1:
        outputs = list(stage.process_batch(clips))
        if len(outputs) != len(clips):
            raise RuntimeError(f"stage {stage.name} gave {len(outputs)} answers for {len(clips)} clips")
    else:
        outputs = [stage.process(clip) for clip in clips]
    return [StageOutput(_plain_fields(stage, output.fields), output.files) for output in outputs]


def _name(step: Step, work: Work) -> str:
    return f"{step.stage.name} {work.row.clip}"


def _take(step: Step, work: Work, entry: Entry) -> None:
    """What a stage found, into the clip's row."""
    row = work.row
    row.seconds[step.stage.name] = entry.seconds
    if entry.failure is not None:
        row.failure, row.reason = entry.failure, entry.reason
        return
    row.fields.update(entry.fields)
    work.files.staged.update(entry.files)


class StagedFiles(Mapping[str, bytes]):
    """A clip's files by name, read when asked for; `fresh` are those just made by this worker."""

    def __init__(self, ledger: Ledger, staged: Mapping[str, StagedFile]) -> None:
        self._ledger = ledger
        self.staged = dict(staged)
        self.fresh: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self.fresh:
            self.fresh[name] = self._ledger.read_file(self.staged[name])
        return self.fresh[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.staged, **self.fresh})

    def __len__(self) -> int:
        return len({**self.staged, **self.fresh})


class LazyFrames:
    """The frames of a clip, opened when a stage first looks at them, and kept for all that look."""

    def __init__(self, files: Mapping[str, bytes], stages: Sequence[ClipStage]) -> None:
        self._files = files
        self._stages = stages
        self._video: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)

    def __len__(self) -> int:
        return len(self._opened())

    def _opened(self) -> Any:
        if self._video is None:
            from annotate.clip_video import ClipVideo

            video = ClipVideo(self._files["mp4"])
            for stage in self._stages:
                video.keep(stage.gray_widths(video.size))
            self._video = video
        return self._video


def _plain_fields(stage: ClipStage, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON knows them; refuses names that are no columns and scores that are no numbers."""
    plain = {}
    for name, value in fields.items():
        if name not in _RECORD_FIELDS:
            raise ValueError(f"stage {stage.name} set {name!r}, which is no column of the index")
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"stage {stage.name} set {name} to {value}; what cannot be measured is None")
        plain[name] = value
    return plain
