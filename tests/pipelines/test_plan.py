"""How stages share workers, and that a plan never asks for more than there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.stage import Clip, Resources, StageOutput
from pipelines.plan import PlanError, chain_keys, make_plan
from pipelines.runner import staging_room


@dataclass
class Stage:
    name: str
    resources: Resources
    version: str = "1"
    strength: float = 1.0

    def settings(self) -> dict[str, Any]:
        return {"strength": self.strength}

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, clip: Clip) -> StageOutput:
        return StageOutput()


CUTTER = Stage("cut", Resources())


def cpu(name: str, cpus: float = 1.0, **more: Any) -> Stage:
    return Stage(name, Resources(num_cpus=cpus), **more)


def gpu(name: str, gpus: float) -> Stage:
    return Stage(name, Resources(num_gpus=gpus))


def test_neighbours_share_a_worker_unless_a_gpu_tells_them_apart():
    stages = [cpu("pose"), cpu("scale", 0.25), gpu("caption", 0.5), gpu("score", 0.5), cpu("quality")]
    plan = make_plan(CUTTER, stages, cpus=8, gpus=1, videos=9)
    assert [pool.name for pool in plan.pools] == ["pose+scale", "caption+score", "quality"]


def test_cutters_that_draw_on_a_gpu_are_as_many_as_fit_beside_the_stages():
    drawing = Stage("cut", Resources(num_gpus=0.25))
    plan = make_plan(drawing, [cpu("pose"), gpu("score", 0.5)], cpus=16, gpus=1, videos=9)
    assert plan.workers == {"cut": 1, "pose": 16, "score": 1} and plan.cutter_gpus == 0.25
    assert make_plan(drawing, [cpu("pose")], cpus=16, gpus=1, videos=9).cutters == 4
    with pytest.raises(PlanError, match=r"stage cut wants 0\.25 GPU.*there are 0"):
        make_plan(drawing, [cpu("pose")], cpus=16, gpus=0, videos=9)


def test_stages_that_take_several_clips_at_once_have_workers_of_their_own():
    several = Stage("score", Resources(batch_size=8))
    plan = make_plan(CUTTER, [cpu("pose"), several, cpu("quality")], cpus=8, gpus=0, videos=9)
    pools = [(pool.name, pool.batch_size) for pool in plan.pools]
    assert pools == [("pose", 1), ("score", 8), ("quality", 1)]


def test_clips_are_cut_ahead_for_the_batches():
    several = Stage("score", Resources(batch_size=8))
    plan = make_plan(CUTTER, [cpu("pose"), several], cpus=2, gpus=0, videos=9)
    assert staging_room(plan, None) == 3 * 2 * 8 and staging_room(plan, 8) == 8
    with pytest.raises(PlanError, match=r"run\.staged_clips=7: .*\(score 8\) need 8 or more"):
        staging_room(plan, 7)


def test_two_cpus_get_two_clip_workers_and_no_more_cutters_than_videos():
    stages = [cpu("pose"), cpu("depth")]
    assert make_plan(CUTTER, stages, cpus=2, gpus=0, videos=9).workers == {"cut": 2, "pose": 2, "depth": 2}
    assert make_plan(CUTTER, stages, cpus=2, gpus=0, videos=1).workers == {"cut": 1, "pose": 2, "depth": 2}


@given(
    cpus=st.integers(1, 256), gpus=st.integers(0, 8), videos=st.integers(0, 99),
    workers=st.none() | st.integers(1, 300), cutters=st.none() | st.integers(1, 50),
    wants=st.lists(st.sampled_from([0.0, 0.25, 0.75, 2.0]), min_size=1, max_size=4),
)
def test_all_workers_of_a_plan_fit_on_the_machine_at_once(cpus, gpus, videos, workers, cutters, wants):
    stages = [gpu(f"s{i}", want) if want else cpu(f"s{i}") for i, want in enumerate(wants)]
    try:
        plan = make_plan(CUTTER, stages, cpus, gpus, videos, workers, cutters)
    except PlanError:
        assert any(wants) and gpus <= sum(wants)
        return
    used = plan.cutters * plan.cutter_cpus + sum(pool.workers * pool.num_cpus for pool in plan.pools)
    assert used <= cpus + 1e-9
    assert sum(pool.workers * pool.num_gpus for pool in plan.pools) <= gpus + 1e-9
    assert plan.cutter_cpus > 0 and all(pool.workers >= 1 and pool.num_cpus > 0 for pool in plan.pools)


def test_a_gpu_that_is_not_there_is_missed_at_the_start_and_named():
    with pytest.raises(PlanError, match=r"stage caption wants 0\.5 GPU.*there are 0"):
        make_plan(CUTTER, [cpu("pose"), gpu("caption", 0.5)], cpus=8, gpus=0, videos=9)


def test_fractions_of_a_gpu_are_not_spread_over_several():
    plan = make_plan(CUTTER, [gpu("depth", 0.75)], cpus=64, gpus=3, videos=9)
    assert plan.pools[0].workers == 3  # four would be three GPUs in sum, and one would wait for ever


def test_a_change_of_a_stage_changes_its_key_and_all_that_follow():
    before = chain_keys(CUTTER, [cpu("pose"), cpu("depth"), cpu("quality")])
    settings = chain_keys(CUTTER, [cpu("pose"), cpu("depth", strength=2.0), cpu("quality")])
    version = chain_keys(CUTTER, [cpu("pose"), cpu("depth", version="2"), cpu("quality")])
    for after in (settings, version):
        assert [a == b for a, b in zip(before, after)] == [True, True, False, False]
    assert chain_keys(CUTTER, [cpu("pose", 4.0), cpu("depth"), cpu("quality")]) == before
