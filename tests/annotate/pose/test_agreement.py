import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from annotate.pose.agreement import compare
from dataset.clip import CameraTrack, FrameVerdict, Motion

SIZE = (360, 640)


def make_track(frames: int = 40, focal: float = 500.0, motion: Motion = Motion.PARALLAX) -> CameraTrack:
    """A curved walk of about eight units that looks around."""
    time = np.linspace(0.0, 1.0, frames)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, 3] = np.stack([3 * np.sin(2 * time), 0.2 * np.cos(9 * time), 7 * time], 1)
    angles = np.stack([50 * time, 5 * np.sin(7 * time)], 1)
    c2w[:, :3, :3] = Rotation.from_euler("yx", angles, degrees=True).as_matrix()
    return CameraTrack(
        c2w=c2w, intrinsics=np.tile([focal, focal, 320.0, 180.0], (frames, 1)), size=SIZE,
        timestamps=np.arange(frames) / 16, sigma_position=np.full(frames, np.nan),
        sigma_rotation_deg=np.full(frames, np.nan),
        frame_verdict=np.full(frames, FrameVerdict.ESTIMATED, np.uint8), motion=motion, engine="test",
    )


def in_another_world(
    track: CameraTrack, scale: float, rotation: np.ndarray, shift: np.ndarray
) -> CameraTrack:
    c2w = track.c2w.copy()
    c2w[:, :3, 3] = scale * c2w[:, :3, 3] @ rotation.T + shift
    c2w[:, :3, :3] = rotation @ c2w[:, :3, :3]
    return dataclasses.replace(track, c2w=c2w)


def keep_only(track: CameraTrack, kept: np.ndarray) -> CameraTrack:
    verdict, c2w = np.zeros(len(track.c2w), np.uint8), np.full_like(track.c2w, np.nan)
    verdict[kept], c2w[kept] = FrameVerdict.ESTIMATED, track.c2w[kept]
    return dataclasses.replace(track, c2w=c2w, frame_verdict=verdict)


def test_a_track_agrees_with_itself_exactly():
    found = compare(make_track(), make_track())
    assert found.agrees is True and found.frames == 40
    assert found.position < 1e-9 and found.rotation_deg < 1e-5 and found.focal == 0.0


@settings(max_examples=30, deadline=None)
@given(
    log_scale=st.floats(-5, 5), turn=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    shift=st.lists(st.floats(-100, 100), min_size=3, max_size=3), seed=st.integers(0, 1000),
)
def test_the_world_an_engine_chose_changes_nothing(log_scale, turn, shift, seed):
    track, noise = make_track(), np.random.default_rng(seed)
    other = make_track(focal=510.0)
    other.c2w[:, :3, 3] += noise.normal(0, 0.05, (40, 3))
    other.c2w[:, :3, :3] @= Rotation.from_rotvec(noise.normal(0, 0.01, (40, 3))).as_matrix()
    before = compare(track, other)
    rotation = Rotation.from_rotvec(turn).as_matrix()
    moved = in_another_world(other, np.exp(log_scale), rotation, np.array(shift))
    after = compare(track, moved)
    assert after.agrees == before.agrees
    assert after.position == pytest.approx(before.position, rel=1e-6)
    assert after.rotation_deg == pytest.approx(before.rotation_deg, rel=1e-6)
    assert after.focal == pytest.approx(0.02)


def test_position_is_measured_as_a_share_of_the_path():
    track = make_track()
    steps = np.linalg.norm(np.diff(track.c2w[:, :3, 3], axis=0), axis=1).sum()
    other = make_track()
    bumps = np.where(np.arange(40) % 2, 1.0, -1.0) * 0.02 * steps
    other.c2w[:, 1, 3] += bumps
    found = compare(track, other)
    assert found.position == pytest.approx(0.02, rel=0.02)
    assert found.agrees is False and "position" in found.reason


def test_a_wrong_focal_length_and_a_drifting_rotation_are_told_apart():
    other = make_track(focal=520.0)
    assert (found := compare(make_track(), other)).agrees is False
    assert found.focal == pytest.approx(0.04) and "focal" in found.reason and "rotation" not in found.reason
    drifting = make_track()
    yaw = Rotation.from_rotvec(np.radians(np.linspace(0, 12, 40))[:, None] * np.array([0, 1, 0])).as_matrix()
    drifting.c2w[:, :3, :3] = drifting.c2w[:, :3, :3] @ yaw
    assert (found := compare(make_track(), drifting)).agrees is False
    # a ramp of 12 degrees is left with its standard deviation once its mean is turned away
    assert found.rotation_deg == pytest.approx(12 / np.sqrt(12), rel=0.06)
    assert "rotation" in found.reason and "focal" not in found.reason


def test_a_focal_length_that_the_engine_itself_hardly_knows_may_differ_more():
    unsure = make_track()
    unsure.diagnostics["focal_sigma_log"] = 0.04
    assert compare(unsure, make_track(focal=540.0)).agrees is True
    assert compare(unsure, make_track(focal=560.0)).agrees is False


def test_a_zoom_that_the_other_engine_averaged_away_is_a_disagreement():
    track = make_track()
    track.intrinsics[:, :2] *= np.linspace(0.8, 1.2, 40)[:, None]
    found = compare(track, make_track())
    assert found.agrees is False and found.focal == pytest.approx(0.1, abs=0.02)


def test_a_straight_path_is_compared_although_its_turn_about_the_line_is_free():
    track, other = make_track(), make_track()
    for t in (track, other):
        t.c2w[:, :3, 3] = np.linspace(0, 5, 40)[:, None] * np.array([0.0, 0.0, 1.0])
    other = in_another_world(other, 3.0, Rotation.from_rotvec([0.3, -1.0, 2.0]).as_matrix(), np.ones(3))
    found = compare(track, other)
    assert found.agrees is True and found.position < 1e-9 and found.rotation_deg < 1e-5


def test_cameras_that_only_turn_are_compared_by_rotation_and_focal_length():
    track, other = (make_track(motion=Motion.ROTATION_ONLY) for _ in range(2))
    for t in (track, other):
        t.c2w[:, :3, 3] = 0.0
    found = compare(track, other)
    assert found.agrees is True and found.position is None and found.rotation_deg < 1e-5


def test_one_engine_sees_motion_where_the_other_sees_none():
    found = compare(make_track(), make_track(motion=Motion.STATIC))
    assert found.agrees is False and "motion" in found.reason and found.focal is None


def test_keyframes_of_the_second_engine_are_enough_but_a_short_piece_is_not():
    track = make_track()
    assert compare(track, keep_only(track, np.arange(0, 40, 4))).agrees is True
    piece = compare(track, keep_only(track, np.arange(12)))
    assert piece.agrees is None and piece.position is None and "too few" in piece.reason


def test_a_failed_engine_is_no_evidence():
    track = make_track()
    failed = CameraTrack.failed("lost", track.timestamps, SIZE, "other", Motion.CHAOTIC)
    found = compare(track, failed)
    assert found.agrees is None and "lost" in found.reason


def test_tracks_of_different_clips_are_refused():
    with pytest.raises(ValueError, match="40 and 39 frames"):
        compare(make_track(40), make_track(39))
