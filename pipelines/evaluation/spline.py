"""Smooth camera paths through timed waypoints: speed by arc length, Laplacian smoothing, and a bound on how
fast a camera turns. The curves themselves are those of `annotate.splats.curves`.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from annotate.splats.curves import spline, squad

SAMPLES = 400
"""Of the curve between two waypoints."""
_STILL = 1e-9


def places_at(waypoints: np.ndarray, times: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Points (q, 3) at the times `query` on the centripetal Catmull-Rom curve through waypoints (n, 3), which
    is run through by its length: speed is that of a monotone cubic through the lengths at which the waypoints
    are due, and not the spline's. Waypoints that repeat are a pause."""
    moved = np.linalg.norm(np.diff(waypoints, axis=0), axis=1) > _STILL
    knots = np.asarray(waypoints, np.float64)[np.concatenate([[True], moved])]
    if len(knots) == 1:
        return np.repeat(knots, len(query), 0)
    points, parameter = spline(knots, SAMPLES * (len(knots) - 1) + 1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    due = np.interp(np.concatenate([[0], np.cumsum(moved)]), parameter, length)
    gone = PchipInterpolator(times, due)(query)
    return np.stack([np.interp(gone, length, axis) for axis in points.T], -1)


def turns_at(rotations: Rotation, times: np.ndarray, query: np.ndarray) -> Rotation:
    """Rotations at the times `query` by Squad through `rotations` at `times`."""
    i = np.clip(np.searchsorted(times, query, side="right") - 1, 0, len(times) - 2)
    share = np.clip((query - times[i]) / (times[i + 1] - times[i]), 0.0, 1.0)
    return Rotation.from_matrix(squad(rotations.as_matrix(), i + share))


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
