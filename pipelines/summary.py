"""What a run leaves behind besides clips: its record in `runs/`, the report, and the closing words."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from annotate.config import AnnotateConfig
from dataset.catalog import read_index
from dataset.funnel import COLUMNS, duration, funnel, render_text
from dataset.pose_error import PoseError, pose_errors
from dataset.report import write_report
from dataset.store import Store
from pipelines.job import score_bounds
from pipelines.record import new_run_id, write_record
from pipelines.runner import Job, Outcome

REPORT = "report.html"


def note_start(config: AnnotateConfig, job: Job, outcome: Outcome) -> None:
    """Say what is about to happen, and put the record of the run into the data set."""
    before = outcome.videos - outcome.begun
    done = f", {before:,} finished before" if before else ""
    print(f"annotating {outcome.begun:,} of {outcome.videos:,} videos{done} -> {job.out}", file=sys.stderr)
    outcome.run_id = new_run_id()
    _write_record(config, job, outcome, "begun")


def finish(config: AnnotateConfig, job: Job, outcome: Outcome) -> int:
    """Report, funnel and errors of what is in the data set now. Returns the exit code."""
    store = Store(job.out)
    changed = bool(outcome.new_rows or outcome.rejudged)
    if outcome.run_id:
        _write_record(config, job, outcome, "finished" if not outcome.lost else "incomplete")
    if not outcome.begun:
        print(f"{outcome.videos:,} videos, all finished before: nothing to annotate")
    if outcome.rejudged is not None:
        print(f"thresholds are new: {outcome.rejudged:,} verdicts changed, nothing was computed again")
    print(render_text(funnel(read_index(store, COLUMNS))))
    errors = pose_errors(store)
    if errors:
        print(describe_errors(errors.values()))
    if config.write.report and (changed or not store.exists(REPORT)):
        write_report(store, bounds=score_bounds(config), errors=errors, wall_seconds=outcome.seconds)
    print(f"data set: {job.out}")
    if store.exists(REPORT):
        print(f"report:   {store.name(REPORT)}")
    first = f", first clip after {duration(outcome.first_clip_s)}" if outcome.first_clip_s else ""
    print(f"took {duration(outcome.seconds)}{first}")
    if outcome.lost:
        print(f"{len(outcome.lost):,} clips must be made again, because staged files were damaged: "
              f"{next(iter(outcome.lost.values()))}. Run the same command again", file=sys.stderr)
        return 1
    return 0


def describe_errors(errors: Iterable[PoseError]) -> str:
    """True errors of cameras in a line; for rendered video, whose cameras are known."""
    every = list(errors)

    def middle(name: str, unit: str, factor: float = 1.0) -> str:
        known = [getattr(error, name) for error in every if getattr(error, name) is not None]
        if not known:
            return "unknown"
        values = np.abs(known) * factor
        return f"median {np.median(values):.3g} {unit}, worst {np.max(values):.3g} {unit}"

    metric = sum(error.scale is not None for error in every)
    scale = f"; scale of {metric} in metres {middle('scale', '%', 100)}" if metric else ""
    return (f"true pose error of {len(every)} clips: path {middle('ate_share', '%', 100)}; "
            f"turn between frames {middle('rotation_step_deg', 'deg')}; "
            f"focal {middle('focal', '%', 100)}{scale}")


def _write_record(config: AnnotateConfig, job: Job, outcome: Outcome, state: str) -> None:
    assert outcome.run_id is not None
    stages = {stage.name: stage.version for stage in [job.cutter, *job.stages]}
    write_record(Store(job.out), outcome.run_id, state, config, outcome, stages)
