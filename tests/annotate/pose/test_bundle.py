"""Bundle adjustment on exact synthetic points."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.pose import bundle
from annotate.pose.bundle import Cameras, Free, Observations, Priors, adjust, residuals


def scene(cameras: int = 9, points: int = 120, focal: np.ndarray | float = 460.0, k1: float = 0.0,
          seed: int = 0) -> tuple[Cameras, np.ndarray, Observations]:
    """Cameras walking sideways past a cloud they all mostly see, with exact observations."""
    rng = np.random.default_rng(seed)
    cloud = rng.uniform([-4, -2, 4], [6, 2, 10], (points, 3))
    steps = np.linspace(0, 1, cameras)
    centre = np.stack([2.5 * steps, 0.3 * np.sin(4 * steps), 0.8 * steps**2], 1)
    rotation = bundle.rotation_from_vector(np.stack([0.1 * np.sin(5 * steps), -0.3 * steps, 0.2 * steps], 1))
    intrinsics = np.zeros((cameras, 4))
    intrinsics[:, 0] = intrinsics[:, 1] = focal
    intrinsics[:, 2:] = 320, 180
    truth = Cameras(rotation, centre, intrinsics, k1)
    camera, point = (index.ravel() for index in np.mgrid[:cameras, :points])
    everything = Observations(camera, point, np.zeros((len(camera), 2)))
    everything.pixel, depth = residuals(truth, cloud, everything)
    keep = (depth > 0.5) & (np.abs(everything.pixel - [320, 180]) < [420, 280]).all(1)
    keep &= rng.random(len(camera)) < 0.8
    keep &= np.isin(point, np.flatnonzero(np.bincount(point[keep], minlength=points) >= 3))
    used, renumbered = np.unique(point[keep], return_inverse=True)
    return truth, cloud[used], Observations(camera[keep], renumbered, everything.pixel[keep])


def disturbed(
    truth: Cameras, cloud: np.ndarray, amount: float = 0.02, seed: int = 1
) -> tuple[Cameras, np.ndarray]:
    """A start near the truth; the first camera stays, as the gauge."""
    rng = np.random.default_rng(seed)
    start = truth.copy()
    turns = bundle.rotation_from_vector(rng.normal(0, amount, (len(truth) - 1, 3)))
    start.rotation[1:] = turns @ start.rotation[1:]
    start.centre[1:] += rng.normal(0, 3 * amount, (len(truth) - 1, 3))
    return start, cloud + rng.normal(0, 5 * amount, cloud.shape)


def scale_to(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Centres brought to the truth's scale; the first camera is shared."""
    a, b = found - found[0], truth - truth[0]
    return a * (a * b).sum() / (a * a).sum()


@pytest.mark.parametrize("focal,principal,distortion", [
    ("none", False, False), ("shared", False, False), ("each", False, False), ("shared", True, True)])
def test_derivatives_are_those_of_the_residuals(focal: str, principal: bool, distortion: bool) -> None:
    truth, cloud, seen = scene(cameras=4, points=30, k1=0.03)
    start, cloud = disturbed(truth, cloud)
    free = Free(focal=focal, principal=principal, distortion=distortion)
    _, by_camera, by_point, by_shared = bundle.linearise(start, cloud, seen, free)
    width, shared = by_camera.shape[2], by_shared.shape[2]
    h, still = 1e-6, np.zeros_like(cloud)
    for column in range(width * len(start) + shared):
        step = np.zeros(width * len(start) + shared)
        step[column] = h
        plus, _ = residuals(*bundle.moved_by(start, cloud, step, still, free), seen)
        minus, _ = residuals(*bundle.moved_by(start, cloud, -step, still, free), seen)
        numeric = (plus - minus) / (2 * h)
        if column < width * len(start):
            camera, inner = divmod(column, width)
            analytic = np.where((seen.camera == camera)[:, None], by_camera[:, :, inner], 0.0)
        else:
            analytic = by_shared[:, :, column - width * len(start)]
        np.testing.assert_allclose(analytic, numeric, atol=2e-4)
    for axis in range(3):
        moved = np.eye(3)[axis] * h
        plus, minus = (residuals(start, cloud + sign * moved, seen)[0] for sign in (1, -1))
        numeric = (plus - minus) / (2 * h)
        np.testing.assert_allclose(by_point[:, :, axis], numeric, atol=2e-4)


def test_exact_points_give_the_exact_cameras() -> None:
    truth, cloud, seen = scene()
    start, moved = disturbed(truth, cloud)
    start.intrinsics[:, :2] *= 1.15
    found = adjust(start, moved, seen, Free(focal="shared"), max_iterations=100, tolerance=0.0)
    centres = scale_to(found.cameras.centre, truth.centre)
    np.testing.assert_allclose(centres, truth.centre - truth.centre[0], atol=1e-6)
    np.testing.assert_allclose(found.cameras.rotation, truth.rotation, atol=1e-6)
    np.testing.assert_allclose(found.cameras.intrinsics[:, 0], 460, atol=1e-3)


def test_lens_and_principal_point_are_recovered_when_freed() -> None:
    truth, cloud, seen = scene(k1=-0.08)
    truth.intrinsics[:, 2:] += 3.0, -2.0
    seen.pixel += 3.0, -2.0
    start, moved = disturbed(truth, cloud)
    start.k1 = 0.0
    start.intrinsics[:, 2:] = 320, 180
    free = Free(focal="shared", principal=True, distortion=True)
    found = adjust(start, moved, seen, free, Priors(k1_sigma=1e3), max_iterations=200, tolerance=0.0)
    assert found.cameras.k1 == pytest.approx(-0.08, abs=1e-4)
    np.testing.assert_allclose(found.cameras.intrinsics[0], [460, 460, 323, 178], atol=0.05)


def test_a_zoom_is_recovered_frame_by_frame() -> None:
    zoom = np.linspace(460, 600, 9)
    truth, cloud, seen = scene(focal=zoom, points=200)
    start, moved = disturbed(truth, cloud)
    start.intrinsics[:, :2] = 520
    priors = Priors(frame=np.arange(9) * 18)
    shared = adjust(start, moved, seen, Free(focal="shared"), max_iterations=60)
    free = Free(focal="each")
    each = adjust(shared.cameras, shared.points, seen, free, priors, max_iterations=100, tolerance=1e-9)
    assert each.cost < 0.1 * shared.cost
    np.testing.assert_allclose(each.cameras.intrinsics[:, 0], zoom, rtol=0.003)


def test_gross_errors_in_a_tenth_of_the_observations_hardly_matter() -> None:
    truth, cloud, seen = scene(points=200)
    rng = np.random.default_rng(3)
    seen.pixel += rng.normal(0, 0.2, seen.pixel.shape)
    wrong = rng.random(len(seen)) < 0.1
    seen.pixel[wrong] += rng.normal(0, 15, (int(wrong.sum()), 2))
    start, moved = disturbed(truth, cloud)
    found = adjust(start, moved, seen, Free(), max_iterations=60)
    error = scale_to(found.cameras.centre, truth.centre) - (truth.centre - truth.centre[0])
    path = np.linalg.norm(np.diff(truth.centre, axis=0), axis=1).sum()
    assert np.sqrt((error**2).sum(1).mean()) < 0.006 * path


def test_cameras_held_fixed_do_not_move() -> None:
    truth, cloud, seen = scene()
    start, moved = disturbed(truth, cloud, 0.005)
    mask = np.arange(len(truth)) >= 4
    start.rotation[:4], start.centre[:4] = truth.rotation[:4], truth.centre[:4]
    found = adjust(start, moved, seen, Free(cameras=mask), max_iterations=60, tolerance=0.0)
    assert np.array_equal(found.cameras.centre[:4], start.centre[:4])
    np.testing.assert_allclose(found.cameras.centre, truth.centre, atol=1e-6)


def test_the_covariance_is_the_spread_of_repeated_estimates() -> None:
    truth, cloud, seen = scene(cameras=5, points=60)
    exact = seen.pixel.copy()
    rng = np.random.default_rng(5)
    centres = []
    for _ in range(30):
        seen.pixel = exact + rng.normal(0, 0.3, exact.shape)
        found = adjust(truth, cloud, seen, Free(focal="shared"), noise_px=0.3, huber_px=3.0, covariance=True)
        centres.append(found.cameras.centre)
    assert found.covariance is not None and found.focal_sigma_log is not None
    stated = np.sqrt(np.diag(found.covariance)).reshape(5, 6)[1:, 3:]
    spread = np.std(centres, axis=0)[1:]
    moving = stated > 1e-12
    assert 0.6 < np.median(spread[moving] / stated[moving]) < 1.5


def test_a_long_chain_equals_its_dense_solution() -> None:
    """The grouping of points changes the cost of the reduction, never its value."""
    truth, cloud, seen = scene(cameras=7, points=500)
    free = Free(focal="shared", distortion=True)
    parts = bundle.linearise(truth, cloud, seen, free)
    order = np.argsort(seen.point, kind="stable")
    system = bundle.NormalEquations(seen.camera[order], seen.point[order], 7, len(cloud), 6, 2)
    error, by_camera, by_point, by_shared = (part[order] for part in parts)
    error = error + np.random.default_rng(0).normal(0, 1, error.shape)
    system.assemble(error, by_camera, by_point, by_shared)
    whole = np.zeros((2 * len(seen), 44 + 3 * len(cloud)))
    for o in range(len(seen)):
        c, p = seen.camera[order][o], seen.point[order][o]
        whole[2 * o:2 * o + 2, 6 * c:6 * c + 6] = by_camera[o]
        whole[2 * o:2 * o + 2, 42:44] = by_shared[o]
        whole[2 * o:2 * o + 2, 44 + 3 * p:47 + 3 * p] = by_point[o]
    normal, slope = whole.T @ whole, whole.T @ error.ravel()
    free_columns = np.arange(6, 44)
    keep = np.concatenate([free_columns, np.arange(44, 44 + 3 * len(cloud))])
    damped = normal + 0.01 * np.diag(np.diag(normal))
    expected = -np.linalg.solve(damped[np.ix_(keep, keep)], slope[keep])
    step = system.solve(0.01, free_columns)
    assert step is not None
    np.testing.assert_allclose(step[0][free_columns], expected[:38], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(step[1].ravel(), expected[38:], rtol=1e-4, atol=1e-6)
