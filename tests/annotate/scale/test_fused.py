"""Metres recovered from engines of known error, through the stages that every clip goes through."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from learned_clip import STAND_INS, KnownClip, learned_config

from annotate.depth import DepthConfig, DepthStage
from annotate.depth.moge2 import Moge2Engine
from annotate.pose.learned.config import FeedForwardConfig, RefineConfig
from annotate.pose.learned.feed_forward import FeedForwardEngine
from annotate.pose.second import SecondConfig
from annotate.pose.stage import PoseMode, PoseStage, PoseStageConfig
from annotate.scale.fused import MetricScales, compare, multiplied
from annotate.scale.stage import ScaleStage
from annotate.stage import Clip
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, FrameVerdict, Kind

ERRORS = {"noise": 0.02, "waver": 0.004, "outliers": 0.05, "missing": 0.1}


@pytest.fixture(scope="module")
def clip():
    return KnownClip("synthetic://street-walk?seed=3", 49, (180, 320))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def engines(weights):
    """Gives stages the stand-ins, which have one process each for all tests; `weights` says how they err."""
    learned = learned_config(weights)
    windows = FeedForwardConfig(window=20, overlap=6)
    pi3x, moge2 = FeedForwardEngine("pi3x", windows, learned), Moge2Engine(learned, 320)

    def share(stage):
        if isinstance(stage, PoseStage):
            stage._engine = pi3x
        elif stage._structure is not None:
            stage._structure = pi3x
        if isinstance(stage, DepthStage) and stage._metric is not None:
            stage._metric = moge2
        return stage

    def pose(**config):
        asked = PoseStageConfig(engine="pi3x", second=SecondConfig(share=0.0), refine=RefineConfig(False),
                                **config)
        return share(PoseStage(asked, learned, depth_every=8))

    def depth(**config):
        return share(DepthStage(DepthConfig(planes=48, **config), learned))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(STAND_INS))
        yield SimpleNamespace(pose=pose, depth=depth)
    pi3x.close()
    moge2.close()


def annotate(clip, stages, files=None):
    """What the stages make of a clip, one after the other as a worker runs them."""
    record, made = ClipRecord("ab" * 10, "v", Kind.CLIP, fps=16.0, frames=len(clip.images)), dict(files or {})
    for stage in stages:
        output = stage.process(Clip(record, made, clip.frames))
        record = dataclasses.replace(record, **output.fields)
        made |= output.files
    return record, made


def given(clip, unit):
    """The true cameras in a unit that nobody states."""
    verdict = np.full(len(clip.images), FrameVerdict.GIVEN, np.uint8)
    return dataclasses.replace(clip.track.scaled(unit, "engine"), engine="given", frame_verdict=verdict)


@pytest.mark.parametrize("structure", ["plane_sweep", "pi3x"])
def test_metres_come_back_to_one_percent_through_noise_outliers_and_holes(clip, engines, weights, structure):
    unit = 0.23
    clip.write_truth(weights, **ERRORS, units=[3.1])
    stages = [engines.depth(engine=structure, metric="moge2"), ScaleStage()]
    cameras = given(clip, unit).to_npz()
    if structure == "plane_sweep":
        stages = [PoseStage(PoseStageConfig(second=SecondConfig(share=0.0))), *stages]
    record, files = annotate(clip, stages, {"given.npz": cameras, "pose.npz": cameras})
    assert record.scale_status == "metric_learned" and record.depth_failure is None
    assert record.metric_scale * unit == pytest.approx(1.0, abs=0.01)
    assert 0.1 <= record.scale_sigma_log < 0.12 and 0 < record.scale_cov < 0.05
    track = CameraTrack.from_npz(files["camera.npz"])
    assert track.unit == "m" and track.path_length == pytest.approx(clip.track.path_length, rel=0.01)
    assert f"moge2 against {structure}" in record.scale_origin
    maps = DepthMaps.from_npz(files["depth.npz"])
    truth = np.stack([clip.depth(int(k)) for k in maps.frames])
    if structure == "plane_sweep":
        assert np.median(maps.depth[maps.valid] / truth[maps.valid]) == pytest.approx(1, abs=0.02)
    else:
        assert maps.engine == "pi3x+moge2" and maps.valid.mean() > 0.4
    licences = json.loads(record.engine_licences)
    assert set(licences) == ({"moge2"} if structure == "plane_sweep" else {"pi3x", "moge2"})
    scales = MetricScales.from_npz(files["scales.npz"])
    assert len(scales.frames) == 7 and len(scales.smoothed) == 7 and scales.engines.startswith("moge2")


def test_a_feed_forward_engine_alone_gives_cameras_depth_and_metres(clip, engines, weights):
    clip.write_truth(weights, **ERRORS, units=[0.4, 0.9, 0.7])
    stages = [engines.pose(), engines.depth(engine="pose", metric="moge2"), ScaleStage()]
    record, files = annotate(clip, stages)
    assert record.pose_engine == "pi3x" and record.depth_engine == "pi3x+moge2"
    track = CameraTrack.from_npz(files["camera.npz"])
    unit = CameraTrack.from_npz(files["pose.npz"]).path_length / clip.track.path_length
    assert record.metric_scale * unit == pytest.approx(1.0, abs=0.01)
    assert track.path_length == pytest.approx(clip.track.path_length, rel=0.01)


def test_given_poses_become_metric_by_the_path_of_an_engine_in_metres(clip, engines, weights):
    clip.write_truth(weights, noise=0.02)
    honoured = given(clip, 0.05)
    record, files = annotate(clip, [engines.pose(mode=PoseMode.gt_pose), ScaleStage()],
                             {"given.npz": honoured.to_npz()})
    assert files["pose.npz"] == honoured.to_npz() and record.pose_engine == "given"
    assert record.scale_status == "metric_learned"
    assert "given path against that of pi3x" in record.scale_origin
    assert record.metric_scale * 0.05 == pytest.approx(1.0, abs=0.01)


def test_a_dense_metric_engine_fills_what_swept_depth_leaves_empty(clip, engines, weights):
    clip.write_truth(weights, noise=0.02)
    sparse, _ = annotate(clip, [DepthStage(DepthConfig(planes=48))], {"pose.npz": clip.track.to_npz()})
    cameras = clip.track.scaled(0.2, "engine").to_npz()
    record, files = annotate(clip, [engines.depth(engine="moge2")], {"pose.npz": cameras})
    assert record.depth_engine == "moge2" and record.depth_valid_share > sparse.depth_valid_share
    maps = DepthMaps.from_npz(files["depth.npz"])
    truth = np.stack([clip.depth(int(k)) for k in maps.frames]) * 0.2
    assert np.median(np.abs(maps.depth[maps.valid] / truth[maps.valid] - 1)) < 0.03


def test_engines_that_do_not_agree_give_no_metres_and_say_so(clip, engines, weights):
    clip.write_truth(weights, missing=1.0)
    stages = [engines.depth(metric="moge2"), ScaleStage()]
    record, _ = annotate(clip, stages, {"pose.npz": clip.track.scaled(0.2, "engine").to_npz()})
    assert record.scale_status == "relative" and record.metric_scale is None
    assert "metric depth: moge2 against plane_sweep: none of 7 frames has a scale" in record.scale_origin


def maps_of(depth, frames, engine="x"):
    return DepthMaps(depth.astype(np.float16), np.isfinite(depth), np.array(frames, np.int32),
                     np.ones((len(depth), 4)), engine)


def test_the_average_runs_per_frame_of_the_clip_however_few_maps_there_are():
    shape = (40, 64)
    every = np.full((161, *shape), 2.0)
    drifting = every * np.exp(np.linspace(0, 0.3, 161))[:, None, None]
    dense = compare(maps_of(every, range(161)), maps_of(drifting, range(161)))
    sparse = compare(maps_of(every[::8], range(0, 161, 8)), maps_of(drifting[::8], range(0, 161, 8)))
    assert sparse.smoothed[-1] == pytest.approx(dense.smoothed[-1], rel=0.04)
    assert dense.at(np.array([0, 7, 160]))[1] == dense.smoothed[7]
    assert sparse.at(np.array([15, 16]))[0] == sparse.smoothed[1]


def test_maps_whose_factor_is_unknown_become_invalid_and_not_zero_depth():
    maps = multiplied(maps_of(np.ones((2, 4, 4)), [0, 1]), np.array([3.0, np.nan]), "y")
    assert maps.valid[0].all() and not maps.valid[1].any() and (maps.depth[0] == 3).all()


@pytest.mark.parametrize(("setting", "complaint"), [
    ({"engine": "lidar"}, r"depth\.engine=lidar: no such engine; known: plane_sweep, pose, pi3x"),
    ({"metric": "pi3x"}, r"depth\.metric=pi3x: no such engine; known: moge2, depth_pro, null"),
])
def test_engines_nobody_knows_are_refused(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        DepthConfig(**setting)


@pytest.mark.parametrize(("config", "complaint"), [
    (PoseStageConfig(mode="gt_depth"), r"pose\.mode=gt_depth: the engine classical takes no depth"),
    (PoseStageConfig(mode="gt_pose", engine="vggt"), "the engine vggt knows no metres; set pose.engine"),
])
def test_modes_that_an_engine_cannot_serve_are_refused(config, complaint):
    with pytest.raises(ValueError, match=complaint):
        PoseStage(config)
