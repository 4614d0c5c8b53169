"""One run: find out which clips have no latents yet, have them encoded, put them in place."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from dataset.catalog import CatalogError, committed_ids, query, read_description
from dataset.clip import Kind
from dataset.fit import largest_size
from dataset.latents import LATENTS, LatentSet, Status, default_name, latent_store, open_set
from dataset.lock import DatasetLock
from dataset.store import Store
from dataset.upkeep import recover, withdraw
from pipelines.board import BoardClient
from pipelines.cluster import Cluster, check_shared, connected
from pipelines.latents_config import CODECS_WITHOUT_WEIGHTS, TEXT_WITHOUT_WEIGHTS, LatentsConfig
from pipelines.latents_encode import Encoder
from pipelines.latents_progress import EncodeProgress
from pipelines.latents_sink import LatentSink
from pipelines.latents_worker import EncodeWorker
from pipelines.ledger import Ledger
from pipelines.plan import PlanError, sets_that_fit
from pipelines.rows import ClipRow
from pipelines.stream import actors, begin, deliver

_BYTES_PER_MB = 1_000_000
_CPU_GRAIN = 1000  # as Ray counts them, with headroom for rounding


@dataclass
class Outcome:
    """What a run did."""

    name: str = ""  # of the latent set
    run_id: str | None = None  # name of the run's record, if there was work
    selected: int = 0  # clips that `where` names
    begun: int = 0  # of them, without latents before
    encoded: int = 0
    failed: int = 0
    withdrawn: int = 0  # clips of broken latent shards and, if asked for, failed ones: tried again
    seconds: float = 0.0
    lost: dict[str, str] = field(default_factory=dict)  # clips for the next run: clip -> why


@dataclass(frozen=True)
class Shares:
    """How the machines are divided among the workers."""

    workers: int
    cpus: float  # of one worker
    gpus: float
    threads: int


def run(config: LatentsConfig, announce: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Bring the latent set up to date with the clips of the data set; does nothing where none is missing.

    announce: called once it is known that there is work, before it starts. Raises LockHeld, CatalogError,
    PlanError, ValueError or StoreError before any work starts. After an error, and after a kill, the same
    call continues.
    """
    started = time.monotonic()
    data = Store(config.data)
    read_description(data)
    clips = select_clips(data, config.where)
    name, wanted = prepare(config, data, clips)
    store = latent_store(data, name)
    with DatasetLock(store) as lock:
        outcome = Outcome(name, selected=len(clips))
        outcome.withdrawn = len(recover(store, config.write.remake_broken, LATENTS).withdrawn)
        if config.retry_failed:
            failed = withdraw(store, lambda table: pc.equal(table["status"], str(Status.FAILED)), LATENTS)
            outcome.withdrawn += len(failed)
        committed = committed_ids(store, LATENTS)
        missing = [clip for clip in clips if clip["clip_id"] not in committed]
        outcome.begun = len(missing)
        ledger = Ledger(Store(config.work) if config.work else store.below("_work"))
        ledger.forget(ledger.begun() & committed)  # a run was killed between its commit and this
        if missing:
            announce(outcome)
            sink = LatentSink(store, lock, ledger, committed, config.write.shard_mb * _BYTES_PER_MB)
            _encode(config, data, wanted, missing, sink, ledger, outcome)
    outcome.seconds = time.monotonic() - started
    return outcome


def prepare(config: LatentsConfig, data: Store, clips: Sequence[dict[str, Any]]) -> tuple[str, LatentSet]:
    """Name and description of the latent set of a run, which exists afterwards.

    Raises CatalogError when a set of that name holds other latents, PlanError when the networks are not
    there.
    """
    try:
        encoder = Encoder(dataclasses.replace(config, dtype="float32"), "cpu")
    except (FileNotFoundError, ValueError, ImportError) as error:
        raise PlanError(f"codec={config.codec} text={config.text}: {error}") from error
    try:
        size = choose_size(config, clips, encoder.codec.space_stride)
    except ValueError as error:
        raise CatalogError(str(error)) from None
    name, wanted = config.name or default_name(config.codec, size), encoder.describe(size)
    store = latent_store(data, name)
    with DatasetLock(store):
        open_set(store, wanted, lambda: encoder.null_text.to_npz())
    return name, wanted


def select_clips(data: Store, where: str) -> list[dict[str, Any]]:
    """Rows of the index, of clips that have files, in the order they lie in the shards."""
    table = query(data, where)
    table = table.filter(pc.and_(pc.equal(table["kind"], str(Kind.CLIP)), pc.is_valid(table["shard"])))
    return table.sort_by([("shard", "ascending"), ("clip_id", "ascending")]).to_pylist()


def choose_size(
    config: LatentsConfig, clips: Sequence[dict[str, Any]], space_stride: int
) -> tuple[int, int]:
    """(height, width) of the video to encode. Raises ValueError when it cannot be that, or is not said."""
    if config.size is not None:
        size = (config.size[0], config.size[1])
        if size != largest_size(size, space_stride):
            raise ValueError(f"size={config.size}: both sides must be multiples of {space_stride}, the "
                             f"stride of {config.codec}; the nearest below is "
                             f"{list(largest_size(size, space_stride))}")
        return size
    counts: dict[tuple[int, int], int] = {}
    for clip in clips:
        own = (clip["height"] or 0, clip["width"] or 0)
        counts[own] = counts.get(own, 0) + 1
    if len(counts) == 1:
        return largest_size(next(iter(counts)), space_stride)
    if not counts:
        raise ValueError(f"{config.data}: no clip with files satisfies where={config.where!r}")
    sizes = ", ".join(f"{width}x{height} ({count:,} clips)" for (height, width), count
                      in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:8])
    raise ValueError(f"size is not set and the clips differ: {sizes}. Set size=[height,width] for all of "
                     "them, or choose those of one size with where=\"width = ...\"")


def divide(config: LatentsConfig, cpus: float, gpus: float, clips: int) -> Shares:
    """Workers for the machines at hand. Raises PlanError when they want more GPUs than there are."""
    has_weights = config.codec not in CODECS_WITHOUT_WEIGHTS or config.text != TEXT_WITHOUT_WEIGHTS
    each = config.run.gpus if config.run.gpus is not None else float(has_weights and gpus >= 1)
    fitting = sets_that_fit([each], int(gpus)) if each else max(1, int(cpus))
    if not fitting:
        raise PlanError(f"run.gpus={each:g}: there are {gpus:g} GPUs. Use machines with GPUs, "
                        "ray.num_gpus=... if Ray does not see them, or run.gpus=0 to encode on CPUs")
    workers = min(config.run.workers or fitting, max(clips, 1))
    if each:
        workers = min(workers, fitting)
    share = int(min(1.0, cpus / workers) * _CPU_GRAIN) / _CPU_GRAIN
    return Shares(workers, share, each, max(1, int(cpus / workers)))


def _encode(
    config: LatentsConfig, data: Store, wanted: LatentSet, clips: Sequence[dict[str, Any]],
    sink: LatentSink, ledger: Ledger, outcome: Outcome,
) -> None:
    with connected(config.ray) as cluster, BoardClient.of_a_run() as board:
        if config.ray.address is not None:
            check_shared({"data": data, "work": ledger.store})
        # Closed at once, whatever happens: workers of a stream that is merely forgotten live on.
        rows = contextlib.closing(_stream(config, data, wanted, clips, ledger, board, cluster))
        progress = EncodeProgress(outcome.selected, outcome.selected - len(clips))
        with progress, contextlib.closing(sink), rows as encoded:
            for row in encoded:
                cluster.settled()
                record = sink.take(row)
                if record is not None:
                    outcome.encoded += record.status is Status.OK
                    outcome.failed += record.status is Status.FAILED
                    progress.clip(record)
            sink.commit()
        outcome.lost = sink.lost


def _stream(
    config: LatentsConfig, data: Store, wanted: LatentSet, clips: Sequence[dict[str, Any]], ledger: Ledger,
    board: BoardClient, cluster: Cluster,
) -> Generator[ClipRow, None, None]:
    shares = divide(config, cluster.cpus, cluster.gpus, len(clips))
    height, width = wanted.size
    stream = begin([{"body": json.dumps(clip)} for clip in clips], config.ray.verbose).map(
        EncodeWorker,
        fn_constructor_kwargs={
            "config": config, "data": data, "size": (height, width), "key": wanted.key(), "ledger": ledger,
            "board": board, "threads": shares.threads, "device": "cuda" if shares.gpus else "cpu",
        },
        compute=actors(shares.workers), num_cpus=shares.cpus, num_gpus=shares.gpus or None,
    )
    yield from deliver(stream)
