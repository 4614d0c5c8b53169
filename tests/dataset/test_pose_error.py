"""Errors against the true cameras, for disturbances whose size is known."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset.clip import CameraTrack, FrameVerdict, Motion
from dataset.pose_error import pose_error


def yaw(degrees: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(np.radians(degrees)[:, None] * (0, 1, 0)).as_matrix()


def walk(count: int = 60) -> CameraTrack:
    u = np.linspace(0, 1, count)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, 3] = np.stack([np.sin(3 * u), 0.1 * np.sin(9 * u), 4 * u], axis=1)
    c2w[:, :3, :3] = yaw(40 * u)
    return CameraTrack(
        c2w=c2w, intrinsics=np.tile([600.0, 600, 320, 180], (count, 1)), size=(360, 640), timestamps=u * 4,
        sigma_position=np.full(count, np.nan), sigma_rotation_deg=np.full(count, np.nan),
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=Motion.PARALLAX, engine="test",
        unit="m")


def moved(track: CameraTrack, **changes: object) -> CameraTrack:
    return dataclasses.replace(track, c2w=track.c2w.copy(), intrinsics=track.intrinsics.copy(), **changes)


def test_a_perfect_track_in_another_world_and_unit_has_no_error():
    truth = walk()
    track = moved(truth, unit="path")
    turn = Rotation.random(random_state=0).as_matrix()
    track.c2w[:, :3, 3] = 0.2 * track.c2w[:, :3, 3] @ turn.T + (5, 6, 7)
    track.c2w[:, :3, :3] = turn @ track.c2w[:, :3, :3]
    error = pose_error(track, truth)
    assert error.posed_share == 1.0 and error.scale is None
    assert error.ate_share < 1e-9 and error.rotation_first_deg < 1e-5 and error.focal == 0.0


def test_scale_focal_and_drift_are_measured_apart():
    truth = walk()
    track = moved(truth).scaled(1.08, "m")
    track.intrinsics[:, 0] *= 1.03
    track.c2w[:, :3, :3] = track.c2w[:, :3, :3] @ yaw(np.linspace(0, 2.0, 60))
    error = pose_error(track, truth)
    assert error.scale == pytest.approx(0.08)
    assert error.focal == pytest.approx(0.03)
    assert error.rotation_first_deg == pytest.approx(2.0)
    assert error.rotation_step_deg == pytest.approx(2.0 / 59, rel=1e-3)
    assert error.ate_share < 1e-9


def test_the_focal_error_compares_shares_of_the_width_not_pixels():
    truth = walk()
    track = moved(truth, size=(720, 1280))
    track.intrinsics *= 2
    assert pose_error(track, truth).focal == pytest.approx(0.0)


def test_frames_without_a_pose_do_not_count_but_show():
    truth, track = walk(), moved(walk())
    track.frame_verdict[:15] = FrameVerdict.UNPOSED
    track.c2w[:15] = np.nan
    error = pose_error(track, truth)
    assert error.posed_share == 0.75 and error.ate_share < 1e-9
    track.frame_verdict[:] = FrameVerdict.UNPOSED
    assert pose_error(track, truth).ate_share is None


def test_a_standing_camera_has_no_path_error_and_no_scale():
    truth = walk()
    truth.c2w[:, :3, 3] = (1.0, 2.0, 3.0)
    error = pose_error(moved(truth), truth)
    assert error.ate_share is None and error.scale is None and error.rotation_first_deg < 1e-5
