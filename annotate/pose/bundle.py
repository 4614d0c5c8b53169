"""Bundle adjustment: Levenberg-Marquardt on the Schur complement, vectorised over observations.

Minimises sum huber(|pi(K_t, R_t (X_j - C_t)) - x_tj| / noise) plus priors on the intrinsics (paper, App. B:
per-frame intrinsics). Triggs et al. 2000, sections 4-6 and 9, for the method.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from annotate.pose.normal import NormalEquations
from annotate.pose.reprojection import Cameras, Free, Observations, linearise, moved_by, residuals

FIRST_DAMPING = 1e-5
SETTLED_DAMPING = 1e-7
"""A small gain is a sign of convergence only once the steps are nearly Gauss-Newton's: on a straight path the
focal length lies in a valley whose curvature is a millionth of the diagonal."""


@dataclass(frozen=True)
class Noise:
    """What is known of the errors of observations, in pixels of the working size."""

    sigma_px: float = 0.4  # 1-sigma of either coordinate
    huber_px: float = 1.0  # residual beyond which an observation counts linearly

    @property
    def limit(self) -> float:
        """Huber's limit in units of sigma."""
        return self.huber_px / self.sigma_px


@dataclass
class Priors:
    """What is believed of the intrinsics before looking; sigmas as in the paper's per-frame camera model."""

    log_focal: float | None = None  # centre of the prior on log fx; None: no prior
    log_focal_sigma: float = 0.3  # of all cameras together
    log_focal_step_sigma: float = 0.002  # of log f between neighbouring frames, grows with the gap
    frame: np.ndarray | None = None  # (M,) frame numbers, for the step prior
    principal: np.ndarray | None = None  # (2,) centre of the prior on (cx, cy)
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
    variance: np.ndarray | None = None  # (M, 6) of (rotation, centre): 0 of the gauge, NaN where unknown
    focal_sigma_log: float | None = None  # of the shared, or the median of the single ones
    residual_px: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (O,)


def huber_cost(length: np.ndarray, limit: float) -> float:
    """Sum of Huber's loss of lengths (O,), quadratic up to `limit`."""
    return float(np.where(length <= limit, 0.5 * length**2, limit * (length - 0.5 * limit)).sum())


def spread(length: np.ndarray, limit: float, group: np.ndarray, left: np.ndarray) -> np.ndarray:
    """What to multiply the inverse of J'WJ with for a variance, (n,) by `group` (O,) of the observations.

    length (O,) of residuals in units of sigma; left (n,) equations beyond the unknowns. Near 1 where the
    residuals are those of the stated noise. Huber 1981, section 7.6, for errors in the plane: those beyond
    the limit still hold across.
    """
    weight = np.minimum(1.0, limit / np.maximum(length, 1e-12))
    slope = np.where(length <= limit, 1.0, 0.5 * weight)
    count = len(left)
    total, weights, slopes, squares = (
        np.bincount(group, weights=values, minlength=count)
        for values in (np.ones(len(length)), weight, slope, (weight * length) ** 2))
    return squares / np.maximum(left, 1) * weights * total / np.maximum(slopes, 1e-12) ** 2


def surplus(seen: Observations, parameters: int) -> int:
    """Equations of the observations beyond the unknowns: `parameters`, and three a point."""
    return 2 * len(seen) - 3 * len(np.unique(seen.point)) - parameters


@dataclass(frozen=True)
class _Prior:
    """(weight * step of a parameter + value)^2: of one camera, of a camera against the next, or shared."""

    kind: str  # "camera", "between" or "shared"
    index: int  # of the camera, or of the shared parameter
    weight: float
    value: float


def _prior_terms(cameras: Cameras, free: Free, priors: Priors) -> list[_Prior]:
    """The priors that bear on what is free."""
    terms: list[_Prior] = []
    log_focal = np.log(cameras.intrinsics[:, 0])
    at = 0
    if free.focal == "shared":
        if priors.log_focal is not None:
            weight = 1 / priors.log_focal_sigma
            terms.append(_Prior("shared", at, weight, weight * float(log_focal.mean() - priors.log_focal)))
        at += 1
    if free.focal == "each":
        if priors.log_focal is not None:
            weight = 1 / (priors.log_focal_sigma * np.sqrt(len(cameras)))
            terms += [_Prior("camera", i, weight, weight * float(value - priors.log_focal))
                      for i, value in enumerate(log_focal)]
        frame = np.arange(len(cameras)) if priors.frame is None else priors.frame
        for i, (gap, step) in enumerate(zip(np.diff(frame), np.diff(log_focal))):
            # a zoom ramps: its speed, not its position, is what changes little, but a plain step prior that
            # grows linearly with the gap admits a ramp and needs no more state
            weight = 1 / (priors.log_focal_step_sigma * max(float(gap), 1.0))
            terms.append(_Prior("between", i, weight, weight * float(step)))
    if free.principal:
        if priors.principal is not None:
            weight = 1 / priors.principal_sigma
            off = cameras.intrinsics[:, 2:].mean(0) - priors.principal
            terms += [_Prior("shared", at + axis, weight, weight * float(off[axis])) for axis in range(2)]
        at += 2
    if free.distortion:
        weight = 1 / priors.k1_sigma
        terms.append(_Prior("shared", at, weight, weight * cameras.k1))
    return terms


class _Problem:
    """One adjustment: what is seen and free, and the system that a step is solved from."""

    def __init__(
        self, cameras: Cameras, points: np.ndarray, seen: Observations, free: Free, priors: Priors,
        noise: Noise,
    ) -> None:
        self.seen = seen.select(np.argsort(seen.point, kind="stable"))
        self.free, self.priors, self.noise = free, priors, noise
        self.moving = np.ones(len(cameras), bool) if free.cameras is None else free.cameras
        self.number = np.where(self.moving, np.cumsum(self.moving) - 1, -1)
        self.width = 7 if free.focal == "each" else 6
        self.shared = int(free.focal == "shared") + 2 * int(free.principal) + int(free.distortion)
        self.system = NormalEquations(self.number[self.seen.camera], self.seen.point, int(self.moving.sum()),
                                      len(points), self.width, self.shared)
        self.held = self._gauge(cameras)

    def _gauge(self, cameras: Cameras) -> np.ndarray:
        """Parameters that fix the world where all cameras are free: the first camera, and the largest
        coordinate of the farthest centre from it."""
        if self.free.cameras is not None:
            return np.zeros(0, np.int64)
        distance = np.linalg.norm(cameras.centre - cameras.centre[0], axis=1)
        far = int(np.argmax(distance))
        if not far:
            return np.arange(6)
        axis = int(np.argmax(np.abs(cameras.centre[far] - cameras.centre[0])))
        return np.append(np.arange(6), far * self.width + 3 + axis)

    def cost(self, cameras: Cameras, points: np.ndarray) -> tuple[float, float]:
        """Robust cost of the observations, and with the priors."""
        error, _ = residuals(cameras, points, self.seen)
        length = np.sqrt((error**2).sum(1)) / self.noise.sigma_px
        data = huber_cost(length, self.noise.limit)
        priors = sum(term.value**2 for term in _prior_terms(cameras, self.free, self.priors))
        return data, data + 0.5 * priors

    def linearise(self, cameras: Cameras, points: np.ndarray) -> np.ndarray:
        """Fill the system; returns lengths (O,) of the errors in units of sigma."""
        error, by_camera, by_point, by_shared = linearise(cameras, points, self.seen, self.free)
        error /= self.noise.sigma_px
        length = np.sqrt((error**2).sum(1))
        weight = np.minimum(1.0, self.noise.limit / np.maximum(length, 1e-12))
        root = np.sqrt(weight)[:, None]
        scale = (root / self.noise.sigma_px)[:, :, None]
        self.system.assemble(error * root, by_camera * scale, by_point * scale, by_shared * scale)
        for term in _prior_terms(cameras, self.free, self.priors):
            self._add(term)
        return length

    def _add(self, term: _Prior) -> None:
        if term.kind == "shared":
            self.system.add_to_shared(term.index, term.weight, term.value)
            return
        number = int(self.number[term.index])
        if term.kind == "camera":
            if number >= 0:
                self.system.add_to_camera(number, 6, term.weight, term.value)
            return
        following = int(self.number[term.index + 1])
        if number >= 0 and following >= 0:
            self.system.add_between(number, 6, term.weight, term.value)
        elif following >= 0:
            self.system.add_to_camera(following, 6, term.weight, term.value)
        elif number >= 0:
            self.system.add_to_camera(number, 6, term.weight, -term.value)

    def moved(
        self, cameras: Cameras, points: np.ndarray, step: np.ndarray, point_step: np.ndarray
    ) -> tuple[Cameras, np.ndarray]:
        own = np.zeros((len(cameras), self.width))
        own[self.moving] = step[:len(step) - self.shared].reshape(-1, self.width)
        whole = np.concatenate([own.ravel(), step[len(step) - self.shared:]])
        return moved_by(cameras, points, whole, point_step, self.free)

    def with_variance(self, solution: Solution) -> Solution:
        """The solution with variances, larger or smaller as its residuals are than the stated noise."""
        length = self.linearise(solution.cameras, solution.points)
        variance = self.system.variances(self.held)
        if variance is None:
            return solution
        left = surplus(self.seen, self.system.size - len(self.held))
        variance = variance * spread(length, self.noise.limit, np.zeros(len(length), int), np.array([left]))
        variance[variance < 0] = np.nan
        own = variance[:len(variance) - self.shared].reshape(-1, self.width)
        focal = None
        if self.free.focal == "shared":
            focal = float(np.sqrt(variance[len(variance) - self.shared]))
        elif self.free.focal == "each":
            focal = float(np.sqrt(np.nanmedian(own[:, 6]))) if np.isfinite(own[:, 6]).any() else None
        whole = np.zeros((len(self.moving), 6))
        whole[self.moving] = own[:, :6]
        known = focal if focal is not None and np.isfinite(focal) and focal > 0 else None
        return replace(solution, variance=whole, focal_sigma_log=known)


def adjust(
    cameras: Cameras,
    points: np.ndarray,
    seen: Observations,
    free: Free,
    priors: Priors | None = None,
    noise: Noise | None = None,
    max_iterations: int = 30,
    tolerance: float = 1e-5,
    variance: bool = False,
) -> Solution:
    """Adjust cameras and points (N, 3) to the observations, every point seen at least once.

    Stops when an all but undamped step lowers the cost by less than `tolerance` of itself. Raises ValueError
    when points or observations do not fit each other.
    """
    fits = len(seen) and seen.point.max() < len(points) and seen.camera.max() < len(cameras)
    if not fits:
        raise ValueError(f"bundle adjustment: {len(seen)} observations of {len(points)} points by "
                         f"{len(cameras)} cameras do not fit each other")
    problem = _Problem(cameras, points, seen, free, priors or Priors(), noise or Noise())
    data_cost, total = problem.cost(cameras, points)
    damping, iterations = FIRST_DAMPING, 0
    while iterations < max_iterations:
        iterations += 1
        problem.linearise(cameras, points)
        improved = False
        for _ in range(7):
            step = problem.system.solve(damping, problem.held)
            if step is not None:
                moved, shifted = problem.moved(cameras, points, *step)
                new_data, new_total = problem.cost(moved, shifted)
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
    return problem.with_variance(solution) if variance else solution
