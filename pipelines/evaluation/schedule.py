"""Makes and measures videos on Ray: networks and engines stay loaded in processes of their own, and a video
is measured as soon as it is there, or by an engine on a GPU when all are there. A process that dies takes one
video with it, which is tried again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataset.store import Store
from pipelines.cluster import Cluster
from pipelines.evaluation.cases import Case
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.generators import Generator
from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.worker import Job, Maker, Measurer, has_video, write_row
from pipelines.plan import PlanError, sets_that_fit


@dataclass
class _Pool:
    """Processes of one kind, started when there is work for them; each does one job at a time."""

    start: Callable[[], Any]
    most: int
    queue: deque[Job] = field(default_factory=deque)
    idle: list[Any] = field(default_factory=list)
    busy: dict[Any, tuple[Any, Job]] = field(default_factory=dict)  # by what they will answer

    def send(self) -> None:
        """Give work to whoever is free."""
        while self.queue and (self.idle or len(self.busy) < self.most):
            worker = self.idle.pop() if self.idle else self.start()
            job = self.queue.popleft()
            self.busy[worker.run.remote(job)] = worker, job

    def end(self) -> None:
        import ray

        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            ray.kill(worker)


class Schedule:
    """Runs jobs; `rows` yields each as it is done."""

    def __init__(self, config: EvaluateConfig, cases: Sequence[Case], cluster: Cluster) -> None:
        self._config, self._cluster, self._store = config, cluster, Store(config.out)
        self._cases = list(cases)
        self._deaths: Counter[str] = Counter()

    def rows(self, jobs: Sequence[Job]) -> Iterator[Metrics]:
        """The rows of all jobs, as they are finished. Raises PlanError for an engine that wants more GPUs
        than there are, StoreFull, OSError of a broken store, and what a network that cannot be loaded
        raises."""
        measuring = self._measurers()
        # A process keeps its GPU: an engine that waits for work would keep the next network from it.
        beside = [] if self._config.recovery.num_gpus else [measuring]
        waiting: dict[Generator, list[Job]] = {}
        for job in jobs:
            if job.generator.network is None or has_video(self._store, job):
                measuring.queue.append(job)
            else:
                waiting.setdefault(job.generator, []).append(job)
        try:
            for generator, its in waiting.items():
                making = self._makers(generator)
                making.queue.extend(its)
                try:
                    while making.queue or making.busy:
                        yield from self._advance([making, *beside], measuring)
                finally:
                    making.end()
            while measuring.queue or measuring.busy:
                yield from self._advance([measuring], measuring)
        finally:
            measuring.end()

    def _advance(self, pools: Sequence[_Pool], measuring: _Pool) -> Iterator[Metrics]:
        """Start what there is room for, wait for one thing to be done, and take it."""
        import ray

        for pool in pools:
            pool.send()
        done, _ = ray.wait([answer for pool in pools for answer in pool.busy], num_returns=1)
        pool = next(pool for pool in pools if done[0] in pool.busy)
        worker, job = pool.busy.pop(done[0])
        try:
            answer = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:  # what the worker raised, not its death
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except ray.exceptions.RayError:
            yield from self._died(pool, job)
            return
        pool.idle.append(worker)
        if isinstance(answer, Metrics):
            yield answer
        elif answer is not None:
            yield self._failed(job, answer)
        else:
            measuring.queue.append(job)

    def _died(self, pool: _Pool, job: Job) -> Iterator[Metrics]:
        self._deaths[job.name] += 1
        if self._deaths[job.name] < self._config.run.attempts:
            pool.queue.append(job)
        else:
            yield self._failed(job, f"killed its worker {self._config.run.attempts} times")

    def _failed(self, job: Job, sentence: str) -> Metrics:
        row = job.blank(failure=sentence)
        write_row(self._store, job, row)
        return row

    def _makers(self, generator: Generator) -> _Pool:
        """On GPUs a process for each; on CPUs one with all of them: several would share the memory's
        bandwidth and hold weights each."""
        config, gpus = self._config, int(self._cluster.gpus)
        gpu = gpus >= 1 and config.networks.device != "cpu"
        most = min(config.run.workers or gpus, gpus) if gpu else 1
        threads = 1 if gpu else max(1, int(self._cluster.cpus))
        return _Pool(lambda: _actor(Maker, 0, float(gpu)).remote(generator, config, threads), most)

    def _measurers(self) -> _Pool:
        """No more than can run at once: one that could never start would hang the run."""
        most, gpus = max(1, int(self._cluster.cpus)), self._config.recovery.num_gpus
        if gpus:
            fitting = sets_that_fit([gpus], int(self._cluster.gpus))
            if not fitting:
                raise PlanError(f"recovery.engine={self._config.recovery.engine} wants {gpus:g} GPU for each "
                                f"process; there are {self._cluster.gpus:g}. Use machines with GPUs, "
                                "ray.num_gpus=... if Ray does not see them, or recovery.learned.device=cpu")
            most = min(most, fitting)
        most = min(self._config.run.workers or most, most)
        return _Pool(lambda: _actor(Measurer, 1, gpus).remote(self._config, self._cases), most)


def _actor(kind: type, cpus: float, gpus: float) -> Any:
    import ray

    return ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(kind)
