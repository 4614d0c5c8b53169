"""Resection of many frames at once."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.pose.bundle import Noise
from annotate.pose.pnp import ransac_pose, resect
from annotate.pose.reprojection import Cameras, Observations, residuals, rotation_from_vector


def view(frames: int = 7, points: int = 150) -> tuple[Cameras, np.ndarray, Observations]:
    rng = np.random.default_rng(0)
    cloud = rng.uniform([-3, -2, 4], [3, 2, 9], (points, 3))
    steps = np.linspace(0, 1, frames)[:, None]
    cameras = Cameras(rotation_from_vector(steps * [0.1, -0.2, 0.05]), steps * [1.0, 0.2, -0.5],
                      np.tile([460.0, 470.0, 320.0, 180.0], (frames, 1)), -0.02)
    camera, point = (index.ravel() for index in np.mgrid[:frames, :points])
    seen = Observations(camera, point, np.zeros((len(camera), 2)))
    seen.pixel = residuals(cameras, cloud, seen)[0]
    return cameras, cloud, seen


def disturbed(truth: Cameras, amount: float) -> Cameras:
    rng = np.random.default_rng(2)
    start = truth.copy()
    start.rotation = rotation_from_vector(rng.normal(0, amount, (len(truth), 3))) @ truth.rotation
    start.centre = truth.centre + rng.normal(0, 2 * amount, (len(truth), 3))
    return start


def test_every_frame_is_posed_exactly_from_exact_points() -> None:
    truth, cloud, seen = view()
    found = resect(disturbed(truth, 0.05), cloud, seen, Noise(0.4, 1.0), 2.5, iterations=40)
    np.testing.assert_allclose(found.cameras.centre, truth.centre, atol=1e-6)
    np.testing.assert_allclose(found.cameras.rotation, truth.rotation, atol=1e-6)
    assert (found.share == 1).all() and (found.inliers == 150).all()


def test_a_fifth_of_gross_errors_is_borne_and_counted() -> None:
    truth, cloud, seen = view()
    rng = np.random.default_rng(4)
    seen.pixel += rng.normal(0, 0.2, seen.pixel.shape)
    wrong = rng.random(len(seen)) < 0.2
    seen.pixel[wrong] += rng.uniform(20, 60, (int(wrong.sum()), 2))
    found = resect(disturbed(truth, 0.02), cloud, seen, Noise(0.2, 0.5), 2.5, iterations=40)
    assert np.linalg.norm(found.cameras.centre - truth.centre, axis=1).max() < 0.02
    assert found.share == pytest.approx(1 - wrong.reshape(7, -1).mean(1), abs=0.03)


def test_the_covariance_is_the_spread_of_repeated_poses() -> None:
    truth, cloud, seen = view(frames=60)
    seen.pixel += np.random.default_rng(6).normal(0, 0.3, seen.pixel.shape)
    found = resect(truth.copy(), cloud, seen, Noise(0.3, 3.0), 2.5)
    stated = np.sqrt(np.median([np.diag(c)[3:] for c in found.covariance], axis=0))
    spread = (found.cameras.centre - truth.centre).std(0)
    np.testing.assert_allclose(spread / stated, 1.0, atol=0.4)


def test_a_camera_that_sees_nothing_stays_where_it_is() -> None:
    truth, cloud, seen = view()
    start = disturbed(truth, 0.02)
    before = start.centre[3].copy()
    found = resect(start, cloud, seen.select(seen.camera != 3), Noise(0.4, 1.0), 2.5)
    assert np.array_equal(found.cameras.centre[3], before)
    assert found.inliers[3] == 0 and np.isnan(found.covariance[3]).all()


def test_a_pose_is_found_without_a_guess_among_outliers() -> None:
    truth, cloud, seen = view(frames=2)
    truth.k1 = 0.0
    pixel = residuals(truth, cloud, Observations(seen.camera, seen.point, np.zeros_like(seen.pixel)))[0][:150]
    pixel[:40] += 30
    found = ransac_pose(cloud, pixel, truth.intrinsics[0], 2.0)
    assert found is not None
    np.testing.assert_allclose(found[0], truth.rotation[0], atol=1e-3)
    np.testing.assert_allclose(found[1], truth.centre[0], atol=1e-2)
    assert ransac_pose(cloud[:5], pixel[:5], truth.intrinsics[0], 2.0) is None
