"""Points from rays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from annotate.pose.reprojection import Cameras, Observations, residuals, rotation_from_vector
from annotate.pose.triangulation import rays, triangulate


def pair(k1: float = 0.0, baseline: float = 1.0) -> tuple[Cameras, np.ndarray, Observations]:
    cloud = np.random.default_rng(0).uniform([-2, -1, 4], [2, 1, 40], (50, 3))
    cameras = Cameras(rotation_from_vector(np.array([[0, 0, 0], [0.02, -0.1, 0.03], [0, 0.05, 0]])),
                      np.array([[0, 0, 0], [baseline, 0, 0], [0.5 * baseline, 0.1, 0.2]]),
                      np.tile([460.0, 460.0, 320.0, 180.0], (3, 1)), k1)
    camera, point = (index.ravel() for index in np.mgrid[:3, :50])
    seen = Observations(camera, point, np.zeros((150, 2)))
    seen.pixel = residuals(cameras, cloud, seen)[0]
    return cameras, cloud, seen


@given(st.floats(-0.1, 0.1), st.floats(0.2, 3.0))
def test_exact_rays_meet_in_the_exact_points(k1: float, baseline: float) -> None:
    cameras, cloud, seen = pair(k1, baseline)
    points, angle = triangulate(cameras, seen, 50)
    np.testing.assert_allclose(points, cloud, rtol=2e-3, atol=2e-3)
    first, second = cloud - cameras.centre[0], cloud - cameras.centre[1]
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert (angle >= np.degrees(np.arccos(np.clip(cosine, -1, 1))) - 0.02).all()


def test_far_points_are_not_pulled_towards_the_cameras() -> None:
    cameras, cloud, seen = pair()
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        noisy = Observations(seen.camera, seen.point, seen.pixel + rng.normal(0, 0.2, seen.pixel.shape))
        ratios.append(triangulate(cameras, noisy, 50)[0][:, 2] / cloud[:, 2])
    assert abs(np.median(ratios) - 1) < 0.002


def test_a_point_seen_once_has_no_angle() -> None:
    cameras, _, seen = pair()
    alone = seen.select((seen.point != 7) | (seen.camera == 0))
    _, angle = triangulate(cameras, alone, 50)
    assert angle[7] == 0 and np.delete(angle, 7).min() > 0.5


def test_rays_of_a_bent_lens_project_back_onto_their_pixels() -> None:
    cameras, _, seen = pair(k1=-0.05)
    points = cameras.centre[seen.camera] + 7.0 * rays(cameras, seen.camera, seen.pixel)
    each = Observations(seen.camera, np.arange(len(seen)), seen.pixel)
    assert np.abs(residuals(cameras, points, each)[0]).max() < 0.01
