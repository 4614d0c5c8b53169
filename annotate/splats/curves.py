"""Smooth curves through cameras: centripetal Catmull-Rom positions, squad rotations, and level views."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

_STEEPEST = np.sin(np.radians(75.0))
_DENSE = 256  # samples between two waypoints, from which lengths are measured


def ease(u: np.ndarray) -> np.ndarray:
    """0 to 1, at rest at both ends with its first and second derivative."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u * u)


def spline(waypoints: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (count, 3) evenly by arc length along a centripetal Catmull-Rom curve through waypoints
    (m, 3), m >= 2, and their parameters (count,) in waypoints."""
    knots = np.arange(0, (len(waypoints) - 1) * _DENSE + 1) / _DENSE
    dense = _catmull_rom(waypoints, knots)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    length += np.arange(len(length)) * 1e-12 * max(length[-1], 1.0)  # strictly increasing
    parameter = np.interp(np.linspace(0, length[-1], count), length, knots)
    return _catmull_rom(waypoints, parameter), parameter


def _catmull_rom(waypoints: np.ndarray, parameter: np.ndarray) -> np.ndarray:
    """Positions at a parameter in waypoints: a pyramid of interpolations, knots sqrt(distance) apart."""
    ends = 2 * waypoints[0] - waypoints[1], 2 * waypoints[-1] - waypoints[-2]
    points = np.concatenate([ends[0][None], waypoints, ends[1][None]])
    steps = np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1)).clip(1e-9)
    index = np.clip(parameter.astype(np.int64), 0, len(waypoints) - 2)
    a, b, c, d = (points[index + k] for k in range(4))
    t1 = steps[index]
    t2 = t1 + steps[index + 1]
    t3 = t2 + steps[index + 2]
    t = t1 + (parameter - index) * (t2 - t1)

    def mix(p: np.ndarray, q: np.ndarray, start: np.ndarray | float, stop: np.ndarray) -> np.ndarray:
        return p + ((t - start) / (stop - start))[:, None] * (q - p)

    ab, bc, cd = mix(a, b, 0.0, t1), mix(b, c, t1, t2), mix(c, d, t2, t3)
    return mix(mix(ab, bc, 0.0, t2), mix(bc, cd, t1, t3), t1, t2)


def squad(rotations: np.ndarray, parameter: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) at a parameter in waypoints (N,), through rotations (m, 3, 3):
    spherical quadrangle interpolation, smooth at the waypoints."""
    whole = Rotation.from_matrix(rotations)
    turns = (whole[:-1].inv() * whole[1:]).as_rotvec()
    forth = np.concatenate([turns, turns[-1:]])
    back = np.concatenate([-turns[:1], -turns])
    control = whole * Rotation.from_rotvec(-(forth + back) / 4)
    outer = _continuous(whole.as_quat())
    inner = control.as_quat()
    inner *= np.where((inner * outer).sum(1, keepdims=True) < 0, -1, 1)
    index = np.clip(parameter.astype(np.int64), 0, len(rotations) - 2)
    t = parameter - index
    outside, inside = (_slerp(q[index], q[index + 1], t) for q in (outer, inner))
    return Rotation.from_quat(_slerp(outside, inside, 2 * t * (1 - t))).as_matrix()


def blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of a path, `share` (N,) of the way from those of one path to those of another.

    The way between them is the shorter one where they meet half way, and changes sides nowhere else.
    """
    a, b = (_continuous(Rotation.from_matrix(r).as_quat()) for r in (first, second))
    middle = len(a) // 2
    b = b if a[middle] @ b[middle] >= 0 else -b
    return Rotation.from_quat(_slerp(a, b, share)).as_matrix()


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """(N, 4), each with the sign that is nearer to the one before."""
    flips = (quaternions[1:] * quaternions[:-1]).sum(1) < 0
    return quaternions * np.where(np.concatenate([[0], np.cumsum(flips)]) % 2, -1.0, 1.0)[:, None]


def _slerp(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Unit quaternions (N, 4) between `a` and `b`, along the arc that their signs say."""
    angle = np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))[:, None] * 2
    t, sine = share[:, None], np.sin(angle)
    near = sine < 1e-6  # equal, or opposite, where any arc is as good
    weights = [np.where(near, s, np.sin(s * angle) / np.where(near, 1, sine)) for s in (1 - t, t)]
    mixed = weights[0] * a + weights[1] * b
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def upright(forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) of cameras that look along `forward` (N, 3) with level horizon, at most 75 degrees
    up or down. Where it has no direction at all the one before, else any level one, is taken."""
    rise = forward @ up
    flat = forward - rise[:, None] * up
    wide, length = np.linalg.norm(flat, axis=1), np.linalg.norm(forward, axis=1)
    known = wide > 1e-6 * length.max(initial=1e-30)
    if not known.any():
        flat = np.tile(np.cross(up, np.eye(3)[np.argmin(np.abs(up))]), (len(forward), 1))
        wide = np.linalg.norm(flat, axis=1)
    else:
        last = np.maximum.accumulate(np.where(known, np.arange(len(forward)), np.argmax(known)))
        flat, wide = flat[last], wide[last]
    steep = np.clip(rise / np.maximum(length, 1e-30), -_STEEPEST, _STEEPEST)
    z = flat / wide[:, None] * np.sqrt(1 - steep**2)[:, None] + steep[:, None] * up
    x = np.cross(z, up)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], -1)
