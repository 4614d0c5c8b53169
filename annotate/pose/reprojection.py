"""The pinhole camera with one radial distortion: residuals of seen points, and their derivatives.

Cameras are kept as world-to-camera rotation and centre, so that a variance is that of the centre. Hartley and
Zisserman, 2nd edition, sections 6.1 and 7.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_DEPTH = 1e-6
BEHIND_PX = 20.0
"""Residual given to a point behind its camera: constant, and not so large that one stray point, to be thrown
out later, holds up the step of all others."""


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
