"""Smooth camera paths through waypoints: centripetal Catmull-Rom for places, Squad for orientations,
arc length for speed, Laplacian smoothing, and a bound on how fast a camera turns.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

SAMPLES = 400
"""Of the curve between two waypoints, when its length is measured."""
_STILL = 1e-9


def catmull_rom(waypoints: np.ndarray, samples: int = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Centripetal Catmull-Rom curve through `waypoints` (n, d) (Yuksel et al. 2011).

    Returns points (m, d) along it, and the index (n,) at which each waypoint is met. Waypoints that repeat
    are met at the same index. A curve of one point is that point.
    """
    moved = np.linalg.norm(np.diff(waypoints, axis=0), axis=1) > _STILL
    knots = waypoints[np.concatenate([[True], moved])]
    places = np.concatenate([[0], np.cumsum(moved)])
    if len(knots) == 1:
        return knots, np.zeros(len(waypoints), int)
    # Beyond the ends the path goes on as it came: mirrored neighbours.
    p = np.concatenate([[2 * knots[0] - knots[1]], knots, [2 * knots[-1] - knots[-2]]])
    u = np.linspace(0.0, 1.0, samples, endpoint=False)[:, None]
    pieces = [_piece(p[i : i + 4], u) for i in range(len(knots) - 1)]
    return np.concatenate([*pieces, knots[-1:]]), places * samples


def _piece(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """From p[1] to p[2] at shares `u` of the knot interval (Barry and Goldman's pyramid)."""
    t = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1) ** 0.5)])
    at = t[1] + u * (t[2] - t[1])

    def between(a: np.ndarray, b: np.ndarray, ta: float, tb: float) -> np.ndarray:
        return a + (b - a) * (at - ta) / (tb - ta)

    a1, a2, a3 = (between(p[i], p[i + 1], t[i], t[i + 1]) for i in range(3))
    b1, b2 = between(a1, a2, t[0], t[2]), between(a2, a3, t[1], t[3])
    return between(b1, b2, t[1], t[2])


def places_at(waypoints: np.ndarray, times: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Points (q, d) at the times `query`: the curve is run through by arc length, so that its speed is that
    of a monotone cubic through the lengths at which the waypoints are due, and not the spline's."""
    curve, met = catmull_rom(np.asarray(waypoints, np.float64))
    if len(curve) == 1:
        return np.repeat(curve, len(query), 0)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    gone = PchipInterpolator(times, length[met])(query)
    return np.stack([np.interp(gone, length, axis) for axis in curve.T], -1)


def squad(rotations: Rotation, times: np.ndarray, query: np.ndarray) -> Rotation:
    """Rotations at the times `query` by spherical cubic interpolation through `rotations` (Shoemake 1987)."""
    q = same_side(rotations.as_quat())
    turns = Rotation.from_quat(q)
    inner = q.copy()
    if len(q) > 2:
        ahead = (turns[1:-1].inv() * turns[2:]).as_rotvec()
        back = (turns[1:-1].inv() * turns[:-2]).as_rotvec()
        inner[1:-1] = (turns[1:-1] * Rotation.from_rotvec(-(ahead + back) / 4)).as_quat()
        inner = np.where((inner * q).sum(1, keepdims=True) < 0, -inner, inner)
    i = np.clip(np.searchsorted(times, query, side="right") - 1, 0, len(times) - 2)
    u = np.clip((query - times[i]) / (times[i + 1] - times[i]), 0.0, 1.0)[:, None]
    outer = _slerp(q[i], q[i + 1], u)
    return Rotation.from_quat(_slerp(outer, _slerp(inner[i], inner[i + 1], u), 2 * u * (1 - u)))


def _slerp(a: np.ndarray, b: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Between unit quaternions (n, 4) the short way, at shares `u` (n, 1)."""
    cosine = (a * b).sum(1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.abs(cosine)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6
    safe = np.where(near, 1.0, sine)
    mixed = np.where(near, (1 - u) * a + u * b,
                     np.sin((1 - u) * angle) / safe * a + np.sin(u * angle) / safe * b)
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def same_side(quaternions: np.ndarray) -> np.ndarray:
    """Each of (n, 4) with the sign that lies nearer to the one before."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(1)
    signs = np.cumprod(np.concatenate([[1.0], np.where(dots < 0, -1.0, 1.0)]))
    return quaternions * signs[:, None]


def smooth(values: np.ndarray, rounds: int) -> np.ndarray:
    """Laplacian smoothing of (n, d): each goes half way to the mean of its neighbours, ends stay.

    Variance grows by half a frame squared a round: 64 rounds are a Gaussian of 5.7 frames.
    """
    values = values.copy()
    for _ in range(rounds):
        values[1:-1] += 0.25 * (values[:-2] - 2 * values[1:-1] + values[2:])
    return values


def smooth_turns(rotations: Rotation, rounds: int) -> Rotation:
    """`smooth` for rotations that differ little from frame to frame."""
    q = same_side(rotations.as_quat())
    for _ in range(rounds):
        q[1:-1] += 0.25 * (q[:-2] - 2 * q[1:-1] + q[2:])
        q /= np.linalg.norm(q, axis=1, keepdims=True)
    return Rotation.from_quat(q)


def limit_turns(rotations: Rotation, step_rad: float) -> Rotation:
    """Follow `rotations` turning by at most `step_rad` a frame; what is too quick is caught up later."""
    wanted = rotations.as_quat()
    steps = (rotations[:-1].inv() * rotations[1:]).magnitude()
    if (steps <= step_rad).all():
        return rotations
    followed, here = [wanted[0]], rotations[0]
    for target in rotations[1:]:
        turn = (here.inv() * target).as_rotvec()
        angle = float(np.linalg.norm(turn))
        here = target if angle <= step_rad else here * Rotation.from_rotvec(turn * (step_rad / angle))
        followed.append(here.as_quat())
    return Rotation.from_quat(np.stack(followed))
