"""The run as a Ray Data stream: videos in, annotated rows out, one by one as they are ready.

Ray Data moves the rows, starts and restarts the workers and tries what died again; what it would hold
back or hide is set below. Measured on two cores: a row is at the next worker 0.3 s after it was yielded,
and killed workers lose and double none.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.board import BoardClient
from pipelines.clip_worker import ClipWorker
from pipelines.head_start import Ahead
from pipelines.ledger import Ledger
from pipelines.plan import Plan, Pool
from pipelines.rows import ClipRow, VideoRow
from pipelines.workers import CutWorker, Limits

_MOST_BLOCKS = 1000  # beyond, a few videos share a block: Ray Data plans every block at the start
_STARTS_FORGIVEN = 5  # workers that die while they load are started again so often


@dataclass(frozen=True)
class Stream:
    """What a run sends through which workers."""

    cutter: Any
    plan: Plan
    ledger: Ledger
    board: BoardClient
    limits: Limits
    ahead: Ahead | None = None

    def run(self, videos: Sequence[VideoRow], verbose: bool = False) -> Generator[ClipRow, None, None]:
        """Rows of all videos as their workers finish them, in no order; needs Ray to be connected."""
        stream = begin([video.to_row() for video in videos], verbose)
        stream = stream.flat_map(
            CutWorker,
            fn_constructor_kwargs={"cutter": self.cutter, "ledger": self.ledger, "board": self.board,
                                   "limits": self.limits},
            compute=actors(self.plan.cutters),
            num_cpus=self.plan.cutter_cpus,
            num_gpus=self.plan.cutter_gpus or None,
        )
        for pool in self.plan.pools:
            stream = self._annotate(stream, pool)
        yield from deliver(stream)

    def _annotate(self, stream: Any, pool: Pool) -> Any:
        return stream.map_batches(
            ClipWorker,
            batch_size=pool.batch_size,
            fn_constructor_kwargs={"steps": pool.steps, "ledger": self.ledger, "board": self.board,
                                   "limits": self.limits, "threads": max(1, int(pool.num_cpus)),
                                   "is_last": pool is self.plan.pools[-1], "ahead": self.ahead},
            compute=actors(pool.workers),
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus or None,
        )


def begin(rows: Sequence[dict[str, Any]], verbose: bool) -> Any:
    """A stream of rows to put workers behind."""
    import ray.data

    _configure(verbose)
    return ray.data.from_items(list(rows), override_num_blocks=min(len(rows), _MOST_BLOCKS))


def deliver(stream: Any) -> Generator[ClipRow, None, None]:
    """What comes out at the end of a stream, row by row as it comes."""
    # Prefetching would keep each row until the next one is there.
    for block in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in block.to_pylist():
            yield ClipRow.from_row(row)


def actors(count: int) -> Any:
    """So many workers, started anew when they die."""
    import ray.data

    # One task at a time each: a row never waits behind a slow one while another worker is idle.
    return ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1)


def _configure(verbose: bool) -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.target_max_block_size = 1  # a block for every row, so that none waits for others
    context.target_min_block_size = 1
    context.execution_no_progress_timeout_s = -1  # a long video may take its time to the first cut
    context.max_consecutive_actor_init_deaths = _STARTS_FORGIVEN
    context.enable_progress_bars = verbose
    context.print_on_execution_start = verbose
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.INFO if verbose else logging.CRITICAL)
