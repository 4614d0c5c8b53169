"""The room of the learning benchmark: paths stay where it is free, and cameras are found from pictures."""

import cv2
import numpy as np
import pytest

from benchmarks.learn_world import RADIUS_M, Locator, Room, camera_error, draw_path, poses

SIZE = (32, 48)


def test_paths_stay_in_the_free_disc_and_differ():
    rng = np.random.default_rng(0)
    paths = np.stack([draw_path(rng, 33) for _ in range(50)])
    assert np.linalg.norm(paths[..., :2], axis=-1).max() <= RADIUS_M + 1e-9
    assert np.ptp(paths[:, -1, 2] - paths[:, 0, 2]) > 1.0, "some turn left and some turn right"
    rotations = poses(paths[0])[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (33, 1, 1)),
                               atol=1e-12)


def test_the_error_of_a_camera_is_its_turn_and_its_distance():
    true = np.array([[0.3, 0.1, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0]])
    error = camera_error(true + [0.3, 0.4, 0.0, 0.0], true)
    np.testing.assert_allclose(error.translation_m, 0.5)
    np.testing.assert_allclose(error.rotation_deg, 0.0, atol=1e-5)
    turned = camera_error(true + [0.0, 0.0, 0.2, 0.0], true)
    assert turned.rotation_deg[1] == pytest.approx(np.degrees(0.2))


def test_a_camera_is_found_from_a_blurred_picture():
    room = Room(0, SIZE)
    locator = Locator(room, places=400, farthest=2.0)
    true = np.array([[0.4, -0.3, 0.5, 0.05], [-0.5, 0.2, -0.7, 0.1]])
    pictures = [cv2.GaussianBlur(room.picture(c2w), (0, 0), 0.8) for c2w in poses(true)]
    error = camera_error(np.stack([locator.find(picture) for picture in pictures]), true)
    assert error.rotation_deg.max() < 3 and error.translation_m.max() < 0.3
