"""Relative poses of two views, and which pairs to start from."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.pose.tracks import Tracks
from annotate.pose.twoview import candidate_pairs, relative_pose
from dataset.camera import rotation_angle_deg

INTRINSICS = np.array([500.0, 500.0, 320.0, 180.0])


def views(turn: np.ndarray, shift: np.ndarray, points: int = 300) -> tuple[np.ndarray, np.ndarray]:
    cloud = np.random.default_rng(0).uniform([-4, -2, 4], [4, 2, 10], (points, 3))
    moved = cloud @ cv2.Rodrigues(turn)[0].T + shift
    return tuple(p[:, :2] / p[:, 2:] * 500 + [320, 180] for p in (cloud, moved))  # type: ignore[return-value]


def test_the_relative_pose_survives_outliers() -> None:
    turn, shift = np.array([0.02, -0.1, 0.03]), np.array([0.8, 0.1, 0.2])
    a, b = views(turn, shift)
    rng = np.random.default_rng(1)
    b += rng.normal(0, 0.1, b.shape)
    b[:80] += rng.uniform(-60, 60, (80, 2))
    pose = relative_pose(a, b, INTRINSICS, INTRINSICS)
    assert pose is not None
    assert rotation_angle_deg(pose.rotation @ cv2.Rodrigues(turn)[0].T) < 0.3
    assert pose.translation @ shift / np.linalg.norm(shift) > 0.999
    assert pose.inliers >= 210 and pose.cheirality > 0.95


def test_too_few_points_give_no_pose() -> None:
    a, b = views(np.zeros(3), np.array([1.0, 0, 0]), points=6)
    assert relative_pose(a, b, INTRINSICS, INTRINSICS) is None


def test_the_start_lies_where_the_camera_moves() -> None:
    """The camera stands for half of the clip, then walks."""
    cloud = np.random.default_rng(0).uniform([-5, -2, 3], [7, 2, 9], (600, 3))
    frames, ids, pixels = [], [], []
    for index in range(40):
        local = cloud - [max(index - 20, 0) * 0.08, 0, 0]
        pixel = local[:, :2] / local[:, 2:] * 500 + [320, 180]
        inside = (pixel > 0).all(1) & (pixel < [640, 360]).all(1)
        frames.append(np.full(int(inside.sum()), index))
        ids.append(np.flatnonzero(inside))
        pixels.append(pixel[inside])
    tracks = Tracks(np.concatenate(frames), np.concatenate(ids), np.concatenate(pixels), np.arange(0, 40, 3),
                    np.ones(40), (360, 640))
    pairs = candidate_pairs(tracks)
    assert tracks.keyframes[pairs[0].second] > 25
    assert pairs[0].parallax_px > 10
    assert len({pair.first for pair in pairs}) == len(pairs)
