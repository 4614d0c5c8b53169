"""Bundle adjustment on exact synthetic points."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.pose import reprojection
from annotate.pose.bundle import Noise, Priors, Solution, adjust
from annotate.pose.normal import NormalEquations
from annotate.pose.reprojection import Cameras, Free, Observations, residuals


def scene(cameras: int = 9, points: int = 120, focal: np.ndarray | float = 460.0, k1: float = 0.0,
          seed: int = 0) -> tuple[Cameras, np.ndarray, Observations]:
    """Cameras walking sideways past a cloud they all mostly see, with exact observations."""
    rng = np.random.default_rng(seed)
    cloud = rng.uniform([-4, -2, 4], [6, 2, 10], (points, 3))
    steps = np.linspace(0, 1, cameras)
    centre = np.stack([2.5 * steps, 0.3 * np.sin(4 * steps), 0.8 * steps**2], 1)
    turn = np.stack([0.1 * np.sin(5 * steps), -0.3 * steps, 0.2 * steps], 1)
    rotation = reprojection.rotation_from_vector(turn)
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
    turns = reprojection.rotation_from_vector(rng.normal(0, amount, (len(truth) - 1, 3)))
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
    _, by_camera, by_point, by_shared = reprojection.linearise(start, cloud, seen, free)
    width, shared = by_camera.shape[2], by_shared.shape[2]
    h, still = 1e-6, np.zeros_like(cloud)
    for column in range(width * len(start) + shared):
        step = np.zeros(width * len(start) + shared)
        step[column] = h
        plus, _ = residuals(*reprojection.moved_by(start, cloud, step, still, free), seen)
        minus, _ = residuals(*reprojection.moved_by(start, cloud, -step, still, free), seen)
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


def repeated(noise: Noise, outliers: float = 0.0) -> tuple[np.ndarray, list[Solution]]:
    """Estimates from errors of 0.3 px drawn anew, and the ratios of their spread to what they state."""
    truth, cloud, seen = scene(cameras=5, points=60)
    exact = seen.pixel.copy()
    rng = np.random.default_rng(5)
    found = []
    for _ in range(30):
        sigma = np.where(rng.random((len(seen), 1)) < outliers, 2.0, 0.3)
        seen.pixel = exact + rng.normal(0, 1, exact.shape) * sigma
        found.append(adjust(truth, cloud, seen, Free(focal="shared"), noise=noise, variance=True))
    stated = np.sqrt(np.median([solution.variance[1:, 3:] for solution in found], axis=0))
    spread = np.std([solution.cameras.centre for solution in found], axis=0)[1:]
    moving = stated > 1e-12
    return spread[moving] / stated[moving], found


@pytest.mark.parametrize("noise,outliers", [
    (Noise(0.3, 3.0), 0.0), (Noise(2.0, 20.0), 0.0), (Noise(0.1, 1.0), 0.15), (Noise(0.3, 0.3), 0.15)])
def test_the_variance_is_the_spread_of_repeated_estimates(noise: Noise, outliers: float) -> None:
    """Also where the stated noise is wrong, and where many residuals count linearly."""
    ratio, found = repeated(noise, outliers)
    assert 0.6 < np.median(ratio) < 1.5
    assert all(solution.focal_sigma_log is not None for solution in found)


def test_what_is_not_determined_has_no_variance() -> None:
    truth, cloud, seen = scene(cameras=3, points=8)
    seen = seen.select(seen.point < 3)
    cloud = cloud[:3]
    solution = adjust(truth, cloud, seen, Free(), variance=True)
    assert solution.variance is None or (solution.variance[0] == 0).all()
    assert solution.focal_sigma_log is None


@pytest.mark.parametrize("cameras,loop", [(7, False), (90, False), (90, True)])
def test_the_reduction_equals_the_dense_solution(cameras: int, loop: bool) -> None:
    """Groups of points and blocks of cameras change the cost of the reduction, never its value."""
    rng = np.random.default_rng(0)
    points = 3 * cameras
    first = rng.integers(0, cameras, points)
    camera = (first[:, None] + np.arange(6)) % (cameras if loop or cameras < 10 else 10**9)
    point = np.repeat(np.arange(points), 6)
    keep = (camera.max(1) < cameras)[point]
    camera, point = camera.ravel()[keep], point[keep]
    width, shared, held = 6, 2, np.array([0, 1, 2, 3, 4, 5, 9])
    error, by_camera, by_point, by_shared = (
        rng.normal(0, 1, (len(camera), 2, *n)) for n in ((), (width,), (3,), (shared,)))
    system = NormalEquations(camera, point, cameras, points, width, shared)
    system.assemble(error, by_camera, by_point, by_shared)
    system.add_between(cameras - 2, 4, 3.0, 0.5)
    system.add_to_camera(3, 2, 2.0, -0.3)
    system.add_to_shared(1, 1.5, 0.2)
    size = width * cameras + shared
    whole = np.zeros((2 * len(camera) + 3, size + 3 * points))
    for o, (c, p) in enumerate(zip(camera, point)):
        whole[2 * o:2 * o + 2, width * c:width * c + width] = by_camera[o]
        whole[2 * o:2 * o + 2, size - shared:size] = by_shared[o]
        whole[2 * o:2 * o + 2, size + 3 * p:size + 3 * p + 3] = by_point[o]
    whole[-3, [width * (cameras - 2) + 4, width * (cameras - 1) + 4]] = -3.0, 3.0
    whole[-2, 3 * width + 2] = 2.0
    whole[-1, size - 1] = 1.5
    right = np.append(error.ravel(), [0.5, -0.3, 0.2])
    seen = np.flatnonzero(np.abs(whole).sum(0))
    keep_columns = np.setdiff1d(seen, held)
    normal, slope = whole.T @ whole, whole.T @ right
    for damping in (0.01, 0.0):
        damped = (normal + damping * np.diag(np.diag(normal)))[np.ix_(keep_columns, keep_columns)]
        expected = np.zeros(size + 3 * points)
        expected[keep_columns] = -np.linalg.solve(damped, slope[keep_columns])
        step = system.solve(damping, held)
        assert step is not None
        np.testing.assert_allclose(step[0], expected[:size], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(step[1].ravel(), expected[size:], rtol=1e-5, atol=1e-6)
    variance = system.variances(held)
    inverse = np.zeros(size + 3 * points)
    inverse[keep_columns] = np.diag(np.linalg.inv(damped))
    assert variance is not None
    np.testing.assert_allclose(variance, inverse[:size], rtol=1e-5, atol=1e-9)
