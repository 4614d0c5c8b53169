"""Camera geometry in numpy float64: poses, intrinsics, projection.

Conventions are those of the package: OpenCV axes (x right, y down, z forward), camera-to-world `c2w`
(..., 4, 4), `intrinsics` (..., 4) as (fx, fy, cx, cy) in pixels with centres at +0.5, sizes (height, width).
A horizontal flip is deliberately absent: it mirrors the world, and no camera takes such a picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ROTATION_TOLERANCE = 1e-3
"""Largest |R Rᵀ - I| taken for rounding; poses printed with four decimals still pass."""

_AXES_HINT = (
    "  Poses are camera-to-world, OpenCV axes (x right, y down, z forward).\n"
    "  OpenGL or Blender poses need c2w @ diag(1, -1, -1, 1); world-to-camera matrices need inverting."
)


def check_c2w(c2w: ArrayLike, name: str) -> np.ndarray:
    """The poses as float64, (F, 4, 4), once they are seen to be rigid.

    Raises ValueError naming `name`, the first bad frame, and what is wrong with it: a value that is not
    finite, a last row other than 0 0 0 1, a rotation that is scaled, sheared or mirrored.
    """
    poses = np.asarray(c2w, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
        raise ValueError(f"{name}: shape {poses.shape}, expected (frames, 4, 4) and frames > 0.\n"
                         f"{_AXES_HINT}")
    finite = np.isfinite(poses).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(f"{name}: frame {bad[0]} holds NaN or infinity, as do {len(bad)} of {len(poses)}.\n"
                         "  A frame without a pose must be left out or marked, never guessed.")
    last_row = np.abs(poses[:, 3] - (0, 0, 0, 1)).max(axis=1)
    if last_row.max() > ROTATION_TOLERANCE:
        frame = int(np.argmax(last_row > ROTATION_TOLERANCE))
        raise ValueError(f"{name}: frame {frame} ends in row {poses[frame, 3].tolist()}, expected 0 0 0 1.\n"
                         "  A transposed matrix has its translation there.")
    rotation = poses[:, :3, :3]
    shear = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2))
    determinant = np.linalg.det(rotation)
    wrong = (shear > ROTATION_TOLERANCE) | (determinant < 0)
    if wrong.any():
        frame = int(np.argmax(wrong))
        if shear[frame] <= ROTATION_TOLERANCE:
            what = f"mirrors the world: det = {determinant[frame]:+.3f}, expected +1"
        else:
            what = (f"is not a rotation: |R Rᵀ - I| = {shear[frame]:.3g}, allowed {ROTATION_TOLERANCE:g}; "
                    f"det = {determinant[frame]:+.3f}, expected +1")
        raise ValueError(f"{name}: frame {frame} {what}.\n{_AXES_HINT}")
    return poses


def invert(c2w: ArrayLike) -> np.ndarray:
    """Inverse of rigid transforms (..., 4, 4), by transposition: exact where a general inverse is not."""
    poses = np.asarray(c2w, np.float64)
    inverse = np.zeros_like(poses)
    inverse[..., :3, :3] = poses[..., :3, :3].swapaxes(-1, -2)
    inverse[..., :3, 3] = -np.einsum("...ji,...j->...i", poses[..., :3, :3], poses[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def relative(c2w: ArrayLike) -> np.ndarray:
    """inv(P_0) P_i for poses (F, 4, 4); frame 0 is the identity exactly. Translations are not rescaled."""
    poses = np.asarray(c2w, np.float64)
    related = invert(poses[0]) @ poses
    related[0] = np.eye(4)
    return related


def interpolate(
    times: ArrayLike, c2w: ArrayLike, query: ArrayLike, max_extrapolation_s: float = 0.0,
) -> np.ndarray:
    """Poses (Q, 4, 4) at the times `query`: centres linear, rotations by slerp between neighbours.

    A query at most `max_extrapolation_s` outside the span takes the nearest end's pose. Raises ValueError
    for a query farther out, and for times that do not increase strictly.
    """
    from scipy.spatial.transform import Rotation, Slerp

    knots, wanted = np.asarray(times, np.float64), np.asarray(query, np.float64)
    poses = check_c2w(c2w, "poses to interpolate")
    if knots.shape != (len(poses),) or not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
        raise ValueError(f"poses to interpolate: {len(poses)} poses with times of shape {knots.shape}; "
                         "times must be finite, one per pose, and increase strictly")
    outside = np.maximum(knots[0] - wanted, wanted - knots[-1])
    if not np.isfinite(wanted).all() or outside.max(initial=0.0) > max_extrapolation_s + 1e-9:
        worst = wanted[np.argmax(np.where(np.isnan(outside), np.inf, outside))]
        raise ValueError(f"pose asked for at {worst:.6f} s, but poses exist from {knots[0]:.6f} to "
                         f"{knots[-1]:.6f} s and may be held for at most {max_extrapolation_s:g} s beyond")
    inside = np.clip(wanted, knots[0], knots[-1])
    result = np.tile(np.eye(4), (len(wanted), 1, 1))
    for axis in range(3):
        result[:, axis, 3] = np.interp(inside, knots, poses[:, axis, 3])
    rotations = Rotation.from_matrix(poses[:, :3, :3])
    if len(poses) == 1:
        result[:, :3, :3] = poses[0, :3, :3]
    elif len(wanted):
        result[:, :3, :3] = Slerp(knots, rotations)(inside).as_matrix()
    return result


def rotation_angle_deg(rotation: ArrayLike) -> np.ndarray:
    """Angle of rotations (..., 3, 3), degrees in [0, 180]; accurate at both ends, unlike arccos."""
    r = np.asarray(rotation, np.float64)
    skew = r - r.swapaxes(-1, -2)
    axis = np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    trace = np.trace(r, axis1=-2, axis2=-1)
    return np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), trace - 1.0))


def look_at(centre: ArrayLike, target: ArrayLike, down: ArrayLike = (0.0, 1.0, 0.0)) -> np.ndarray:
    """c2w (..., 4, 4) at `centre` (..., 3) looking at `target` with the image's y axis towards `down`.

    Raises ValueError where the direction of view is undefined or parallel to `down`.
    """
    centre = np.asarray(centre, np.float64)
    forward = np.asarray(target, np.float64) - centre
    right = np.cross(np.asarray(down, np.float64), forward)
    lengths = np.linalg.norm(forward, axis=-1), np.linalg.norm(right, axis=-1)
    if min(np.min(lengths[0]), np.min(lengths[1])) < 1e-12:
        raise ValueError("look_at: the target lies at the camera, or straight along its down axis")
    z, x = forward / lengths[0][..., None], right / lengths[1][..., None]
    c2w = np.zeros((*np.broadcast_shapes(centre.shape, z.shape)[:-1], 4, 4))
    c2w[..., :3, 0], c2w[..., :3, 1], c2w[..., :3, 2] = x, np.cross(z, x), z
    c2w[..., :3, 3] = centre
    c2w[..., 3, 3] = 1.0
    return c2w


def resize_intrinsics(
    intrinsics: ArrayLike, from_size: tuple[int, int], to_size: tuple[int, int],
) -> np.ndarray:
    """Intrinsics (..., 4) of the resized image: with centres at +0.5 a plain ratio, no half-pixel terms."""
    sy, sx = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return np.asarray(intrinsics, np.float64) * np.array([sx, sy, sx, sy])


def crop_intrinsics(intrinsics: ArrayLike, top: float, left: float) -> np.ndarray:
    """Intrinsics (..., 4) of the image whose top-left corner lies at (left, top) of the old one."""
    return np.asarray(intrinsics, np.float64) - np.array([0.0, 0.0, left, top])


def rotate_intrinsics(intrinsics: ArrayLike, size: tuple[int, int], quarter_turns: int) -> np.ndarray:
    """Intrinsics (..., 4) after the image of `size` is turned clockwise; pair it with `rotate_in_plane`."""
    rotated = np.array(intrinsics, np.float64)
    height, width = size
    for _ in range(quarter_turns % 4):
        fx, fy, cx, cy = np.moveaxis(rotated, -1, 0)
        rotated = np.stack([fy, fx, height - cy, cx], -1)
        height, width = width, height
    return rotated


def rotate_in_plane(c2w: ArrayLike, quarter_turns: int) -> np.ndarray:
    """Poses (..., 4, 4) of the camera whose image is turned clockwise by quarter turns; the centre stays."""
    turn = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return np.asarray(c2w, np.float64) @ np.linalg.matrix_power(turn, quarter_turns % 4)


def fov_deg(intrinsics: ArrayLike, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal and vertical field of view, 2 atan(W / 2 fx) and 2 atan(H / 2 fy), degrees."""
    k = np.asarray(intrinsics, np.float64)
    height, width = size
    half_x, half_y = np.arctan(width / (2 * k[..., 0])), np.arctan(height / (2 * k[..., 1]))
    return np.degrees(2 * half_x), np.degrees(2 * half_y)


def project(points_camera: ArrayLike, intrinsics: ArrayLike) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in camera axes; NaN for points not in front of the camera."""
    points, k = np.asarray(points_camera, np.float64), np.asarray(intrinsics, np.float64)
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    return points[..., :2] / z[..., None] * k[..., :2] + k[..., 2:]


def unproject(pixels: ArrayLike, depth: ArrayLike, intrinsics: ArrayLike) -> np.ndarray:
    """Points (..., 3) in camera axes of pixels (..., 2) whose z coordinate is `depth` (...)."""
    k, z = np.asarray(intrinsics, np.float64), np.asarray(depth, np.float64)[..., None]
    xy = (np.asarray(pixels, np.float64) - k[..., 2:]) / k[..., :2] * z
    return np.concatenate([xy, np.broadcast_to(z, (*xy.shape[:-1], 1))], -1)
