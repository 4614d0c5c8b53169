"""What a clip shows, from tracks whose camera is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from annotate.pose.probe import probe
from annotate.pose.tracks import Tracks
from dataset.clip import Motion

SIZE = (360, 640)
FOCAL = 500.0


def seen_tracks(
    cloud: np.ndarray, turns: np.ndarray, centres: np.ndarray, noise: float = 0.04, survival: float = 0.95
) -> Tracks:
    """Tracks of a cloud by cameras with rotation vectors and centres (F, 3), a keyframe every 8 frames."""
    rng = np.random.default_rng(0)
    frames, ids, pixels = [], [], []
    for index, (turn, centre) in enumerate(zip(turns, centres)):
        local = (cloud - centre) @ cv2.Rodrigues(turn)[0].T
        pixel = local[:, :2] / local[:, 2:] * FOCAL + [320, 180]
        inside = (local[:, 2] > 0.3) & (pixel > 5).all(1) & (pixel < [635, 355]).all(1)
        frames.append(np.full(int(inside.sum()), index))
        ids.append(np.flatnonzero(inside))
        pixels.append(pixel[inside] + rng.normal(0, noise, (int(inside.sum()), 2)))
    count = len(turns)
    keyframes = np.unique(np.append(np.arange(0, count, 8), count - 1))
    shares = np.full(count, survival)
    frame, track, pixel = (np.concatenate(parts) for parts in (frames, ids, pixels))
    return Tracks(frame, track, pixel, keyframes, shares, SIZE)


def room(points: int = 500) -> np.ndarray:
    return np.random.default_rng(1).uniform([-5, -2.5, 2.5], [5, 2.5, 8], (points, 3))


def wall(points: int = 500) -> np.ndarray:
    cloud = np.random.default_rng(2).uniform([-4, -2.5, 0], [4, 2.5, 0], (points, 3))
    cloud[:, 2] = 5 + 0.4 * cloud[:, 0]
    return cloud


STEPS = np.linspace(0, 1, 49)[:, None]
STILL = np.zeros((49, 3))


@pytest.mark.parametrize("cloud,turns,centres,expected", [
    (room(), STILL, STILL, Motion.STATIC),
    (room(), STEPS * [0.1, 0.5, 0.05], STILL, Motion.ROTATION_ONLY),
    (room(), STILL, STEPS * [1.5, 0.1, 0.3], Motion.PARALLAX),
    (room(), STEPS * [0.0, -0.3, 0.0], STEPS * [1.5, 0.0, 0.5], Motion.PARALLAX),
    (wall(), STEPS * [0.0, -0.2, 0.1], STEPS * [1.5, 0.3, 0.5], Motion.PLANAR),
])
def test_the_class_is_the_cameras(
    cloud: np.ndarray, turns: np.ndarray, centres: np.ndarray, expected: Motion
) -> None:
    assert probe(seen_tracks(cloud, turns, centres), 100).motion == expected


def test_a_slow_drift_is_not_standing_still() -> None:
    slow = seen_tracks(room(), STILL, STEPS * [0.05, 0.0, 0.0])
    assert probe(slow, 100).flow_px < 1.5
    assert probe(slow, 100).motion != Motion.STATIC


def test_something_moving_before_a_still_camera_leaves_it_still() -> None:
    tracks = seen_tracks(room(), STILL, STILL)
    tracks.pixel[tracks.track % 4 == 0] += 3.0 * tracks.frame[tracks.track % 4 == 0, None]
    assert probe(tracks, 100).motion == Motion.STATIC


def test_few_tracks_are_low_texture_and_short_ones_chaotic() -> None:
    assert probe(seen_tracks(room(60), STILL, STEPS), 100).motion == Motion.LOW_TEXTURE
    assert probe(seen_tracks(room(), STILL, STEPS, survival=0.3), 100).motion == Motion.CHAOTIC
