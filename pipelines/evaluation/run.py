"""One run: what is to be made and measured, what is left of it, and the report of all."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.weights import prepare
from dataset.funnel import duration
from dataset.lock import DatasetLock
from dataset.store import Store
from pipelines.cluster import check_shared, connected
from pipelines.evaluation.cases import CASES, Cases, pairings, write_cases
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.generators import Generator, find_generators
from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.report import write_report
from pipelines.evaluation.scenes import Scene, find_scenes
from pipelines.evaluation.schedule import Schedule
from pipelines.evaluation.sheet import SHEET, draw_sheet
from pipelines.evaluation.table import as_text
from pipelines.evaluation.templates import TEMPLATES, Split
from pipelines.evaluation.worker import Job, job_of, read_row
from pipelines.plan import PlanError
from pipelines.progress import StatusLine
from pipelines.record import new_run_id, write_record

METRICS, REPORT = "metrics.parquet", "report.html"


@dataclass
class Outcome:
    """What a run did."""

    videos: int = 0  # asked for: generators times cases
    measured: int = 0  # in this run
    failed: int = 0  # of all: rows without measurements
    unposed: int = 0  # of all: rows whose camera was not found
    left_out: dict[str, str] = field(default_factory=dict)  # cases that cannot be: name -> why


class EvaluateProgress(StatusLine):
    """How many videos are measured."""

    def __init__(self, videos: int) -> None:
        super().__init__()
        self._videos, self._done, self._failed = videos, 0, 0

    def row(self, row: Metrics) -> None:
        """One more is done."""
        with self.lock:
            self._done += 1
            self._failed += row.failure is not None

    def line(self) -> str:
        parts = [f"videos {self._done:,}/{self._videos:,}"]
        if self._failed:
            parts.append(f"failed {self._failed:,}")
        if self._done and self._done < self._videos:
            parts.append(f"ETA {duration(self.elapsed / self._done * (self._videos - self._done))}")
        return "  |  ".join([*parts, duration(self.elapsed)])


def run(config: EvaluateConfig) -> int:
    """Bring `config.out` up to date; returns the exit code, 1 where a video could not be measured.

    Raises PlanError for settings that cannot work, LockHeld, StoreError.
    """
    try:
        generators = find_generators(config)
        scenes = find_scenes(config.scenes, config.rooms)[: config.limit]
        for line in prepare([config.recovery.open()]):
            print(line, file=sys.stderr)
    except ValueError as error:
        raise PlanError(str(error)) from None
    store = Store(config.out)
    with DatasetLock(store):
        made = _cases(config, store, scenes)
        if config.prepare:
            print(f"{len(made.cases):,} cases -> {store.name(CASES)}")
            return 0
        jobs = [job_of(generator, case, made.cases, made.digests[case.name], config)
                for generator in generators for case in made.cases]
        known = {job.name: row for job in jobs if (row := read_row(store, job)) is not None}
        if config.run.retry_failed:
            known = {name: row for name, row in known.items() if row.failure is None}
        outcome = Outcome(len(jobs), left_out=made.left_out)
        _measure(config, store, made, [job for job in jobs if job.name not in known], known, outcome)
        rows = [known[job.name] for job in jobs]
        _finish(config, store, made, generators, rows, outcome)
    return 1 if outcome.failed else 0


def _cases(config: EvaluateConfig, store: Store, scenes: Sequence[Scene]) -> Cases:
    splits = [Split(split) for split in config.splits]
    asked = [*pairings(scenes, splits, config.templates, config.every)]
    made = write_cases(store, asked, (config.size[0], config.size[1]), config.fov, config.path)
    for name, why in made.left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    if not made.cases:
        raise PlanError("no case is left: " + (next(iter(made.left_out.values()), "")
                        or "none of the templates asked for is of the splits asked for"))
    shown = [TEMPLATES[name] for name in config.templates or TEMPLATES]
    store.write(SHEET, draw_sheet(shown, config.path, config.revisit).encode())
    return made


def _measure(
    config: EvaluateConfig, store: Store, made: Cases, missing: list[Job], known: dict[str, Metrics],
    outcome: Outcome,
) -> None:
    """Have what is missing made and measured, into `known`."""
    if not missing:
        return
    run_id = new_run_id()
    write_record(store, run_id, "running", config, outcome, {})
    with connected(config.ray) as cluster:
        if config.ray.address is not None:
            check_shared({"out": store})
        schedule = Schedule(config, made.cases, cluster)
        with EvaluateProgress(len(missing)) as progress:
            for row in schedule.rows(missing):
                known[f"{row.generator}/{row.case}"] = row
                outcome.measured += 1
                progress.row(row)
                cluster.settled()
    write_record(store, run_id, "finished", config, outcome, {"pose": config.recovery.engine})


def _finish(
    config: EvaluateConfig, store: Store, made: Cases, generators: list[Generator], rows: list[Metrics],
    outcome: Outcome,
) -> None:
    """The table of all videos, the page, and what is to be said at the end."""
    outcome.failed = sum(row.failure is not None for row in rows)
    outcome.unposed = sum(row.pose_failure is not None for row in rows)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=schema()), buffer)
    store.write(METRICS, buffer.getvalue())
    write_report(store, REPORT, rows, made, [generator.name for generator in generators], config)
    print(as_text(rows))
    for row in rows:
        if row.failure:
            print(f"not measured: {row.generator}/{row.case}: {row.failure}", file=sys.stderr)
    print(f"\n{outcome.measured:,} of {outcome.videos:,} videos measured in this run, {outcome.failed:,} "
          f"failed, {outcome.unposed:,} without a camera\nmetrics:  {store.name(METRICS)}\n"
          f"report:   {store.name(REPORT)}")


def schema() -> pa.Schema:
    """Of metrics.parquet: strings, whole and real numbers, all but names may be null."""
    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    return pa.schema([pa.field(item.name, kinds[str(item.type).split(" ")[0]])
                      for item in dataclasses.fields(Metrics)])
