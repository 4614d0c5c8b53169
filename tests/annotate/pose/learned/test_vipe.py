"""ViPE's child on a stand-in with the interface of nvidia-vipe 1.2, given the depth that two others fuse."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from learned_clip import STAND_INS, KnownClip, learned_config

from annotate.learned import EngineConfig, LearnedConfig, start_child
from annotate.pose.learned.config import FeedForwardConfig, VipeConfig
from annotate.pose.learned.vipe import VipeEngine
from annotate.pose.stage import PoseMode, PoseStage, PoseStageConfig
from annotate.weights import EngineMissing
from dataset.clip import DepthMaps
from dataset.trajectory import absolute_error


@pytest.fixture(scope="module")
def clip():
    return KnownClip("synthetic://street-walk?seed=3", 25, (126, 224))


@pytest.fixture(scope="module")
def engine(clip, tmp_path_factory):
    weights = clip.write_truth(tmp_path_factory.mktemp("weights"), units=[2.7])
    here = learned_config(weights, vipe=EngineConfig())
    config = VipeConfig(masks=False, width=224)
    made = VipeEngine(config, FeedForwardConfig(window=16, overlap=5), LearnedConfig())
    made._child = start_child("vipe", here, pipeline="no_vda", masks=False, own_depth=False)
    made._structure._learned = made._metric._learned = here
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(STAND_INS))
        patch.setenv("STAND_IN_VIPE", str(weights))
        yield made
    for child in (made._child, made._structure, made._metric):
        child.close()


def test_slam_on_fused_depth_is_in_metres(clip, engine):
    track = engine.estimate(clip.frames, clip.track.timestamps)
    assert track.failure is None and track.engine == "vipe" and track.diagnostics["metric"] is True
    assert track.path_length == pytest.approx(clip.track.path_length, rel=0.01)
    assert absolute_error(track.c2w, clip.track.c2w).share_of_path < 1e-3
    assert np.abs(track.intrinsics / clip.track.intrinsics - 1).max() < 1e-3


def test_with_given_depth_and_intrinsics_the_unit_and_the_lens_are_theirs(clip, engine):
    depth = np.stack([clip.depth(k) for k in range(0, 25, 4)]) * 0.01
    valid = np.isfinite(depth)
    given = DepthMaps(np.where(valid, depth, 0).astype(np.float16), valid, np.arange(0, 25, 4),
                      np.ones((7, 4)), "given")
    track = engine.estimate_with_depth(clip.frames, clip.track.timestamps, clip.track.intrinsics, given)
    assert track.path_length == pytest.approx(0.01 * clip.track.path_length, rel=0.01)
    assert (track.intrinsics == clip.track.intrinsics).all() and "metric" not in track.diagnostics


def test_vipe_needs_cuda_and_its_own_environment():
    with pytest.raises(EngineMissing, match="runs on CUDA alone"):
        PoseStage(PoseStageConfig(engine="vipe"), LearnedConfig(device="cpu"))
    stage = PoseStage(PoseStageConfig(engine="vipe", mode=PoseMode.gt_depth))
    assert [needs.engine for needs in stage.needs()] == ["vipe", "pi3x", "moge2"]
    assert stage.needs()[0].python.endswith("/.venv-vipe/bin/python") and stage.resources.num_gpus == 1
    own = PoseStage(PoseStageConfig(engine="vipe", vipe=VipeConfig(depth="own")))
    assert [needs.engine for needs in own.needs()] == ["vipe"]
