"""Where to stand in a scene that came without cameras: free places from which most directions show something.

A guess, and taken for one: the upright direction is an assumption, and nobody has looked from there before.
"""

from __future__ import annotations

import numpy as np

from annotate.splats.cameras import TrainingCameras
from annotate.splats.coverage import coverage
from annotate.splats.curves import upright
from annotate.splats.scene import SceneError, Splats
from annotate.splats.statistics import LEAST_CAMERAS, robust_bounds

PLACES = 60
_TRIED = 600
_HEADINGS = 8
_GOOD = 0.5  # least share of the headings that must show enough
_INNER = 0.15  # of the bounds' sides, kept away from
_CLEARANCE = 0.04  # of the bounds' diagonal: least distance to the nearest solid splats
_NEAREST = 8  # of them: single strays do not fill a place
_FOV_DEG = (55.0, 80.0)
_SIZE = (90, 160)


def free_space_cameras(
    splats: Splats, solid: np.ndarray, up: np.ndarray, frustum_share: float, empty_tiles: float,
    rng: np.random.Generator,
) -> TrainingCameras:
    """Level cameras in up to sixty free places, in an order in which one could walk through them.

    Raises SceneError where there are fewer than ten such places.
    """
    from scipy.spatial import cKDTree

    means = splats.means[solid]
    low, high = robust_bounds(means)
    side = high - low
    places = rng.uniform(low + _INNER * side, high - _INNER * side, (_TRIED, 3))
    tree = cKDTree(means)
    distance = tree.query(places, k=min(_NEAREST, len(means)))[0].reshape(_TRIED, -1)[:, -1]
    free = places[distance > _CLEARANCE * np.linalg.norm(side)]
    rotations = _level(up)
    sample = means if len(means) <= 20_000 else means[rng.choice(len(means), 20_000, replace=False)]
    found, views = [], []
    for place in free:
        good = [_sees(sample, place, rotation, frustum_share, empty_tiles) for rotation in rotations]
        if np.mean(good) >= _GOOD:
            found.append(place)
            views.append(np.array(good))
        if len(found) == PLACES:
            break
    if len(found) < LEAST_CAMERAS:
        raise SceneError("no_free_space", f"{len(found)} free places with a view among {_TRIED} tried, "
                         f"{LEAST_CAMERAS} are needed; give the scene its cameras (cameras.json or "
                         "transforms.json beside it)")
    return _walk(np.array(found), np.array(views), rotations)


def _level(up: np.ndarray) -> np.ndarray:
    """(8, 3, 3): level cameras all around."""
    first = upright(np.zeros((1, 3)), up)[0]
    angle = np.arange(_HEADINGS) / _HEADINGS * 2 * np.pi
    return upright(np.cos(angle)[:, None] * first[:, 2] + np.sin(angle)[:, None] * first[:, 0], up)


def _sees(
    means: np.ndarray, place: np.ndarray, rotation: np.ndarray, frustum_share: float, empty_tiles: float,
) -> bool:
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = rotation, place
    focal = _SIZE[1] / 2 / np.tan(np.radians(np.mean(_FOV_DEG)) / 2)
    intrinsics = np.array([focal, focal, _SIZE[1] / 2, _SIZE[0] / 2])
    return coverage(means, c2w[None], intrinsics, _SIZE, 0.0, frustum_share, empty_tiles).covered > 0


def _walk(places: np.ndarray, views: np.ndarray, rotations: np.ndarray) -> TrainingCameras:
    """From one place to the nearest of those left, turning as little as the views allow."""
    left, at, heading = list(range(1, len(places))), 0, int(np.argmax(views[0]))
    c2w = np.tile(np.eye(4), (len(places), 1, 1))
    for row in range(len(places)):
        turn = (np.arange(_HEADINGS) - heading) % _HEADINGS
        heading = int(np.argmin(np.where(views[at], np.minimum(turn, _HEADINGS - turn), _HEADINGS)))
        c2w[row, :3, :3], c2w[row, :3, 3] = rotations[heading], places[at]
        if left:
            at = left.pop(int(np.argmin(np.linalg.norm(places[left] - places[at], axis=1))))
    return TrainingCameras(c2w, np.linspace(*_FOV_DEG, len(places)))
