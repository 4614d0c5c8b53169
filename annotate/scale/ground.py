"""Height of a camera over the ground it moves on, in the unit of its depth maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.camera import unproject
from dataset.clip import CameraTrack, DepthMaps

MAX_TILT_DEG = 15.0
MIN_POINTS = 50
MIN_WINDOW_SHARE = 0.3
MIN_WINDOWS = 3

_SAMPLE = 1500  # points of a map that take part
_HYPOTHESES = 300
_THICKNESS = 0.04  # of the plane, in heights: depth that errs by 4 % moves a ground point by so much
_MAX_BELOW = 0.03  # share of the points below the camera that may lie under the ground
_MIN_ON = 0.1  # share of them that must lie on it


@dataclass(frozen=True)
class CameraHeight:
    """Median height over the maps that show ground, and their median absolute deviation."""

    height: float
    deviation: float
    windows: int


def camera_height(track: CameraTrack, maps: DepthMaps) -> tuple[CameraHeight | None, str | None]:
    """The camera's height over a fitted ground plane, or None and the reason.

    Each depth map votes: RANSAC on its points below the camera, plane normal within 15 degrees of the mean
    up axis, at least 50 points on it and next to none under it. At least 30 % of the maps, and three, must
    show one.
    """
    up = -track.c2w[track.posed, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    heights = []
    for k, frame in enumerate(maps.frames):
        height = _plane_height(_points(maps, k), track.c2w[frame, :3, :3].T @ up, int(frame))
        if height is not None:
            heights.append(height)
    if len(heights) < max(MIN_WINDOWS, MIN_WINDOW_SHARE * len(maps.frames)):
        return None, (f"a ground plane is seen in {len(heights)} of {len(maps.frames)} depth maps, "
                      f"{MIN_WINDOW_SHARE:.0%} and at least {MIN_WINDOWS} are needed")
    median = float(np.median(heights))
    return CameraHeight(median, float(np.median(np.abs(np.array(heights) - median))), len(heights)), None


def _points(maps: DepthMaps, k: int) -> np.ndarray:
    """(n, 3) points of a map in its camera's axes, evenly thinned."""
    ys, xs = np.nonzero(maps.valid[k])
    step = max(1, len(ys) // _SAMPLE)
    ys, xs = ys[::step], xs[::step]
    depth = maps.depth[k, ys, xs].astype(np.float64)
    return unproject(np.stack([xs + 0.5, ys + 0.5], -1), depth, maps.intrinsics[k])


def _plane_height(points: np.ndarray, up: np.ndarray, seed: int) -> float | None:
    """Distance from the camera (the origin) to the lowest large plane across `up`, or None."""
    below = points[points @ up < 0]
    if len(below) < MIN_POINTS:
        return None
    rng = np.random.default_rng(seed)
    triples = below[rng.integers(0, len(below), (_HYPOTHESES, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals /= np.where(lengths > 0, lengths, 1)[:, None]
    normals *= np.where(normals @ up < 0, -1.0, 1.0)[:, None]
    heights = -(normals * triples[:, 0]).sum(1)
    upright = (lengths > 0) & (normals @ up > np.cos(np.radians(MAX_TILT_DEG))) & (heights > 0)
    normals, heights = normals[upright], heights[upright]
    if not len(normals):
        return None
    offset = (below @ normals.T) / heights + 1.0  # (n, hypotheses): 0 on the plane, in heights
    on = np.abs(offset) <= _THICKNESS
    votes = np.where((offset < -3 * _THICKNESS).mean(0) <= _MAX_BELOW, on.sum(0), 0)
    best = int(votes.argmax())
    if votes[best] < MIN_POINTS:
        return None
    return _refined(below, normals[best] / heights[best], up)


def _refined(below: np.ndarray, plane: np.ndarray, up: np.ndarray) -> float | None:
    """Height of the plane q x = -1 refitted to the points (n, 3) on it, ever thinner.

    None when too few points lie on it, or when it leans too much.
    """
    for thickness in (_THICKNESS, _THICKNESS / 2, _THICKNESS / 2):
        on = below[np.abs(below @ plane + 1.0) <= thickness]
        if len(on) < max(MIN_POINTS, _MIN_ON * len(below)):
            return None
        plane, *_ = np.linalg.lstsq(on, -np.ones(len(on)), rcond=None)
    length = float(np.linalg.norm(plane))
    if not plane @ up > np.cos(np.radians(MAX_TILT_DEG)) * length:
        return None
    return 1 / length
