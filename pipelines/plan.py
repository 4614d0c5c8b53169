"""Which stages run together in which workers, and under which names their results are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annotate.stage import ClipStage
from pipelines.ledger import digest

CUT = "cut"
_CPU_GRAIN = 1000  # Ray counts CPUs in units of 0.0001; this leaves headroom for rounding


class PlanError(ValueError):
    """The machines at hand cannot run what was asked for; the message says what is missing."""


@dataclass(frozen=True)
class Step:
    """One stage and the ledger key of its results."""

    stage: ClipStage
    key: str


@dataclass(frozen=True)
class Pool:
    """Workers that run some neighbouring stages, so that a clip is decoded once for all of them."""

    steps: tuple[Step, ...]
    workers: int
    num_cpus: float  # of one worker
    num_gpus: float
    batch_size: int  # clips one worker is given at once

    @property
    def name(self) -> str:
        return "+".join(step.stage.name for step in self.steps)


@dataclass(frozen=True)
class Plan:
    """How a run uses its machines."""

    cut_key: str
    cutters: int
    cutter_cpus: float  # of one cutter
    cutter_gpus: float
    pools: tuple[Pool, ...]

    @property
    def workers(self) -> dict[str, int]:
        """Number of workers of every stage."""
        return {CUT: self.cutters} | {s.stage.name: pool.workers for pool in self.pools for s in pool.steps}


def chain_keys(cutter: Any, stages: Sequence[ClipStage]) -> list[str]:
    """Ledger keys of the cutting and of each stage: a change of one changes all that follow."""
    keys = [digest(cutter.name, cutter.version, cutter.settings())]
    for stage in stages:
        keys.append(digest(keys[-1], stage.name, stage.version, stage.settings()))
    return keys


def steps_of(cutter: Any, stages: Sequence[ClipStage]) -> list[Step]:
    """The stages with their ledger keys."""
    return [Step(stage, key) for stage, key in zip(stages, chain_keys(cutter, stages)[1:], strict=True)]


def fuse(steps: Sequence[Step]) -> list[list[Step]]:
    """Neighbours that can share a process: those without a GPU, and those with equal resources; all of them
    take as many clips at once."""
    groups: list[list[Step]] = []
    for step in steps:
        before = groups[-1][-1].stage.resources if groups else None
        here = step.stage.resources
        if before is not None and before.batch_size == here.batch_size and (
                before == here or before.num_gpus == here.num_gpus == 0):
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def make_plan(
    cutter: Any, stages: Sequence[ClipStage], cpus: float, gpus: float, videos: int,
    workers: int | None = None, cutters: int | None = None,
) -> Plan:
    """Divide `cpus` and `gpus` among the workers of all stages.

    By default there is a clip worker for every CPU (for stages on GPUs: as many as fit on the GPUs) and a
    cutter for every two, at least two and at most one a video. That is more workers than CPUs on purpose:
    cutters that are ahead wait for room in the staging, and cutters that are behind (rendered or 4K video)
    may use every CPU; cutters that draw on a GPU are as many as fit. CPUs are handed out in fractions so that
    all workers exist at once; one that could never start would hang the run. Raises PlanError when stages
    want GPUs and there are too few.
    """
    groups = fuse(steps_of(cutter, stages))
    fitting = _fitting(cutter, groups, gpus)
    sizes = [min(workers or fitting, fitting) if group[0].stage.resources.num_gpus else
             workers or max(1, int(cpus)) for group in groups]
    cutters = min(cutters or max(2, int(cpus / 2)), max(videos, 1))
    if cutter.resources.num_gpus:
        cutters = min(cutters, fitting)
    wanted = [(cutters, cutter.resources.num_cpus)]
    wanted += [
        (size, max(step.stage.resources.num_cpus for step in group)) for size, group in zip(sizes, groups)
    ]
    share = min(1.0, cpus / sum(count * each for count, each in wanted))
    grain = [int(each * share * _CPU_GRAIN) / _CPU_GRAIN for _, each in wanted]
    pools = tuple(
        Pool(tuple(group), size, each, group[0].stage.resources.num_gpus, group[0].stage.resources.batch_size)
        for group, size, each in zip(groups, sizes, grain[1:])
    )
    return Plan(chain_keys(cutter, [])[0], cutters, grain[0], cutter.resources.num_gpus, pools)


def _fitting(cutter: Any, groups: Sequence[Sequence[Step]], gpus: float) -> int:
    """Workers of each kind that fit on the GPUs; 0 where no kind wants any."""
    kinds = [(CUT, cutter.resources)]
    kinds += [(", ".join(step.stage.name for step in group), group[0].stage.resources) for group in groups]
    wants = [(names, resources.num_gpus) for names, resources in kinds if resources.num_gpus]
    fitting = sets_that_fit([each for _, each in wants], int(gpus)) if wants else 0
    if wants and not fitting:
        raise PlanError(
            f"stage {wants[0][0]} wants {wants[0][1]:g} GPU for each worker, all stages together "
            f"{sum(each for _, each in wants):g}; there are {gpus:g}. Use machines with GPUs, or "
            "ray.num_gpus=... if Ray does not see them"
        )
    return fitting


def sets_that_fit(wants: Sequence[float], gpus: int) -> int:
    """How many times one worker of each kind fits; a fraction lies on one GPU, whole numbers on several."""
    count = 0
    while True:
        free = [1.0] * gpus
        for want in sorted([*wants] * (count + 1), reverse=True):
            whole = int(want) if want >= 1 else 0
            places = [i for i, left in enumerate(free) if left >= (1.0 if whole else want) - 1e-9]
            if len(places) < max(whole, 1):
                return count
            for place in places[: max(whole, 1)]:
                free[place] -= 1.0 if whole else want
        count += 1
