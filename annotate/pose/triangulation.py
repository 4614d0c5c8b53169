"""Points from rays of posed cameras, all tracks at once."""

from __future__ import annotations

import numpy as np

from annotate.pose.reprojection import Cameras, Observations


def rays(cameras: Cameras, camera: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Unit directions (O, 3) in the world of pixels (O, 2) seen by cameras (O,)."""
    k = cameras.intrinsics[camera]
    bent = (pixel - k[:, 2:]) / k[:, :2]
    plane = bent.copy()
    if cameras.k1:
        for _ in range(5):
            plane = bent / np.maximum(1.0 + cameras.k1 * (plane**2).sum(1), 0.2)[:, None]
    local = np.concatenate([plane, np.ones((len(plane), 1))], 1)
    local /= np.linalg.norm(local, axis=1, keepdims=True)
    return np.einsum("oji,oj->oi", cameras.rotation[camera], local)


def triangulate(cameras: Cameras, seen: Observations, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) nearest in angle to their rays, and the widest angle (count,) of two rays, degrees.

    Minimises squared distance to the rays, weighted by 1 / distance^2 from the camera, in three rounds: the
    plain midpoint pulls far points towards the cameras. Points with fewer than two rays have angle 0.
    """
    direction = rays(cameras, seen.camera, seen.pixel)
    centre = cameras.centre[seen.camera]
    across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
    weight = np.ones(len(seen))
    points = np.zeros((count, 3))
    for _ in range(3):
        weighted = across * weight[:, None, None]
        matrix = _sum_by(seen.point, weighted.reshape(-1, 9), count).reshape(-1, 3, 3)
        right = _sum_by(seen.point, np.einsum("oij,oj->oi", weighted, centre), count)
        scale = np.maximum(np.trace(matrix, axis1=1, axis2=2), 1e-12)
        matrix += 1e-9 * scale[:, None, None] * np.eye(3)
        points = np.linalg.solve(matrix, right[..., None])[..., 0]
        weight = 1.0 / np.maximum(((points[seen.point] - centre) ** 2).sum(1), 1e-12)
        weight /= np.maximum(np.bincount(seen.point, weights=weight, minlength=count), 1e-300)[seen.point]
    towards = points[seen.point] - centre
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    return points, _widest_angle(towards, seen.point, count)


def _widest_angle(direction: np.ndarray, point: np.ndarray, count: int) -> np.ndarray:
    """Per point, the widest angle to its first ray or to the ray farthest from that one, degrees."""
    reference = np.zeros((count, 3))
    reference[point[::-1]] = direction[::-1]  # the first observation of each point is written last
    widest = np.zeros(count)
    for _ in range(2):
        angle = np.linalg.norm(np.cross(direction, reference[point]), axis=1)
        order = np.argsort(angle, kind="stable")
        widest[point[order]] = np.maximum(widest[point[order]], angle[order])
        reference[point[order]] = direction[order]
    return np.degrees(np.arcsin(np.minimum(widest, 1.0)))


def _sum_by(index: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(index, weights=column, minlength=count) for column in values.T], 1)
