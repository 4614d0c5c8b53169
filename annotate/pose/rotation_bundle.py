"""Least squares over the orientations of a camera that only turns, and its focal lengths.

A point seen at x_i in frame i is seen in frame j at π(K_j R_jᵀ R_i K_i⁻¹ x_i): no depth enters. Gauss-Newton
on the robust transfer error; variances from the normal matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.trajectory import nearest_rotation

HUBER_PX = 1.0
FOCAL_PRIOR_SIGMA_LOG = 0.3
FOCAL_STEP_SIGMA_LOG = 0.002
_ITERATIONS = 15
# Followed points of one pair err together (blur, rolling shutter), so they count as fewer than they are.
_POINTS_PER_INDEPENDENT = 50.0


@dataclass(frozen=True)
class Matches:
    """N points seen in two frames: frame indices (N,), pixels (N, 2) relative to the principal point."""

    first: np.ndarray
    second: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclass(frozen=True)
class RotationFit:
    """rotations (F, 3, 3) camera-to-world, frame 0 the identity; focal (F,) pixels; both with 1-sigma.

    cost: robust cost per match. residual_px (N,).
    """

    rotations: np.ndarray
    focal: np.ndarray
    sigma_rotation_deg: np.ndarray
    sigma_log_focal: np.ndarray
    cost: float
    residual_px: np.ndarray


def turn_between(start: np.ndarray, end: np.ndarray, focal_start: float, focal_end: float) -> np.ndarray:
    """Rotation (3, 3) that takes the rays of `start` to those of `end`, pixels about the principal point."""
    return nearest_rotation(_unit(_rays(end, focal_end)).T @ _unit(_rays(start, focal_start)))


def transfer_error(matches: Matches, rotations: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """Distances (N,), pixels, of predicted from seen points."""
    return np.linalg.norm(_residual(matches, rotations, focal)[0], axis=1)


def fit_rotations(
    matches: Matches, rotations: np.ndarray, focal: np.ndarray, freedom: str, prior_focal: float
) -> RotationFit:
    """Improve rotations (F, 3, 3) and focal (F,). `freedom` of the focal length: "known", "shared", "each".

    A free focal length is held to `prior_focal` with a sigma of 0.3 in log, and one of each frame to that of
    its neighbours with 0.002 a frame, since a small turn determines it weakly.
    """
    frames = len(rotations)
    column_of_focal = _focal_columns(frames, freedom)
    for _ in range(_ITERATIONS):
        normal, gradient, _ = _normal_equations(matches, rotations, focal, freedom, prior_focal)
        step = np.linalg.solve(normal, -gradient)
        turns = np.vstack([np.zeros(3), step[: 3 * frames - 3].reshape(-1, 3)])
        rotations = rotations @ _exponential(turns)
        if freedom != "known":
            focal = focal * np.exp(np.clip(step[column_of_focal], -0.3, 0.3))
        if np.abs(step).max() < 1e-8:
            break
    normal, _, variance = _normal_equations(matches, rotations, focal, freedom, prior_focal)
    covariance = np.linalg.inv(normal) * variance
    spread = np.diag(covariance)
    sigma_rotation = np.sqrt(np.concatenate([[0.0], spread[: 3 * frames - 3].reshape(-1, 3).sum(1)]))
    sigma_focal = np.sqrt(spread[column_of_focal]) if freedom != "known" else np.zeros(frames)
    residual = transfer_error(matches, rotations, focal)
    cost = np.where(residual < HUBER_PX, residual**2, HUBER_PX * (2 * residual - HUBER_PX))
    return RotationFit(rotations, focal, np.degrees(sigma_rotation), sigma_focal, float(cost.mean()),
                       residual)


def _normal_equations(
    matches: Matches, rotations: np.ndarray, focal: np.ndarray, freedom: str, prior_focal: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Normal matrix and gradient in units of the noise variance (robust), and that variance in px²."""
    frames = len(rotations)
    residual, by_first, by_second, by_focal_first, by_focal_second = _residual(matches, rotations, focal)
    distance = np.linalg.norm(residual, axis=1)
    weight = HUBER_PX / np.maximum(distance, HUBER_PX)
    variance = max(1e-6, float((weight * distance**2).sum() / (2 * len(distance)))) * _POINTS_PER_INDEPENDENT
    columns = [3 * matches.first[:, None] - 3 + np.arange(3), 3 * matches.second[:, None] - 3 + np.arange(3)]
    jacobian = [by_first, by_second]
    if freedom != "known":
        of_focal = _focal_columns(frames, freedom)
        columns += [of_focal[matches.first][:, None], of_focal[matches.second][:, None]]
        jacobian += [by_focal_first[..., None], by_focal_second[..., None]]
    where, j = np.concatenate(columns, 1), np.concatenate(jacobian, 2)  # (N, k), (N, 2, k)
    size = 3 * frames - 3 + {"known": 0, "shared": 1, "each": frames}[freedom]
    normal, gradient = np.zeros((size + 3, size + 3)), np.zeros(size + 3)
    where = np.where(where < 0, size + 3 + where, where)  # frame 0 does not turn: its columns are cut off
    np.add.at(normal, (where[:, :, None], where[:, None, :]), np.einsum("n,nda,ndb->nab", weight, j, j))
    np.add.at(gradient, where, np.einsum("n,nda,nd->na", weight, j, residual))
    normal, gradient = normal[:size, :size], gradient[:size]
    normal[np.diag_indices(size)] += 1e-9
    _add_focal_priors(normal, gradient, focal, freedom, prior_focal, variance)
    return normal, gradient, variance


def _add_focal_priors(
    normal: np.ndarray, gradient: np.ndarray, focal: np.ndarray, freedom: str, prior_focal: float,
    variance: float,
) -> None:
    if freedom == "known":
        return
    columns = np.unique(_focal_columns(len(focal), freedom))
    off = np.log(focal[: len(columns)] / prior_focal)
    strength = variance / FOCAL_PRIOR_SIGMA_LOG**2 / len(columns)
    # One prior on the clip's focal length, however many columns describe it.
    normal[columns, columns] += strength
    gradient[columns] += strength * off
    if freedom == "each":
        strength = variance / FOCAL_STEP_SIGMA_LOG**2
        step = np.diff(np.log(focal))
        before, after = columns[:-1], columns[1:]
        np.add.at(normal, (before, before), strength)
        np.add.at(normal, (after, after), strength)
        np.add.at(normal, (before, after), -strength)
        np.add.at(normal, (after, before), -strength)
        np.add.at(gradient, after, strength * step)
        np.add.at(gradient, before, -strength * step)


def _focal_columns(frames: int, freedom: str) -> np.ndarray:
    first = 3 * frames - 3
    return first + (np.arange(frames) if freedom == "each" else np.zeros(frames, np.int64))


def _residual(
    matches: Matches, rotations: np.ndarray, focal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residual (N, 2) and its derivatives by both turns (N, 2, 3) and both log focal lengths (N, 2)."""
    focal_first, focal_second = focal[matches.first], focal[matches.second]
    between = np.einsum("nji,njk->nik", rotations[matches.second], rotations[matches.first])
    ray = _rays(matches.start, focal_first)
    seen = np.einsum("nij,nj->ni", between, ray)
    depth = np.where(seen[:, 2] > 1e-3, seen[:, 2], 1e-3)
    predicted = focal_second[:, None] * seen[:, :2] / depth[:, None]
    by_seen = np.zeros((len(ray), 2, 3))
    by_seen[:, 0, 0] = by_seen[:, 1, 1] = focal_second / depth
    by_seen[:, :, 2] = -predicted / depth[:, None]
    by_first = -np.einsum("ndi,nij,njk->ndk", by_seen, between, _cross_matrix(ray))
    by_second = np.einsum("ndi,nij->ndj", by_seen, _cross_matrix(seen))
    shrunk = np.concatenate([ray[:, :2], np.zeros((len(ray), 1))], 1)
    by_focal_first = -np.einsum("ndi,nij,nj->nd", by_seen, between, shrunk)
    return predicted - matches.end, by_first, by_second, by_focal_first, predicted


def _rays(pixels: np.ndarray, focal: np.ndarray | float) -> np.ndarray:
    scaled = pixels / (focal[:, None] if isinstance(focal, np.ndarray) else focal)
    return np.concatenate([scaled, np.ones((len(pixels), 1))], 1)


def _unit(rays: np.ndarray) -> np.ndarray:
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _cross_matrix(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def _exponential(turns: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(turns).as_matrix()
