"""Depth maps of drawn clips against exact depth."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.depth import DepthConfig, DepthStage
from annotate.depth.stage import sweep_clip
from annotate.frames import ArrayFrames
from annotate.stage import Clip
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, Kind, Motion

FRAMES = 41
CONFIG = DepthConfig(planes=48)


def drawn(uri, frames=FRAMES):
    images, track, depth = render_sequence(SyntheticSpec.parse(uri), frames, 320, 180)
    return ArrayFrames(images), track, depth


def clip_of(frames, track, **files):
    named = {name.replace("_npz", ".npz"): data for name, data in files.items()}
    return Clip(ClipRecord("c", "v", Kind.CLIP), {"pose.npz": track.to_npz(), **named}, frames)


@pytest.fixture(scope="module")
def room():
    return drawn("synthetic://room-orbit?seed=1")


def relative_errors(maps, depth, unit=1.0):
    truth = np.stack([depth(int(frame)) for frame in maps.frames]) * unit
    assert np.isfinite(truth[maps.valid]).mean() > 0.98  # hardly any sky
    valid = maps.valid & np.isfinite(truth)
    return np.abs(maps.depth.astype(np.float64)[valid] / truth[valid] - 1)


@pytest.mark.parametrize(("uri", "share"), [
    ("synthetic://room-orbit?seed=1&noise=2", 0.5), ("synthetic://street-walk?seed=2", 0.3),
    ("synthetic://room-forward?seed=3&zoom=1.3", 0.4),
])
def test_depth_is_right_where_it_claims_to_be_and_covers_textured_scenes(uri, share):
    frames, track, depth = drawn(uri)
    maps, failure = sweep_clip(frames, track, CONFIG)
    assert failure is None
    errors = relative_errors(maps, depth)
    assert np.median(errors) < 0.02
    assert np.mean(errors > 0.1) < 0.04
    assert maps.valid.mean() > share
    assert maps.depth.dtype == np.float16 and maps.depth.shape[1:] == (180, 320)
    assert (maps.frames % 8 == 0).all() and len(maps.frames) >= 4
    assert (maps.depth[~maps.valid] == 0).all()
    assert maps.intrinsics == pytest.approx(track.intrinsics[maps.frames])


def test_depth_comes_in_the_unit_of_the_poses(room):
    frames, track, depth = room
    small = track.scaled(0.01, "engine")
    maps, _ = sweep_clip(frames, small, CONFIG)
    assert np.median(relative_errors(maps, depth, unit=0.01)) < 0.02


def test_maps_are_smaller_than_the_clip_and_keep_its_pixel_centres(room):
    frames, track, depth = room
    maps, _ = sweep_clip(frames, track, dataclasses.replace(CONFIG, width=160, planes=32))
    assert maps.depth.shape[1:] == (90, 160)
    assert maps.intrinsics == pytest.approx(track.intrinsics[maps.frames] / 2)
    truth = np.stack([depth(int(frame))[1::2, 1::2] for frame in maps.frames])
    error = maps.depth.astype(np.float64)[maps.valid] / truth[maps.valid] - 1
    assert np.median(np.abs(error)) < 0.03


def test_a_moving_box_is_left_out_rather_than_misplaced():
    frames, track, depth = drawn("synthetic://room-forward?seed=3&moving=true", 49)
    maps, failure = sweep_clip(frames, track, CONFIG)
    assert failure is None
    still = drawn("synthetic://room-forward?seed=3", 1)[2]
    assert np.isfinite(still(0)).all()
    errors = relative_errors(maps, depth)
    assert np.median(errors) < 0.02 and np.mean(errors > 0.1) < 0.06


def test_wrong_poses_give_little_depth_instead_of_wrong_depth(room):
    frames, track, _ = room
    jitter = Rotation.from_rotvec(np.radians(3) * np.random.default_rng(0).standard_normal((FRAMES, 3)))
    c2w = track.c2w.copy()
    c2w[:, :3, :3] = c2w[:, :3, :3] @ jitter.as_matrix()
    maps, failure = sweep_clip(frames, dataclasses.replace(track, c2w=c2w), CONFIG)
    right, _ = sweep_clip(frames, track, CONFIG)
    assert failure is not None or maps.valid.mean() < 0.3 * right.valid.mean()


def test_texture_free_surfaces_stay_empty():
    frames, track, _ = drawn("synthetic://room-orbit?seed=1&texture=low")
    maps, failure = sweep_clip(frames, track, CONFIG)
    assert failure is not None or maps.valid.mean() < 0.2


@pytest.mark.parametrize(("change", "reason"), [
    ({"motion": Motion.STATIC}, "does not move"), ({"motion": Motion.ROTATION_ONLY}, "only turns"),
    ({"failure": "too few tracks"}, "no poses: too few tracks"),
])
def test_clips_without_parallax_or_poses_say_so(room, change, reason):
    frames, track, _ = room
    output = DepthStage(CONFIG).process(clip_of(frames, dataclasses.replace(track, **change)))
    assert output.files == {} and output.fields["depth_frames"] == 0
    assert reason in output.fields["depth_failure"]


def test_unposed_frames_are_not_used(room):
    frames, track, depth = room
    c2w, verdict = track.c2w.copy(), track.frame_verdict.copy()
    c2w[14:19], verdict[14:19] = np.nan, 0
    maps, failure = sweep_clip(frames, dataclasses.replace(track, c2w=c2w, frame_verdict=verdict), CONFIG)
    assert failure is None
    assert maps.frames.tolist() == [0, 8, 24, 32, 40]
    assert np.median(relative_errors(maps, depth)) < 0.02


def test_given_metric_depth_is_passed_on_and_equal_input_gives_equal_bytes(room):
    frames, track, _ = room
    given = DepthMaps(np.ones((1, 4, 4), np.float16), np.ones((1, 4, 4), bool), np.array([3]),
                      np.ones((1, 4)), "given")
    output = DepthStage(CONFIG).process(clip_of(frames, track, given_depth_npz=given.to_npz()))
    assert DepthMaps.from_npz(output.files["depth.npz"]).frames.tolist() == [3]
    assert output.fields["depth_engine"] == "given"
    engine = clip_of(frames, track.scaled(1.0, "engine"), given_depth_npz=given.to_npz())
    first, second = (DepthStage(CONFIG).process(engine) for _ in range(2))
    assert first.fields["depth_engine"] == "plane_sweep"
    assert first.files["depth.npz"] == second.files["depth.npz"]
    assert CameraTrack.from_npz(engine.files["pose.npz"]).unit == "engine"


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"depth\.planes=1, allowed 8 to 512"):
        DepthConfig(planes=1)
    with pytest.raises(ValueError, match="must be odd"):
        DepthConfig(window=6)
