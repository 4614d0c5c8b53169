"""Camera poses on known points: many frames at once, by robust Gauss-Newton (resection).

Every frame's 6x6 system stands alone, so all frames of a clip are solved in the same array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.pose.bundle import Noise, spread
from annotate.pose.reprojection import Cameras, Free, Observations, linearise, residuals, rotation_from_vector


@dataclass
class Resection:
    """Cameras on known points, with what each of the M cameras' observations say of it.

    covariance (M, 6, 6) of (rotation, centre); inliers (M,) counts, share (M,), median_px (M,) of residuals.
    """

    cameras: Cameras
    covariance: np.ndarray
    inliers: np.ndarray
    share: np.ndarray
    median_px: np.ndarray


def resect(
    cameras: Cameras, points: np.ndarray, seen: Observations, noise: Noise, inlier_px: float,
    iterations: int = 12,
) -> Resection:
    """Move cameras (intrinsics fixed) to fit `seen` of points (P, 3); cameras without observations stay."""
    seen = seen.select(np.argsort(seen.camera, kind="stable"))
    count = len(cameras)
    damping = np.full(count, 1e-4)
    cost = _costs(cameras, points, seen, noise.huber_px)
    moving = np.bincount(seen.camera, minlength=count) > 0
    information = np.zeros((count, 6, 6))
    live = seen
    for _ in range(iterations):
        if moving[live.camera].mean() < 0.6:  # most have settled: leave them out
            live = live.select(moving[live.camera])
        present, slope = _normal_equations(cameras, points, live, noise.huber_px, information)
        diagonal = np.einsum("mii->mi", information)
        system = information + np.einsum("mi,ij->mij", damping[:, None] * diagonal + 1e-12, np.eye(6))
        step = np.zeros((count, 6))
        step[moving] = -np.linalg.solve(system[moving], slope[moving][..., None])[..., 0]
        candidate = cameras.copy()
        candidate.rotation = rotation_from_vector(step[:, :3]) @ cameras.rotation
        candidate.centre = cameras.centre + step[:, 3:]
        fresh = cost.copy()
        fresh[present] = _costs(candidate, points, live, noise.huber_px)[present]
        better = fresh < cost
        cameras.rotation = np.where(better[:, None, None], candidate.rotation, cameras.rotation)
        cameras.centre = np.where(better[:, None], candidate.centre, cameras.centre)
        settled = better & (cost - fresh < 1e-4 * cost)
        cost = np.where(better, fresh, cost)
        damping = np.where(better, damping / 5, damping * 10)
        moving &= ~settled & (damping < 1e4)
        if not moving.any():
            break
    return _summary(cameras, points, seen, information, noise, inlier_px)


def _normal_equations(
    cameras: Cameras, points: np.ndarray, seen: Observations, huber_px: float, information: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fill J'WJ of the cameras seen, sorted by camera, into `information` (M, 6, 6); which, and J'Wr."""
    present, starts = np.unique(seen.camera, return_index=True)
    error, by_camera, _, _ = linearise(cameras, points, seen, Free())
    weight = np.minimum(1.0, huber_px / np.maximum(np.sqrt((error**2).sum(1)), 1e-12))
    scaled = by_camera * weight[:, None, None]
    information[present] = np.add.reduceat(
        (scaled.swapaxes(1, 2) @ by_camera).reshape(len(seen), 36), starts, axis=0).reshape(-1, 6, 6)
    slope = np.zeros((len(cameras), 6))
    slope[present] = np.add.reduceat(np.einsum("oki,ok->oi", scaled, error), starts, axis=0)
    return present, slope


def _summary(
    cameras: Cameras, points: np.ndarray, seen: Observations, information: np.ndarray, noise: Noise,
    inlier_px: float,
) -> Resection:
    count = len(cameras)
    error, _ = residuals(cameras, points, seen)
    length = np.sqrt((error**2).sum(1))
    total = np.bincount(seen.camera, minlength=count)
    inliers = np.bincount(seen.camera, weights=length < inlier_px, minlength=count)
    median = np.full(count, np.nan)
    ranked = np.lexsort((length, seen.camera))
    present = np.flatnonzero(total)
    begin = np.searchsorted(seen.camera[ranked], present)
    median[present] = length[ranked][begin + total[present] // 2]
    covariance = np.full((count, 6, 6), np.nan)
    diagonal = np.einsum("mii->mi", information)
    solvable = (diagonal > 0).all(1)
    ridge = np.einsum("mi,ij->mij", 1e-12 * diagonal, np.eye(6))
    inverse = np.linalg.pinv(information[solvable] + ridge[solvable], hermitian=True)
    excess = spread(length / noise.sigma_px, noise.limit, seen.camera, 2 * total - 6)
    covariance[solvable] = noise.sigma_px**2 * excess[solvable, None, None] * inverse
    return Resection(cameras, covariance, inliers.astype(int), inliers / np.maximum(total, 1), median)


def _costs(cameras: Cameras, points: np.ndarray, seen: Observations, limit: float) -> np.ndarray:
    error, _ = residuals(cameras, points, seen)
    length = np.sqrt((error**2).sum(1))
    loss = np.where(length <= limit, 0.5 * length**2, limit * (length - 0.5 * limit))
    return np.bincount(seen.camera, weights=loss, minlength=len(cameras))


def ransac_pose(
    points: np.ndarray, pixels: np.ndarray, intrinsics: np.ndarray, threshold_px: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """World-to-camera rotation and centre from points (n, 3) and pixels (n, 2), or None."""
    if len(points) < 6:
        return None
    fx, fy, cx, cy = intrinsics
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    cv2.setRNGSeed(0)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points, pixels, matrix, None, iterationsCount=200, reprojectionError=threshold_px,
        flags=cv2.SOLVEPNP_EPNP)
    if not found or inliers is None or len(inliers) < 6:
        return None
    rotation = cv2.Rodrigues(turn)[0]
    return rotation, -rotation.T @ shift[:, 0]
