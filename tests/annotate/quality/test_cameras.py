"""Camera scores of tracks whose answer is known by arithmetic."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.quality.cameras import camera_scores
from dataset.clip import CameraTrack, FrameVerdict, Motion

SCORES = {"fov_x_deg", "fov_y_deg", "fov_outside_share", "focal_divergence", "speed_max", "acceleration_max",
          "angular_speed_max_deg", "angular_jump_deg", "jerk_ratio"}


def track(centres: np.ndarray, yaw_deg: np.ndarray | None = None, focal: tuple[float, float] = (800, 800),
          unit: str = "m", size: tuple[int, int] = (704, 1280)) -> CameraTrack:
    count = len(centres)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, 3] = centres
    if yaw_deg is not None:
        c2w[:, :3, :3] = Rotation.from_euler("y", yaw_deg[:, None], degrees=True).as_matrix()
    intrinsics = np.tile([*focal, size[1] / 2, size[0] / 2], (count, 1)).astype(float)
    return CameraTrack(
        c2w=c2w, intrinsics=intrinsics, size=size, timestamps=np.arange(count) / 16,
        sigma_position=np.full(count, np.nan), sigma_rotation_deg=np.full(count, np.nan),
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=Motion.PARALLAX,
        engine="test", unit=unit)


def walk(count: int = 33, step_m: float = 0.1) -> np.ndarray:
    return np.outer(np.arange(count) * step_m, [0.6, 0, 0.8])


def test_a_steady_walk_has_one_speed_and_no_acceleration() -> None:
    scores = camera_scores(track(walk()))
    assert set(scores) == SCORES
    assert scores["speed_max"] == pytest.approx(1.6)
    assert scores["acceleration_max"] == pytest.approx(0, abs=1e-9)
    assert scores["jerk_ratio"] == pytest.approx(1)
    assert scores["angular_speed_max_deg"] == pytest.approx(0, abs=1e-6)


def test_speeds_without_metres_are_path_lengths_per_second() -> None:
    relative = camera_scores(track(walk() / 3.2, unit="path"))
    engine = camera_scores(track(walk() * 7, unit="engine"))
    assert relative["speed_max"] == pytest.approx(0.5)  # 32 steps of 1/32 in 2 s
    assert engine["speed_max"] == pytest.approx(0.5)


def test_a_leap_shows_as_jerk_and_acceleration() -> None:
    centres = walk()
    centres[20:] += [0.24, 0, 0.32]  # one step of 0.5 m instead of 0.1
    scores = camera_scores(track(centres))
    assert scores["jerk_ratio"] == pytest.approx(5)
    assert scores["acceleration_max"] == pytest.approx((8 - 1.6) * 16)


def test_an_angular_jump_is_the_change_of_the_turn_from_frame_to_frame() -> None:
    yaw = np.arange(33) * 0.5
    yaw[16:] += 3.0
    scores = camera_scores(track(walk(), yaw))
    assert scores["angular_jump_deg"] == pytest.approx(3.0)
    assert scores["angular_speed_max_deg"] == pytest.approx(3.5 * 16)


@pytest.mark.parametrize("focal, outside", [
    (369.4, 1), (369.6, 0), (1587.7, 0), (1588.0, 1),  # bounds of square pixels at 1280 x 704
])
def test_the_field_of_view_is_bounded_both_ways(focal: float, outside: float) -> None:
    scores = camera_scores(track(walk(), focal=(focal, focal)))
    assert scores["fov_outside_share"] == outside
    assert scores["fov_x_deg"] == pytest.approx(math.degrees(2 * math.atan(1280 / 2 / focal)))
    assert scores["fov_y_deg"] == pytest.approx(math.degrees(2 * math.atan(704 / 2 / focal)))


def test_focal_divergence_is_relative_to_the_mean() -> None:
    assert camera_scores(track(walk(), focal=(900, 1100)))["focal_divergence"] == pytest.approx(0.2)


def test_frames_outside_are_counted_not_averaged_away() -> None:
    zooming = track(walk(40))
    zooming.intrinsics[:4, :2] = 5000
    scores = camera_scores(zooming)
    assert scores["fov_outside_share"] == pytest.approx(0.1)
    assert scores["fov_x_deg"] == pytest.approx(math.degrees(2 * math.atan(0.8)))


def test_a_gap_in_the_poses_makes_no_leap() -> None:
    gappy = track(walk(), np.arange(33) * 1.0)
    gappy.frame_verdict[10:14] = FrameVerdict.UNPOSED
    gappy.c2w[10:14] = np.nan
    whole, holed = camera_scores(track(walk(), np.arange(33) * 1.0)), camera_scores(gappy)
    assert holed == pytest.approx(whole)


def test_a_camera_that_only_turns_has_no_translation_scores() -> None:
    scores = camera_scores(track(np.zeros((33, 3)), np.arange(33) * 2.0, unit="path"))
    assert scores["speed_max"] is None
    assert scores["acceleration_max"] is None
    assert scores["jerk_ratio"] is None
    assert scores["angular_speed_max_deg"] == pytest.approx(32)


def test_a_failed_track_answers_nothing() -> None:
    failed = CameraTrack.failed("too few tracks", np.arange(9) / 16, (704, 1280), "test", Motion.LOW_TEXTURE)
    assert camera_scores(failed) == dict.fromkeys(SCORES)


def test_scores_survive_tracks_too_short_to_differ() -> None:
    one, two = camera_scores(track(walk(1))), camera_scores(track(walk(2)))
    assert one["speed_max"] is None
    assert two["speed_max"] == pytest.approx(1.6)
    assert two["acceleration_max"] is None
    assert two["angular_jump_deg"] is None
