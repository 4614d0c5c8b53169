"""From a template to the path of a scene: its size, its speed, and whether it runs into anything
(paper, App. D)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from dataset.camera import relative, rotation_angle_deg, unproject
from pipelines.evaluation.spline import limit_turns, places_at, smooth, smooth_turns, turns_at
from pipelines.evaluation.templates import SECONDS, Template

FPS = 16.0
FRAMES = 961
SMOOTHING = 64
"""Rounds of Laplacian smoothing; the paper gives no number."""
TOLERANCE = 1e-9


@dataclass
class PathConfig:
    """How templates become paths; the defaults are the paper's."""

    frames: int = FRAMES  # of every video, 24k + 1, at 16 a second; shorter ones are the same path, smaller
    reach: float = 0.6  # metres that a template's unit of length is, as a share of the scene's median depth
    speed: float = 0.4  # metres a second at most
    turn: float = 12.0  # degrees a second at most
    margin: float = 0.3  # metres from any known surface
    retries: int = 3  # times that a path which comes closer is tried again, slower
    slower: float = 0.7  # share of the speed that each retry keeps
    depth: float = 4.0  # median depth in metres of scenes that bring none; collisions are then not looked for

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.frames < 25 or self.frames % 24 != 1:
            raise ValueError(f"path.frames={self.frames}, allowed 25, 49, 73, ...: 24k + 1, which every "
                             "sampler can make")
        for name in ("reach", "speed", "turn", "depth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"path.{name}={getattr(self, name)}, allowed more than 0")
        if self.margin < 0 or self.retries < 0 or not 0 < self.slower < 1:
            raise ValueError(f"path.margin={self.margin} path.retries={self.retries} "
                             f"path.slower={self.slower}, allowed 0 or more, 0 or more, between 0 and 1")


class PathCollides(ValueError):
    """A path comes too close to a surface even at the lowest speed."""


@dataclass(frozen=True)
class Surroundings:
    """What is known of the space of a scene: median depth in metres, and points (n, 3) in the axes of the
    first camera, or None."""

    depth: float
    points: np.ndarray | None

    @classmethod
    def of_depth(cls, depth: np.ndarray, intrinsics: np.ndarray) -> Surroundings:
        """From a depth map (H, W) in metres, seen by the first camera; what is not finite is empty."""
        known = np.isfinite(depth) & (depth > 0)
        if not known.any():
            raise ValueError("a depth map without a single finite positive value")
        y, x = np.nonzero(known)
        points = unproject(np.stack([x, y], -1) + 0.5, depth[known], intrinsics)
        return cls(float(np.median(depth[known])), points)


@dataclass(frozen=True)
class ScenePath:
    """c2w (F, 4, 4), frame 0 the identity, metres; how often it was slowed, and its distance from what is
    known of the scene (None: nothing is)."""

    c2w: np.ndarray
    retries: int
    clearance: float | None


def unit_path(template: Template, frames: int = FRAMES, turn: float = 12.0) -> np.ndarray:
    """Poses (F, 4, 4) of a template in its own unit of length. A path of less than a minute turns by as much
    less, so that the bound on turning leaves its shape as it is."""
    seconds = (frames - 1) / FPS
    times, query = template.times * (seconds / SECONDS), np.arange(frames) / FPS
    places = smooth(places_at(template.places, times, query), _rounds(frames))
    degrees = template.yaw_pitch_deg * min(1.0, seconds / SECONDS)
    # Yaw turns z towards x, pitch turns z towards -y: as the action language has it.
    waypoints = Rotation.from_euler("YX", degrees, degrees=True)
    step = np.radians(turn / FPS)
    turns = limit_turns(smooth_turns(turns_at(waypoints, times, query), _rounds(frames)), step)
    turns = limit_turns(smooth_turns(turns, _rounds(frames)), step)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, :3], c2w[:, :3, 3] = turns.as_matrix(), places
    return relative(c2w)


def _rounds(frames: int) -> int:
    return max(1, round(SMOOTHING * min(1.0, (frames / FRAMES) ** 2)))


def scene_path(template: Template, around: Surroundings, config: PathConfig) -> ScenePath:
    """The path of a template in a scene. Raises PathCollides."""
    unit = unit_path(template, config.frames, config.turn)
    quickest = float(speeds(unit).max())
    scale = min(config.reach * around.depth, config.speed / quickest if quickest > TOLERANCE else np.inf)
    tree = None if around.points is None else cKDTree(around.points)
    clearance = None
    for retry in range(config.retries + 1):
        c2w = unit.copy()
        c2w[:, :3, 3] *= scale * config.slower**retry
        if tree is None:
            return ScenePath(c2w, retry, None)
        clearance = float(tree.query(c2w[:, :3, 3])[0].min())
        if clearance >= config.margin:
            return ScenePath(c2w, retry, clearance)
    raise PathCollides(f"path {template.name}: {clearance:.2f} m from a surface of the scene after "
                       f"{config.retries} slower tries, allowed {config.margin:g} m; give the scene more "
                       "room or lower path.margin")


def speeds(c2w: np.ndarray, fps: float = FPS) -> np.ndarray:
    """Metres a second between neighbouring frames, (F - 1,)."""
    return np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1) * fps


def turn_rates(c2w: np.ndarray, fps: float = FPS) -> np.ndarray:
    """Degrees a second between neighbouring frames, (F - 1,)."""
    return rotation_angle_deg(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3]) * fps
