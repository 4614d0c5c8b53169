import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.frames import ArrayFrames
from annotate.pose.config import ClassicalConfig
from annotate.pose.learned.config import RefineConfig
from annotate.pose.learned.refine import refine
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.clip import Motion
from dataset.trajectory import absolute_error

CLASSICAL = ClassicalConfig(width=480)


@pytest.fixture(scope="module")
def zoom():
    """A clip whose focal length grows, and what a network might say of it: one lens, rough cameras."""
    spec = SyntheticSpec.parse("synthetic://room-walk?seed=5&zoom=1.2")
    images, truth, _ = render_sequence(spec, 49, 480, 270)
    rng = np.random.default_rng(0)
    c2w = truth.c2w.copy()
    c2w[:, :3, :3] = c2w[:, :3, :3] @ Rotation.from_rotvec(
        np.radians(0.05) * rng.standard_normal((49, 3))).as_matrix()
    c2w[:, :3, 3] *= 0.31
    intrinsics = np.tile(np.median(truth.intrinsics, axis=0), (49, 1))
    rough = dataclasses.replace(truth, c2w=c2w, intrinsics=intrinsics, engine="pi3x", unit="engine")
    return ArrayFrames(images), truth, rough


def test_a_focal_length_per_frame_and_the_path_are_mended_in_the_engines_unit(zoom):
    frames, truth, rough = zoom
    refined = refine(frames, rough, None, RefineConfig(), CLASSICAL)
    assert refined.diagnostics["refined"] == "yes" and refined.engine == "pi3x"
    before, after = (np.abs(t.intrinsics[:, 0] / truth.intrinsics[:, 0] - 1).max() for t in (rough, refined))
    assert before > 0.05 and after < 0.02
    assert absolute_error(refined.c2w, truth.c2w).rotation_deg.rmse < 0.05
    assert refined.path_length / truth.path_length == pytest.approx(0.31, rel=0.02)
    assert np.isfinite(refined.sigma_position).all()


def test_a_path_that_the_points_contradict_is_kept_and_doubted(zoom):
    frames, _, rough = zoom
    refined = refine(frames, rough, None, RefineConfig(max_change=1e-9), CLASSICAL)
    assert (refined.c2w == rough.c2w).all()
    assert refined.diagnostics["refined"].startswith("no: points followed")
    assert "change the path by" in refined.diagnostics["doubts"]


def test_cameras_that_explain_nothing_are_left_alone(zoom):
    frames, _, rough = zoom
    backwards = dataclasses.replace(rough, c2w=rough.c2w[::-1].copy())
    kept = refine(frames, backwards, None, RefineConfig(), CLASSICAL)
    assert (kept.c2w == backwards.c2w).all()
    assert kept.diagnostics["refined"].startswith("no: its cameras explain")


@pytest.mark.parametrize(("config", "change"), [
    (RefineConfig(enabled=False), {}), (RefineConfig(), {"motion": Motion.ROTATION_ONLY}),
    (RefineConfig(), {"failure": "lost"}),
])
def test_what_cannot_or_shall_not_be_refined_is_handed_back(zoom, config, change):
    frames, _, rough = zoom
    track = dataclasses.replace(rough, **change)
    assert refine(frames, track, None, config, CLASSICAL) is track
