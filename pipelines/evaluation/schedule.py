"""Makes and measures videos on Ray: networks stay loaded in processes of their own, and a video is measured as
soon as it is there. A worker that dies takes one video with it, which is tried again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from dataset.store import Store
from pipelines.cluster import Cluster
from pipelines.evaluation.cases import Case
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.generators import Generator
from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.worker import Job, Maker, has_video, measure_job, write_row


class Schedule:
    """Runs jobs; `rows` yields each as it is done."""

    def __init__(self, config: EvaluateConfig, cases: Sequence[Case], cluster: Cluster) -> None:
        import ray

        self._config, self._cluster, self._store = config, cluster, Store(config.out)
        self._deaths: Counter[str] = Counter()
        self._cases = ray.put(list(cases))
        self._measure = ray.remote(num_cpus=1, max_retries=0)(measure_job)
        self._measuring: dict[Any, Job] = {}
        self._to_measure: deque[Job] = deque()
        self._most = config.run.workers or max(1, int(cluster.cpus))

    def rows(self, jobs: Sequence[Job]) -> Iterator[Metrics]:
        """The rows of all jobs, as they are finished. Raises StoreFull, and OSError of a broken store."""
        waiting: dict[Generator, deque[Job]] = {}
        for job in jobs:
            if job.generator.network is None or has_video(self._store, job):
                self._to_measure.append(job)
            else:
                waiting.setdefault(job.generator, deque()).append(job)
        for generator, queue in waiting.items():
            yield from self._make(generator, queue)
        while self._measuring or self._to_measure:
            yield from self._wait({}, [])

    def _make(self, generator: Generator, queue: deque[Job]) -> Iterator[Metrics]:
        """Have a network make its videos; meanwhile others are measured."""
        import ray

        gpu = self._cluster.gpus >= 1 and self._config.networks.device != "cpu"
        # On CPUs one process with all of them: several would share memory bandwidth and hold weights each.
        count = min(self._config.run.workers or max(1, int(self._cluster.gpus)), len(queue)) if gpu else 1
        threads = 1 if gpu else max(1, int(self._cluster.cpus))
        maker = ray.remote(num_cpus=0, num_gpus=1 if gpu else 0, max_restarts=0)(Maker)

        def start() -> Any:
            return maker.options(runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}}).remote(
                generator, self._config, threads)

        makers = [start() for _ in range(count)]
        ray.get([each.ready.remote() for each in makers])  # a network that cannot be loaded ends the run
        making: dict[Any, tuple[Any, Job]] = {}
        try:
            while queue or making:
                while queue and len(makers) > len(making):
                    busy = {each for each, _ in making.values()}
                    free = next(each for each in makers if each not in busy)
                    job = queue.popleft()
                    making[free.make.remote(job)] = free, job
                died: list[tuple[Any, Job]] = []
                yield from self._wait(making, died)
                for dead, job in died:
                    makers[makers.index(dead)] = start()
                    if self._may_try_again(job):
                        queue.append(job)
                    else:
                        yield self._give_up(job)
        finally:
            for each in makers:
                ray.kill(each)

    def _wait(
        self, making: dict[Any, tuple[Any, Job]], died: list[tuple[Any, Job]],
    ) -> Iterator[Metrics]:
        """Start what there is room for, wait for one thing to be done, and take it. Makers that died are added
        to `died`, with the jobs they had."""
        import ray

        while self._to_measure and len(self._measuring) < self._most:
            job = self._to_measure.popleft()
            self._measuring[self._measure.remote(job, self._config, self._cases)] = job
        done, _ = ray.wait([*making, *self._measuring], num_returns=1)
        reference = done[0]
        if reference in making:
            maker, job = making.pop(reference)
            try:
                failure = ray.get(reference)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError:
                died.append((maker, job))
                return
            if failure is None:
                self._to_measure.append(job)
            else:
                yield self._failed(job, failure)
            return
        job = self._measuring.pop(reference)
        try:
            yield ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            if self._may_try_again(job):
                self._to_measure.append(job)
            else:
                yield self._give_up(job)

    def _may_try_again(self, job: Job) -> bool:
        self._deaths[job.name] += 1
        return self._deaths[job.name] < self._config.run.attempts

    def _give_up(self, job: Job) -> Metrics:
        return self._failed(job, f"killed its worker {self._config.run.attempts} times")

    def _failed(self, job: Job, sentence: str) -> Metrics:
        row = job.blank(failure=sentence)
        write_row(self._store, job, row)
        return row

