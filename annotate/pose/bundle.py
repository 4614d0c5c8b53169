"""Bundle adjustment: Levenberg-Marquardt on the Schur complement, vectorised over observations.

Minimises sum huber(|pi(K_t, R_t (X_j - C_t)) - x_tj| / noise) plus priors on the intrinsics (paper, App. B:
per-frame intrinsics). Cameras are kept as world-to-camera rotation and centre, so that a covariance is that
of the centre. Triggs et al. 2000, sections 4-6 and 9, for the method.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.linalg

from annotate.pose.normal import NormalEquations

MIN_DEPTH = 1e-6
BEHIND_PX = 20.0
"""Residual given to a point behind its camera: constant, and not so large that one stray point, to be thrown
out later, holds up the step of all others."""


FIRST_DAMPING = 1e-5
SETTLED_DAMPING = 1e-7
"""A small gain is a sign of convergence only once the steps are nearly Gauss-Newton's: on a straight path the
focal length lies in a valley whose curvature is a millionth of the diagonal."""


@dataclass
class Cameras:
    """M cameras: world-to-camera rotation (M, 3, 3), centre (M, 3), intrinsics (M, 4), and one k1 for all."""

    rotation: np.ndarray
    centre: np.ndarray
    intrinsics: np.ndarray
    k1: float = 0.0

    def copy(self) -> Cameras:
        return Cameras(self.rotation.copy(), self.centre.copy(), self.intrinsics.copy(), self.k1)

    def __len__(self) -> int:
        return len(self.centre)

    def c2w(self) -> np.ndarray:
        """(M, 4, 4)."""
        poses = np.tile(np.eye(4), (len(self), 1, 1))
        poses[:, :3, :3] = self.rotation.swapaxes(1, 2)
        poses[:, :3, 3] = self.centre
        return poses


@dataclass
class Observations:
    """O observations: camera (O,), point (O,), pixel (O, 2); a camera sees a point at most once."""

    camera: np.ndarray
    point: np.ndarray
    pixel: np.ndarray

    def __len__(self) -> int:
        return len(self.camera)

    def select(self, keep: np.ndarray) -> Observations:
        """Those of a mask or an index."""
        return Observations(self.camera[keep], self.point[keep], self.pixel[keep])


@dataclass
class Free:
    """What may change beside the points. `focal` is "none", "shared" or "each"."""

    cameras: np.ndarray | None = None  # (M,) bool; None frees all but the gauge
    focal: str = "none"
    principal: bool = False  # one shift of (cx, cy) for all cameras
    distortion: bool = False


@dataclass
class Priors:
    """What is believed of the intrinsics before looking; sigmas as in the paper's per-frame camera model."""

    log_focal: float | None = None  # centre of the prior on mean log fx; None: no prior
    log_focal_sigma: float = 0.3
    log_focal_step_sigma: float = 0.002  # of log f between neighbouring frames, grows with the square root
    frame: np.ndarray | None = None  # (M,) frame numbers, for the step prior
    principal: np.ndarray | None = None  # (2,) centre of the prior on mean (cx, cy)
    principal_sigma: float = 6.4
    k1_sigma: float = 0.05


@dataclass
class Solution:
    """Cameras and points after adjustment; `cost` is the robust cost, without priors, in noise units."""

    cameras: Cameras
    points: np.ndarray
    cost: float
    total_cost: float
    iterations: int
    covariance: np.ndarray | None = None  # (6 M, 6 M) of (rotation, centre); gauge rows are zero
    focal_sigma_log: float | None = None  # of the shared, or the median of the single ones
    residual_px: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (O,)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula, (..., 3) -> (..., 3, 3)."""
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    cross = skew(vector)
    small = angle < 1e-8
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1.0 - angle**2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    return np.eye(3) + a * cross + b * (cross @ cross)


def skew(vector: np.ndarray) -> np.ndarray:
    """(..., 3) -> (..., 3, 3) with skew(a) @ b = a x b."""
    x, y, z = np.moveaxis(np.asarray(vector, np.float64), -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)


def residuals(cameras: Cameras, points: np.ndarray, seen: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Reprojection errors (O, 2) in pixels and depths (O,)."""
    towards = points[seen.point] - cameras.centre[seen.camera]
    local = np.einsum("oij,oj->oi", cameras.rotation[seen.camera], towards)
    depth = local[:, 2]
    behind = depth < MIN_DEPTH
    plane = local[:, :2] / np.where(behind, 1.0, depth)[:, None]
    bent = plane * (1.0 + cameras.k1 * (plane**2).sum(1))[:, None]
    k = cameras.intrinsics[seen.camera]
    error = bent * k[:, :2] + k[:, 2:] - seen.pixel
    error[behind] = BEHIND_PX
    return error, depth


def linearise(
    cameras: Cameras, points: np.ndarray, seen: Observations, free: Free
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Errors (O, 2); derivatives by camera (O, 2, 6 or 7), point (O, 2, 3) and shared values (O, 2, g)."""
    rotation = cameras.rotation[seen.camera]
    local = np.einsum("oij,oj->oi", rotation, points[seen.point] - cameras.centre[seen.camera])
    behind = local[:, 2] < MIN_DEPTH
    z = np.where(behind, 1.0, local[:, 2])
    x, y = local[:, 0] / z, local[:, 1] / z
    square = x * x + y * y
    radial = 1.0 + cameras.k1 * square
    k = cameras.intrinsics[seen.camera]
    error = np.stack([x * radial * k[:, 0] + k[:, 2], y * radial * k[:, 1] + k[:, 3]], 1) - seen.pixel
    error[behind] = BEHIND_PX
    # d(bent x, bent y) / d(x, y), then by local coordinates
    cross = 2 * cameras.k1 * x * y
    dx = np.stack([radial + 2 * cameras.k1 * x * x, cross], 1) * k[:, :1] / z[:, None]
    dy = np.stack([cross, radial + 2 * cameras.k1 * y * y], 1) * k[:, 1:2] / z[:, None]
    plane = np.stack([dx, dy], 1)  # (O, 2, 2)
    by_local = np.empty((len(seen), 2, 3))
    by_local[:, :, :2] = plane
    by_local[:, :, 2] = -(plane[:, :, 0] * x[:, None] + plane[:, :, 1] * y[:, None])
    by_local[behind] = 0.0
    by_point = by_local @ rotation
    each = free.focal == "each"
    by_camera = np.empty((len(seen), 2, 7 if each else 6))
    by_camera[:, :, 0] = by_local[:, :, 2] * local[:, None, 1] - by_local[:, :, 1] * local[:, None, 2]
    by_camera[:, :, 1] = by_local[:, :, 0] * local[:, None, 2] - by_local[:, :, 2] * local[:, None, 0]
    by_camera[:, :, 2] = by_local[:, :, 1] * local[:, None, 0] - by_local[:, :, 0] * local[:, None, 1]
    by_camera[:, :, 3:6] = -by_point
    scaled = np.stack([x * radial * k[:, 0], y * radial * k[:, 1]], 1)
    scaled[behind] = 0.0
    if each:
        by_camera[:, :, 6] = scaled
    shared = []
    if free.focal == "shared":
        axis = _stretch_axis(cameras, free)
        along = (points[seen.point] - cameras.centre[seen.camera]) @ axis
        shared.append(scaled + (by_point @ axis) * along[:, None])
    if free.principal:
        unit = np.where(behind, 0.0, 1.0)
        shared += [np.stack([unit, 0 * unit], 1), np.stack([0 * unit, unit], 1)]
    if free.distortion:
        bend = np.stack([x * k[:, 0], y * k[:, 1]], 1) * square[:, None]
        shared.append(np.where(behind[:, None], 0.0, bend))
    by_shared = np.stack(shared, 2) if shared else np.zeros((len(seen), 2, 0))
    return error, by_camera, by_point, by_shared


def huber_cost(error: np.ndarray, limit: float) -> float:
    """Sum of Huber's loss of |error|, error (O, 2), quadratic up to `limit`."""
    length = np.sqrt((error**2).sum(1))
    return float(np.where(length <= limit, 0.5 * length**2, limit * (length - 0.5 * limit)).sum())


def _prior_rows(
    cameras: Cameras, free: Free, priors: Priors, size: int, shared_at: int
) -> tuple[np.ndarray, np.ndarray]:
    """Linear prior terms: matrix (rows, size) and residual (rows,), each row in units of its sigma."""
    rows: list[np.ndarray] = []
    values: list[float] = []
    count = len(cameras)
    log_focal = np.log(cameras.intrinsics[:, 0])

    def add(value: float, sigma: float, entries: dict[int, float]) -> None:
        row = np.zeros(size)
        for column, weight in entries.items():
            row[column] = weight / sigma
        rows.append(row)
        values.append(value / sigma)

    at = shared_at
    if free.focal == "shared":
        if priors.log_focal is not None:
            add(float(log_focal.mean() - priors.log_focal), priors.log_focal_sigma, {at: 1.0})
        at += 1
    if free.focal == "each":
        if priors.log_focal is not None:
            add(float(log_focal.mean() - priors.log_focal), priors.log_focal_sigma,
                {7 * i + 6: 1.0 / count for i in range(count)})
        frame = np.arange(count) if priors.frame is None else priors.frame
        for i in range(count - 1):
            # a zoom ramps: its speed, not its position, is what changes little, but a plain step prior that
            # grows linearly with the gap admits a ramp and needs no more state
            sigma = priors.log_focal_step_sigma * max(float(frame[i + 1] - frame[i]), 1.0)
            add(float(log_focal[i + 1] - log_focal[i]), sigma, {7 * i + 13: 1.0, 7 * i + 6: -1.0})
    if free.principal:
        if priors.principal is not None:
            for axis in range(2):
                value = float(cameras.intrinsics[:, 2 + axis].mean() - priors.principal[axis])
                add(value, priors.principal_sigma, {at + axis: 1.0})
        at += 2
    if free.distortion:
        add(cameras.k1, priors.k1_sigma, {at: 1.0})
    if not rows:
        return np.zeros((0, size)), np.zeros(0)
    return np.stack(rows), np.array(values)


def _stretch_axis(cameras: Cameras, free: Free) -> np.ndarray:
    """The mean viewing direction (3,), along which the world is stretched as the shared focal length grows.

    While cameras look the same way, a longer focal length and a scene as much deeper give the same images: a
    curved valley along which plain steps crawl. With the stretch as part of the focal length's own step, the
    valley is straight. Zero where some cameras are held: then the world is not ours to stretch.
    """
    if free.cameras is not None:
        return np.zeros(3)
    mean = cameras.rotation[:, 2].mean(0)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0.3 else np.zeros(3)


def moved_by(
    cameras: Cameras, points: np.ndarray, step: np.ndarray, point_step: np.ndarray, free: Free
) -> tuple[Cameras, np.ndarray]:
    """Cameras and points after a step in all parameters (fixed ones have step 0)."""
    width = 7 if free.focal == "each" else 6
    own = step[: width * len(cameras)].reshape(len(cameras), width)
    moved = cameras.copy()
    moved.rotation = rotation_from_vector(own[:, :3]) @ cameras.rotation
    moved.centre = cameras.centre + own[:, 3:6]
    if free.focal == "each":
        moved.intrinsics[:, :2] *= np.exp(np.clip(own[:, 6:7], -0.5, 0.5))
    shared = step[width * len(cameras):]
    at = 0
    points = points + point_step
    if free.focal == "shared":
        ratio = float(np.exp(np.clip(shared[0], -0.5, 0.5)))
        moved.intrinsics[:, :2] *= ratio
        axis, origin = _stretch_axis(cameras, free), cameras.centre[0]
        points = points + (ratio - 1) * ((points - origin) @ axis)[:, None] * axis
        moved.centre = moved.centre + (ratio - 1) * ((moved.centre - origin) @ axis)[:, None] * axis
        at = 1
    if free.principal:
        moved.intrinsics[:, 2:] += shared[at:at + 2]
        at += 2
    if free.distortion:
        moved.k1 = cameras.k1 + float(shared[at])
    return moved, points


def _free_columns(cameras: Cameras, free: Free, shared: int) -> np.ndarray:
    """Indices of the parameters that may change, with the gauge taken out.

    Where all cameras are free, the first is fixed, and so is the largest coordinate of the farthest centre.
    """
    width = 7 if free.focal == "each" else 6
    count = len(cameras)
    mask = np.ones((count, width), bool)
    if free.cameras is None:
        far = int(np.argmax(np.linalg.norm(cameras.centre - cameras.centre[0], axis=1)))
        mask[0, :6] = False
        if far:
            mask[far, 3 + int(np.argmax(np.abs(cameras.centre[far] - cameras.centre[0])))] = False
    else:
        mask[~free.cameras] = False
    return np.flatnonzero(np.concatenate([mask.ravel(), np.ones(shared, bool)]))


def adjust(
    cameras: Cameras,
    points: np.ndarray,
    seen: Observations,
    free: Free,
    priors: Priors | None = None,
    huber_px: float = 1.0,
    noise_px: float = 0.4,
    max_iterations: int = 30,
    tolerance: float = 1e-5,
    covariance: bool = False,
) -> Solution:
    """Adjust cameras and points (N, 3) to the observations, every point seen at least once.

    Stops when an all but undamped step lowers the cost by less than `tolerance` of itself. Raises ValueError
    when points or observations do not fit each other.
    """
    fits = len(seen) and seen.point.max() < len(points) and seen.camera.max() < len(cameras)
    if not fits:
        raise ValueError(f"bundle adjustment: {len(seen)} observations of {len(points)} points by "
                         f"{len(cameras)} cameras do not fit each other")
    priors = priors or Priors()
    order = np.argsort(seen.point, kind="stable")
    ordered = seen.select(order)
    limit = huber_px / noise_px
    shared = int(free.focal == "shared") + 2 * int(free.principal) + int(free.distortion)
    width = 7 if free.focal == "each" else 6
    size = width * len(cameras) + shared
    columns = _free_columns(cameras, free, shared)
    system = NormalEquations(ordered.camera, ordered.point, len(cameras), len(points), width, shared)

    def cost_of(candidate: Cameras, where: np.ndarray) -> tuple[float, float]:
        error, _ = residuals(candidate, where, ordered)
        data = huber_cost(error / noise_px, limit)
        _, values = _prior_rows(candidate, free, priors, size, width * len(cameras))
        return data, data + 0.5 * float(values @ values)

    data_cost, total = cost_of(cameras, points)
    damping, iterations = FIRST_DAMPING, 0
    while iterations < max_iterations:
        iterations += 1
        _assemble(system, cameras, points, ordered, free, priors, limit, noise_px)
        improved = False
        for _ in range(7):
            step = system.solve(damping, columns)
            if step is not None:
                moved, shifted = moved_by(cameras, points, *step, free)
                new_data, new_total = cost_of(moved, shifted)
                if new_total < total:
                    improved = True
                    break
            damping *= 10.0
        if not improved:
            break
        gain = (total - new_total) / max(total, 1e-300)
        cameras, points, data_cost, total = moved, shifted, new_data, new_total
        damping = max(damping / 10.0, 1e-9)
        if gain < tolerance and damping < SETTLED_DAMPING:
            break
    error, _ = residuals(cameras, points, seen)
    solution = Solution(cameras, points, data_cost, total, iterations,
                        residual_px=np.sqrt((error**2).sum(1)))
    if covariance:
        _assemble(system, cameras, points, ordered, free, priors, limit, noise_px)
        solution = _with_covariance(solution, system, columns, width, free)
    return solution


def _assemble(
    system: NormalEquations, cameras: Cameras, points: np.ndarray, seen: Observations, free: Free,
    priors: Priors, limit: float, noise_px: float,
) -> None:
    error, by_camera, by_point, by_shared = linearise(cameras, points, seen, free)
    error /= noise_px
    length = np.sqrt((error**2).sum(1))
    root = np.sqrt(np.minimum(1.0, limit / np.maximum(length, 1e-12)))[:, None]
    scale = (root / noise_px)[:, :, None]
    system.assemble(error * root, by_camera * scale, by_point * scale, by_shared * scale)
    rows, values = _prior_rows(cameras, free, priors, system.size, system.shared_at)
    system.add_rows(rows, values)


def _with_covariance(
    solution: Solution, system: NormalEquations, columns: np.ndarray, width: int, free: Free
) -> Solution:
    """The solution with the covariance of its cameras, inflated where residuals exceed the stated noise."""
    reduced = system.reduced(0.0)[0][np.ix_(columns, columns)]
    count = len(solution.cameras)
    try:
        inverse = scipy.linalg.inv(reduced + 1e-12 * np.diag(np.diag(reduced)))
    except scipy.linalg.LinAlgError:
        return solution
    whole = np.zeros((system.size, system.size))
    whole[np.ix_(columns, columns)] = inverse
    variance = np.diag(whole)
    focal = None
    if free.focal == "shared":
        focal = float(np.sqrt(max(variance[width * count], 0.0)))
    elif free.focal == "each":
        focal = float(np.sqrt(np.median(np.maximum(variance[6: 7 * count: 7], 0.0))))
    pose = (np.arange(count)[:, None] * width + np.arange(6)).ravel()
    return replace(solution, covariance=whole[np.ix_(pose, pose)], focal_sigma_log=focal)
