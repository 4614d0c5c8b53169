"""Fits drafted paths to a scene: inside the zone of its cameras, smooth, and no faster than allowed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from annotate.splats.paths import Draft, Family, Frame, draw, family_of
from annotate.splats.statistics import SceneStatistics
from dataset.camera import interpolate, rotation_angle_deg

ATTEMPTS = 12
_SHRINK = 0.85  # of the motion, from one attempt to the next
_CLAMP = 0.9  # of the zone's radius: smoothing then has room to cut corners
_LEAST_TRAVEL = 0.02  # of r: a path shorter than that is none
_JUMP = 0.05  # of r, between two frames before speeds are limited


class Limits(NamedTuple):
    """Most units of the scene a second, and degrees a second."""

    speed: float
    turn_deg: float


class FittedPath(NamedTuple):
    """c2w (N, 4, 4) of a candidate; `attempt` counts from 0."""

    family: Family
    c2w: np.ndarray
    attempt: int


def fit_path(
    candidate: int, near_original: int, scene: SceneStatistics, frames: int, fps: int, limits: Limits,
    seed: int,
) -> FittedPath | str:
    """The path of a candidate, or why there is none.

    A draft that cannot be brought into the zone is drawn again, a little smaller, up to twelve times.
    """
    family = family_of(candidate, near_original)
    why = ""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, candidate, attempt])
        draft = draw(family, Frame(scene, frames, fps, _SHRINK**attempt, rng))
        fitted = _fit(draft, scene, frames, fps, limits)
        if not isinstance(fitted, str):
            return FittedPath(family, fitted, attempt)
        why = fitted
    return f"{why}, {ATTEMPTS} times"


def _fit(draft: Draft, scene: SceneStatistics, frames: int, fps: int, limits: Limits) -> np.ndarray | str:
    """c2w (N, 4, 4), or a reason."""
    sigma = frames / 200
    positions = scene.clamp(draft.positions, _CLAMP)
    if np.linalg.norm(np.diff(positions, axis=0), axis=1).max() > max(
            _JUMP * scene.radius, 3 * np.linalg.norm(np.diff(draft.positions, axis=0), axis=1).max()):
        return "it jumps from the zone of one camera to that of another"
    positions = gaussian_filter1d(positions, sigma, axis=0, mode="nearest")
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, :3], c2w[:, :3, 3] = draft.view(positions), positions
    c2w = slowed(c2w, fps, limits)
    if (scene.distance_outside(c2w[:, :3, 3]) > 0).any():
        return "it leaves the zone of the training cameras"
    travel = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum()
    if travel < _LEAST_TRAVEL * scene.radius:
        return f"it travels {travel / scene.radius:.3f} r, less than {_LEAST_TRAVEL:g}"
    return c2w


def slowed(c2w: np.ndarray, fps: int, limits: Limits) -> np.ndarray:
    """The beginning of a path (N, 4, 4), as much of it as N frames allow at no more than these speeds.

    Where the path is slow enough it keeps its own time.
    """
    period = 1 / fps
    # A hair less than allowed, so that rounding does not exceed it.
    speed, turn = limits.speed * (1 - 1e-9), limits.turn_deg * (1 - 1e-9)
    steps = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1) / speed
    turns = rotation_angle_deg(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3]) / turn
    lasts = np.maximum(np.maximum(steps, turns), period)
    if lasts.max() <= period:
        return c2w
    times = np.concatenate([[0.0], np.cumsum(lasts)])
    slow = interpolate(times, c2w, np.arange(len(c2w)) * period)
    slow[0] = c2w[0]
    return slow
