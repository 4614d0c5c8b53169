"""One run: rows of a table to workers that hold the weights, one row at a time each."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.batch import FAILED, Outcome, Summary, make_rows, to_do
from infer.config import InferConfig
from infer.manifest import Row, read_manifest
from pipelines.cluster import check_shared, connected
from pipelines.generate_config import GenerateConfig
from pipelines.plan import PlanError


def run(config: GenerateConfig) -> int:
    """Make what is missing; 1 where a row failed. Raises PlanError for input that cannot be used, before any
    worker starts, and the error of weights that cannot be loaded."""
    try:
        rows = read_manifest(_of_infer(config))
    except ValueError as error:
        raise PlanError(str(error)) from None
    out = Path(config.out).expanduser()
    summary = Summary(out, rows)
    left = to_do(rows, summary)
    if left:
        with connected(config.ray) as cluster:
            if config.ray.address is not None:
                from dataset.store import Store

                check_shared({"out": Store(out)})
            _make(config, left, summary, divide(config, cluster.cpus, cluster.gpus, len(left)))
    return summary.finish()


@dataclass(frozen=True)
class Shares:
    """How the machines are divided among the workers. Of CPUs a worker reserves one at most, since how many
    lie beside a GPU differs from machine to machine; it computes with `threads`."""

    workers: int
    gpus: float  # of one worker
    cpus: float
    threads: int


def divide(config: GenerateConfig, cpus: float, gpus: float, rows: int) -> Shares:
    """Raises PlanError when the workers want more GPUs than there are."""
    each = config.gpus if config.gpus is not None else float(gpus >= 1)
    if each > gpus:
        raise PlanError(f"gpus={each:g}: there are {gpus:g} GPUs. Use machines with GPUs, ray.num_gpus=... "
                        "if Ray does not see them, or gpus=0 to work on CPUs")
    most = int(gpus / each) if each else max(1, int(cpus))
    workers = min(config.workers or (most if each else 1), most, rows)
    return Shares(workers, each, min(1.0, cpus / workers), max(1, int(cpus / workers)))


class Maker:
    """A worker: the weights, loaded once, and a row at a time."""

    def __init__(self, config: InferConfig, threads: int) -> None:
        import torch

        from infer.run import load_world

        torch.set_num_threads(threads)
        try:
            self._world = load_world(config)
            self.fault: str | None = None
        except (ValueError, FileNotFoundError) as error:
            self.fault = str(error)

    def ready(self) -> str | None:
        """What is wrong with the weights, None if nothing is."""
        return self.fault

    def make(self, row: Row) -> Outcome:
        if self.fault is not None:
            return Outcome(row.number, row.name, FAILED, self.fault)
        return next(make_rows(self._world, [row]))


def _make(
    config: GenerateConfig, rows: Sequence[Row], summary: Summary, shares: Shares,
) -> None:
    """Give each worker its next row when it has made one; a row whose worker dies goes to another."""
    import ray

    def start() -> Any:
        options = {"num_gpus": shares.gpus, "num_cpus": shares.cpus}
        return ray.remote(Maker).options(**options).remote(_of_infer(config), shares.threads)

    alive = [start() for _ in range(shares.workers)]
    try:
        faults = ray.get([worker.ready.remote() for worker in alive])
        if faults[0] is not None:
            raise PlanError(faults[0])
        summary.begin()
        waiting, deaths, running = deque(rows), Counter[int](), dict[Any, tuple[Any, Row]]()
        idle = list(alive)
        while waiting or running:
            while idle and waiting:
                worker, row = idle.pop(), waiting.popleft()
                running[worker.make.remote(row)] = worker, row
            (done, *_), _ = ray.wait([*running], num_returns=1)
            worker, row = running.pop(done)
            try:
                summary.add(ray.get(done))
            except ray.exceptions.RayActorError:
                alive.remove(worker)
                deaths[row.number] += 1
                if deaths[row.number] < config.attempts:
                    waiting.append(row)
                else:
                    reason = f"killed its worker {deaths[row.number]} times"
                    summary.add(Outcome(row.number, row.name, FAILED, reason))
                if not waiting:
                    continue
                worker = start()
                alive.append(worker)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # a full disk: no other row would fare better
            idle.append(worker)
    finally:
        for worker in alive:
            ray.kill(worker)


def _of_infer(config: GenerateConfig) -> InferConfig:
    """Without what concerns the machines, so that rows are those of `python -m infer`."""
    return InferConfig(**{item.name: getattr(config, item.name) for item in dataclasses.fields(InferConfig)})
