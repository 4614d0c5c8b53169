"""The room of the learning benchmark: paths stay where it is free, and cameras are found from pictures."""

import cv2
import numpy as np
import pytest

from benchmarks.learn_world import FASTEST, FPS, RADIUS_M, Locator, Room, camera_error, draw_walk, poses

SIZE = (32, 48)


def test_walks_stay_in_the_free_disc_and_differ():
    rng = np.random.default_rng(0)
    walks = np.stack([draw_walk(rng, 33) for _ in range(50)])
    assert np.linalg.norm(walks[..., :2], axis=-1).max() <= RADIUS_M + 1e-9
    rates = np.diff(walks, axis=1) * FPS
    assert np.linalg.norm(rates[..., :2], axis=-1).max() <= FASTEST[0]
    assert np.linalg.norm(walks[:, -1, :2] - walks[:, 0, :2], axis=-1).mean() > 0.7
    assert np.ptp(walks[:, -1, 2] - walks[:, 0, 2]) > 0.8, "some turn left and some turn right"
    rotations = poses(walks[0])[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (33, 1, 1)),
                               atol=1e-12)


def test_the_error_of_a_camera_is_its_turn_and_its_distance():
    true = np.array([[0.3, 0.1, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0]])
    error = camera_error(true + [0.3, 0.4, 0.0, 0.0], true)
    np.testing.assert_allclose(error.translation_m, 0.5)
    np.testing.assert_allclose(error.rotation_deg, 0.0, atol=1e-5)
    turned = camera_error(true + [0.0, 0.0, 0.2, 0.0], true)
    assert turned.rotation_deg[1] == pytest.approx(np.degrees(0.2))


def test_cameras_are_followed_through_blurred_pictures():
    room = Room(0, (160, 240))
    walks = [draw_walk(np.random.default_rng(seed), 33) for seed in (0, 1)]
    for walk in walks:
        pictures = [cv2.GaussianBlur(room.picture(c2w, SIZE), (0, 0), 0.8) for c2w in poses(walk[8::8])]
        error = camera_error(Locator(room).follow(walk[0], pictures, 8 / FPS), walk[8::8])
        assert np.median(error.rotation_deg) < 2 and error.rotation_deg.max() < 8
        assert np.median(error.translation_m) < 0.1 and error.translation_m.max() < 0.3
