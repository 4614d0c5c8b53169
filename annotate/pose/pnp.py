"""Camera poses on known points: many frames at once, by robust Gauss-Newton (resection).

Every frame's 6x6 system stands alone, so all frames of a clip are solved in the same array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.pose.bundle import Cameras, Free, Observations, linearise, residuals, rotation_from_vector


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
    cameras: Cameras, points: np.ndarray, seen: Observations, huber_px: float, noise_px: float,
    inlier_px: float, iterations: int = 12,
) -> Resection:
    """Move cameras (intrinsics fixed) to fit `seen` of points (P, 3); cameras without observations stay."""
    order = np.argsort(seen.camera, kind="stable")
    seen = seen.select(order)
    count = len(cameras)
    present, starts = np.unique(seen.camera, return_index=True)
    damping = np.full(count, 1e-4)
    cost = _costs(cameras, points, seen, huber_px, count)
    moving = np.zeros(count, bool)
    moving[present] = True
    information = np.zeros((count, 6, 6))
    for _ in range(iterations):
        error, by_camera, _, _ = linearise(cameras, points, seen, Free())
        length = np.sqrt((error**2).sum(1))
        weight = np.minimum(1.0, huber_px / np.maximum(length, 1e-12))
        scaled = by_camera * weight[:, None, None]
        information[present] = np.add.reduceat(
            (scaled.swapaxes(1, 2) @ by_camera).reshape(len(seen), 36), starts, axis=0).reshape(-1, 6, 6)
        slope = np.zeros((count, 6))
        slope[present] = np.add.reduceat(np.einsum("oki,ok->oi", scaled, error), starts, axis=0)
        diagonal = np.einsum("mii->mi", information)
        system = information + np.einsum("mi,ij->mij", damping[:, None] * diagonal + 1e-12, np.eye(6))
        step = np.zeros((count, 6))
        step[moving] = -np.linalg.solve(system[moving], slope[moving][..., None])[..., 0]
        candidate = cameras.copy()
        candidate.rotation = rotation_from_vector(step[:, :3]) @ cameras.rotation
        candidate.centre = cameras.centre + step[:, 3:]
        fresh = _costs(candidate, points, seen, huber_px, count)
        better = fresh < cost
        cameras.rotation = np.where(better[:, None, None], candidate.rotation, cameras.rotation)
        cameras.centre = np.where(better[:, None], candidate.centre, cameras.centre)
        settled = better & (cost - fresh < 1e-5 * cost)
        cost = np.where(better, fresh, cost)
        damping = np.where(better, damping / 5, damping * 10)
        moving &= ~settled & (damping < 1e4)
        if not moving.any():
            break
    return _summary(cameras, points, seen, information, present, noise_px, inlier_px)


def _summary(
    cameras: Cameras, points: np.ndarray, seen: Observations, information: np.ndarray, present: np.ndarray,
    noise_px: float, inlier_px: float,
) -> Resection:
    count = len(cameras)
    error, _ = residuals(cameras, points, seen)
    length = np.sqrt((error**2).sum(1))
    total = np.bincount(seen.camera, minlength=count)
    inliers = np.bincount(seen.camera, weights=length < inlier_px, minlength=count)
    median = np.full(count, np.nan)
    ranked = np.lexsort((length, seen.camera))
    begin = np.searchsorted(seen.camera[ranked], present)
    median[present] = length[ranked][begin + total[present] // 2]
    covariance = np.full((count, 6, 6), np.nan)
    diagonal = np.einsum("mii->mi", information)
    solvable = (diagonal > 0).all(1)
    ridge = np.einsum("mi,ij->mij", 1e-12 * diagonal, np.eye(6))
    inverse = np.linalg.pinv(information[solvable] + ridge[solvable], hermitian=True)
    covariance[solvable] = noise_px**2 * inverse
    return Resection(cameras, covariance, inliers.astype(int), inliers / np.maximum(total, 1), median)


def _costs(cameras: Cameras, points: np.ndarray, seen: Observations, limit: float, count: int) -> np.ndarray:
    error, _ = residuals(cameras, points, seen)
    length = np.sqrt((error**2).sum(1))
    loss = np.where(length <= limit, 0.5 * length**2, limit * (length - 0.5 * limit))
    return np.bincount(seen.camera, weights=loss, minlength=count)


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
