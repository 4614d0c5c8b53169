"""One run: find out what is missing in a data set, have it made, put it in place.

    open the data set -> compare with the ledger -> stream what is missing through the workers -> commit
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from annotate.config import RayConfig, RunConfig, WriteConfig
from annotate.source.item import SourceItem
from annotate.stage import ClipStage
from dataset.catalog import open_dataset, read_index
from dataset.clip import Kind, Verdict
from dataset.lock import DatasetLock
from dataset.store import Store
from dataset.upkeep import recover, rejudge, withdraw
from pipelines.board import BoardClient
from pipelines.cluster import check_shared, connected, is_connected
from pipelines.head_start import head_start
from pipelines.ledger import Ledger, digest
from pipelines.plan import CUT, Plan, PlanError, chain_keys, make_plan, steps_of
from pipelines.progress import Progress
from pipelines.rows import VideoRow
from pipelines.sink import Judge, Provenance, Sink, plain, rejudged
from pipelines.stream import Stream
from pipelines.workers import Limits

OBJECTION_COLUMNS = ["source", "uri", "detail", "pose_engine", "pose_failure", "selfcheck_cheirality"]
"""Of a row, what an objection may look at."""
_STAGED_PER_WORKER = 3
_BYTES_PER_MB = 1_000_000


@dataclass
class Job:
    """What to annotate, with what, where to."""

    items: Sequence[SourceItem]
    cutter: Any  # as annotate.cut.cutter.Cutter
    stages: Sequence[ClipStage]
    judge: Judge
    thresholds: Mapping[str, Any]  # behind `judge`, as plain values
    out: str
    work: str | None = None  # None: `_work` inside `out`
    objection: Callable[[Mapping[str, Any]], str | None] = lambda fields: None  # a reason to stop the run
    write: WriteConfig = field(default_factory=WriteConfig)
    run: RunConfig = field(default_factory=RunConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    @property
    def work_url(self) -> str:
        return self.work or f"{self.out.rstrip('/')}/_work"

    def settings(self) -> dict[str, Any]:
        """Everything configurable that changes what is computed."""
        stages = {CUT: self.cutter.settings()} | {stage.name: stage.settings() for stage in self.stages}
        return plain(stages)


@dataclass
class Outcome:
    """What a run did."""

    run_id: str | None = None  # name of the run's record, if there was work
    videos: int = 0  # behind `src`
    begun: int = 0  # of them, not finished before
    new_rows: int = 0
    rejudged: int | None = None  # rows whose verdict changed; None: thresholds are the same as before
    withdrawn: int = 0  # clips whose shard is gone, to be made again
    seconds: float = 0.0
    first_clip_s: float | None = None  # from the start of the run to the first annotated clip
    lost: dict[str, str] = field(default_factory=dict)  # clips to be made by the next run: clip -> why


class Refused(RuntimeError):
    """The first results say that the job is set up wrongly; the message says how."""


def run(job: Job, begin: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Bring the data set at `job.out` up to date with `job.items`; does nothing where nothing is missing.

    begin: called once it is known that there is work, before it starts. Raises LockHeld, CatalogError,
    PlanError or StoreError before any work starts; later Refused, StoreError (a full disk) and whatever
    ends the stream. After any of these, and after a kill, the same job continues.
    """
    begun = time.monotonic()
    store, work = Store(job.out), Store(job.work_url)
    with DatasetLock(store) as lock:
        settings = job.settings()
        description = open_dataset(store, digest(settings), settings, plain(job.thresholds))
        withdrawn = recover(store, job.write.remake_broken).withdrawn
        withdrawn += forget_failures(store, job.run.again)
        outcome = Outcome(videos=len(job.items), withdrawn=len(withdrawn))
        if description.thresholds != plain(job.thresholds):
            outcome.rejudged = rejudge(store, lambda row: rejudged(row, job.judge), plain(job.thresholds))
        index = read_index(store, ["clip_id", "uri"])
        ledger = Ledger(work)
        videos = missing_videos(job, ledger, index)
        outcome.begun = len(videos)
        if videos:
            begin(outcome)
            _annotate(job, store, lock, ledger, videos, {*index["clip_id"].to_pylist()}, outcome, begun)
    outcome.seconds = time.monotonic() - begun
    return outcome


def forget_failures(store: Store, reasons: Sequence[str]) -> list[str]:
    """Take the rows that failed for one of `reasons` out of the index; their videos are gone through again.

    Raises PlanError for a reason for which nothing failed.
    """
    if not reasons:
        return []
    import pyarrow as pa

    rows = read_index(store, ["verdict", "reasons"]).to_pylist()
    known = sorted({reason for row in rows if row["verdict"] == Verdict.FAILED for reason in row["reasons"]})
    for reason in reasons:
        if reason not in known:
            raise PlanError(f"run.again={reason}: nothing failed for this reason; there are "
                            f"{', '.join(known) or 'no failures'}")
    return withdraw(store, lambda table: pa.array(
        [row["verdict"] == Verdict.FAILED and not set(reasons).isdisjoint(row["reasons"])
         for row in table.select(["verdict", "reasons"]).to_pylist()]))


def missing_videos(job: Job, ledger: Ledger, index: Any) -> list[VideoRow]:
    """The videos of a job that are not wholly in the index."""
    ids = index["clip_id"].to_pylist()
    committed = set(ids)
    finished = {item.video for item in ledger.finished() if committed.issuperset(item.clip_ids)}
    by_uri: dict[str, list[str]] = {}
    for clip, uri in zip(ids, index["uri"].to_pylist()):
        by_uri.setdefault(uri, []).append(clip)
    cut_key = chain_keys(job.cutter, [])[0]
    videos: dict[str, VideoRow] = {}
    for item in job.items:
        name = digest(asdict(item), _fingerprint(item.uri), cut_key)
        if name not in finished:
            videos[name] = VideoRow(name, asdict(item), by_uri.get(item.uri, []))
    return list(videos.values())


def _annotate(
    job: Job, store: Store, lock: DatasetLock, ledger: Ledger, videos: Sequence[VideoRow],
    committed: set[str], outcome: Outcome, begun: float,
) -> None:
    starts_here = job.ray.address is None and not is_connected()
    steps = steps_of(job.cutter, job.stages)
    early = head_start(job.cutter, steps, ledger, videos) if starts_here else contextlib.nullcontext()
    with early as first, connected(job.ray) as cluster, BoardClient.of_a_run() as board:
        if job.ray.address is not None:
            check_shared({"out": store, "work": ledger.store})
        plan = make_plan(job.cutter, job.stages, cluster.cpus, cluster.gpus, len(videos),
                         job.run.workers, job.run.cutters)
        limits = Limits(job.run.attempts, staging_room(plan, job.run.staged_clips))
        ahead = first.join() if first is not None else None
        stream = Stream(job.cutter, plan, ledger, board, limits, ahead)
        progress = Progress(outcome.videos, outcome.videos - len(videos), plan.workers)
        sink = _sink(job, store, lock, ledger, committed)
        # Closed at once, whatever happens: workers of a stream that is merely forgotten live on.
        rows = contextlib.closing(stream.run(videos, job.ray.verbose))
        with progress, contextlib.closing(sink), rows as annotated:
            for known in read_index(store, OBJECTION_COLUMNS).to_pylist():
                job.objection(known)  # which sources were seen to be consistent by former runs
            for row in annotated:
                cluster.settled()
                board.release([row.clip])
                if objection := job.objection(row.fields):
                    raise Refused(objection)
                record = sink.take(row)
                if record is not None:
                    outcome.new_rows += 1
                    if outcome.first_clip_s is None and record.kind is Kind.CLIP:
                        outcome.first_clip_s = time.monotonic() - begun
                    progress.row(record, row.seconds, row.share)
                progress.videos(sink.videos_judged)
            sink.commit()
            progress.videos(sink.videos_judged)
        outcome.lost = sink.lost


def staging_room(plan: Plan, wanted: int | None) -> int:
    """Clips that may be cut and not yet annotated.

    Raises PlanError when `wanted` is so small that batches would wait for clips which cutters may not cut.
    """
    least = 1 + sum(pool.batch_size - 1 for pool in plan.pools)
    if wanted is not None and wanted < least:
        sizes = ", ".join(f"{pool.name} {pool.batch_size}" for pool in plan.pools if pool.batch_size > 1)
        raise PlanError(f"run.staged_clips={wanted}: stages that take several clips at once ({sizes}) need "
                        f"{least} or more")
    at_once = max((pool.workers * pool.batch_size for pool in plan.pools), default=1)
    return wanted or max(_STAGED_PER_WORKER * at_once, least)


def _sink(job: Job, store: Store, lock: DatasetLock, ledger: Ledger, committed: set[str]) -> Sink:
    engines = {CUT: job.cutter.version} | {stage.name: stage.version for stage in job.stages}
    provenance = Provenance(digest(job.settings()), _code_version(), engines)
    return Sink(store, lock, ledger, committed, job.judge, provenance, job.write.shard_mb * _BYTES_PER_MB,
                job.write.rejected)


def _fingerprint(uri: str) -> list[int] | None:
    """What tells a local file from another one that takes its place later."""
    path = Path(uri)
    try:
        status = path.stat() if path.is_absolute() else None
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns] if status else None


def _code_version() -> str:
    try:
        return importlib.metadata.version("sana-wm-open")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased"

