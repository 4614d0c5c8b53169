import pytest

from annotate.depth import DepthConfig, DepthStage
from annotate.learned import LearnedConfig
from annotate.pose.stage import PoseStage, PoseStageConfig
from annotate.quality.stage import QualityStage
from annotate.scale.stage import ScaleStage
from pipelines.plan import PlanError, make_plan


class Cutter:
    name, version = "cut", "1"
    resources = QualityStage().resources

    def settings(self):
        return {}


def plan(learned, gpus):
    stages = [QualityStage(), PoseStage(PoseStageConfig(engine="pi3x"), learned, 8),
              DepthStage(DepthConfig(engine="pose", metric="moge2"), learned), ScaleStage()]
    return make_plan(Cutter(), stages, cpus=8, gpus=gpus, videos=4)


def test_learned_stages_share_a_worker_and_its_gpu():
    pools = plan(LearnedConfig(), gpus=2).pools
    assert [pool.name for pool in pools] == ["quality", "pose+depth", "scale"]
    assert pools[1].num_gpus == 1 and pools[1].workers == 2


def test_a_share_of_a_gpu_lets_more_workers_on_it():
    assert plan(LearnedConfig(gpus=0.25), gpus=1).pools[1].workers == 4


def test_without_a_gpu_the_run_is_refused_unless_the_device_is_a_cpu():
    with pytest.raises(PlanError, match="wants 1 GPU"):
        plan(LearnedConfig(), gpus=0)
    assert [pool.name for pool in plan(LearnedConfig(device="cpu"), gpus=0).pools] == [
        "quality+pose+depth+scale"]


def test_what_changes_no_answer_is_no_setting_of_a_stage():
    one = PoseStage(PoseStageConfig(engine="pi3x"), LearnedConfig(), 8)
    other = PoseStage(PoseStageConfig(engine="pi3x"), LearnedConfig(gpus=0.5, batch_size=2, limit_s=5), 8)
    assert one.settings() == other.settings() and one.settings()["weights"] == {"pi3x": "yyfz233/Pi3X"}
    assert "vipe" not in PoseStage().settings() and PoseStage().needs() == []
