"""What paths need to know of a scene: its centre, size, upright direction, and where cameras may stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.splats.cameras import TrainingCameras
from annotate.splats.scene import SceneError, Splats

LEAST_CAMERAS = 10
LEAST_OPACITY = 0.1
"""Gaussians below it are not counted as part of the scene."""
MOST_SAMPLED = 200_000
_FORWARD_FACING = 0.8  # length of the mean direction of view
_AGREEMENT_DEG = 30.0  # between the cameras' mean up and the axis of least extent, to take the latter
_BOUNDS = (2.0, 98.0)  # percentiles: what lies outside is stray
_FLAT = 1e-3  # least extent over the largest
_EPSILON = 1e-9


@dataclass(frozen=True)
class SceneStatistics:
    """Of the training cameras, in units of the scene: centroid (3,), `radius` r = median distance from it,
    `heights` (lowest, highest) along `up` about the centroid, `e1`, `e2` unit axes of a plane to circle in,
    `up` across it. `target` (3,) is the centre of the Gaussians, strays left out.
    `forward_facing`: the cameras look the same way.
    """

    centroid: np.ndarray
    radius: float
    heights: tuple[float, float]
    e1: np.ndarray
    e2: np.ndarray
    up: np.ndarray
    target: np.ndarray
    forward_facing: bool
    cameras: TrainingCameras
    zone_radius: float  # in units of the scene

    def distance_outside(self, positions: np.ndarray) -> np.ndarray:
        """(N,): how far positions (N, 3) lie outside the zone, 0 within."""
        return (self._nearest(positions)[0] - self.zone_radius).clip(0)

    def clamp(self, positions: np.ndarray, share: float = 1.0) -> np.ndarray:
        """(N, 3): each moved straight towards the nearest camera until it is within `share` of the zone."""
        distance, nearest = self._nearest(positions)
        limit = share * self.zone_radius
        shrink = np.minimum(1.0, limit / np.maximum(distance, 1e-12))
        centres = self.cameras.centres[nearest]
        return centres + (positions - centres) * shrink[:, None]

    def _nearest(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from scipy.spatial import cKDTree

        return cKDTree(self.cameras.centres).query(positions)


def measure_scene(
    splats: Splats, sample: np.ndarray, cameras: TrainingCameras, zone_radius: float,
) -> SceneStatistics:
    """Statistics of a scene whose solid Gaussians are `sample` (indices); zone_radius in units of r.

    Raises SceneError for fewer than ten cameras, cameras in one place, and Gaussians in one plane.
    """
    centres = cameras.centres
    if len(centres) < LEAST_CAMERAS:
        raise SceneError("few_cameras", f"{len(centres)} training cameras; {LEAST_CAMERAS} are needed")
    centroid = centres.mean(0)
    radius = float(np.median(np.linalg.norm(centres - centroid, axis=1)))
    extent = float(np.ptp(splats.means[sample], axis=0).max()) if len(sample) else 0.0
    if radius <= _EPSILON * max(extent, 1.0):
        raise SceneError("one_place", "all training cameras stand in one place: there is no size to go by")
    target = _middle(splats.means[sample].astype(np.float64))
    up, e1, e2 = _axes(cameras)
    along = (centres - centroid) @ up
    facing = bool(np.linalg.norm(cameras.c2w[:, :3, 2].mean(0)) > _FORWARD_FACING)
    heights = float(along.min()), float(along.max())
    return SceneStatistics(centroid, radius, heights, e1, e2, up, target, facing, cameras,
                           zone_radius * radius)


def solid_sample(splats: Splats, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most 200,000 Gaussians of opacity above 0.1. Raises SceneError where there is none."""
    solid = np.flatnonzero(splats.opacities > LEAST_OPACITY)
    if not len(solid):
        raise SceneError("empty_scene", f"no splat is more opaque than {LEAST_OPACITY:g}")
    return np.sort(rng.choice(solid, MOST_SAMPLED, replace=False)) if len(solid) > MOST_SAMPLED else solid


def robust_bounds(means: np.ndarray) -> np.ndarray:
    """(2, 3): lowest and highest corner around means (n, 3), but for 2 % at each side, which may be stray."""
    return np.percentile(means, _BOUNDS, axis=0)


def _middle(means: np.ndarray) -> np.ndarray:
    """Centre of Gaussians (n, 3) without strays. Raises SceneError where they lie in one plane."""
    low, high = robust_bounds(means)
    inside = means[((means >= low) & (means <= high)).all(1)]
    inside = inside if len(inside) > 3 else means
    spread = np.linalg.svd(inside - inside.mean(0), compute_uv=False) if len(inside) > 3 else np.zeros(3)
    if spread[2] <= _FLAT * spread[0]:
        raise SceneError("flat_scene", "all splats lie in one plane or line: other views would show its edge")
    return inside.mean(0)


def _axes(cameras: TrainingCameras) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(up, e1, e2): up is the mean of the cameras' own, or the axis of their least extent where it agrees."""
    up = -cameras.c2w[:, :3, 1].mean(0)
    if np.linalg.norm(up) < 0.1:
        raise SceneError("no_up", "the training cameras do not agree on what is up")
    up = up / np.linalg.norm(up)
    axes = np.linalg.svd(cameras.centres - cameras.centres.mean(0), full_matrices=True)[2]
    least = axes[2] * (np.sign(axes[2] @ up) or 1.0)
    if least @ up > np.cos(np.radians(_AGREEMENT_DEG)):
        up = least
    e1 = axes[0] - (axes[0] @ up) * up
    if np.linalg.norm(e1) < 0.1:  # the cameras rise straight up
        e1 = axes[1] - (axes[1] @ up) * up
    e1 = e1 / np.linalg.norm(e1)
    return up, e1, np.cross(up, e1)
