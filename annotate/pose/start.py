"""The first keyframes of a map: each pair and focal hypothesis is grown a little, and the best is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.pose.bundle import Priors, huber_cost
from annotate.pose.config import ClassicalConfig
from annotate.pose.reprojection import Free, Observations, residuals
from annotate.pose.tracks import Tracks
from annotate.pose.twoview import Pair, candidate_pairs, relative_pose
from annotate.pose.window import KeyframeMap

MIN_KEYFRAMES = 5
"""Keyframes a start is tried on: two hardly tell one focal length from another."""
SAME_FOCAL = 0.01
"""Share within which two focal lengths are the same: the hypotheses have met."""
MISSING_COST = 8.0
"""Charged, in units of the robust cost, for an observation that a start leaves unexplained."""


@dataclass
class Start:
    """A small map, the hypothesis it came from, and its mean cost per observation."""

    map: KeyframeMap
    pair: Pair
    focal_px: float  # the hypothesis, not the result
    cost: float
    cheirality: float


def focal_of_fov(fov_deg: float, size: tuple[int, int]) -> float:
    """Focal length in pixels of a field of view over the longer side."""
    return float(0.5 * max(size) / np.tan(np.radians(fov_deg) / 2))


def find_start(
    tracks: Tracks, seen: Observations, points: int, intrinsics: np.ndarray | None, priors: Priors,
    config: ClassicalConfig,
) -> tuple[Start | None, list[Start]]:
    """The cheapest start, and all that were grown. intrinsics (K, 4) of the keyframes if known."""
    height, width = tracks.size
    found: list[Start] = []
    hypotheses = [0.0] if intrinsics is not None else [focal_of_fov(f, tracks.size) for f in config.fov_deg]
    for pair in candidate_pairs(tracks):
        reached: list[float] = []
        for focal in hypotheses:
            guess = intrinsics
            if guess is None:
                guess = np.tile([focal, focal, width / 2, height / 2], (len(tracks.keyframes), 1))
            small, cheirality = _begin(tracks, seen, points, guess, intrinsics is not None, pair, config)
            if small is None or not _grow(small, pair, priors, reached):
                continue
            found.append(Start(small, pair, focal, _cost(small), cheirality))
        if found and min(start.cost for start in found) < 1.0:
            break
    best = min(found, key=lambda start: start.cost) if found else None
    if best is not None:
        best.map.widen(seen)
    return best, found


def _begin(
    tracks: Tracks, seen: Observations, points: int, intrinsics: np.ndarray, known: bool, pair: Pair,
    config: ClassicalConfig,
) -> tuple[KeyframeMap | None, float]:
    """A map of a pair and its cheirality; it knows the observations of the keyframes near by only."""
    _, a, b = tracks.common(*tracks.keyframes[[pair.first, pair.second]])
    pose = relative_pose(a, b, intrinsics[pair.first], intrinsics[pair.second])
    if pose is None or pose.inliers < config.min_inliers:
        return None, 0.0
    near = (seen.camera > pair.first - MIN_KEYFRAMES) & (seen.camera < pair.second + MIN_KEYFRAMES)
    small = KeyframeMap(seen.select(near), points, intrinsics, known, config)
    small.begin(pair.first, pair.second, pose.rotation, pose.translation)
    return (small if small.solved.sum() >= config.min_inliers else None), pose.cheirality


def _grow(small: KeyframeMap, pair: Pair, priors: Priors, reached: list[float]) -> bool:
    """Place the keyframes of the pair and beside it, and adjust; false where this leads to a focal length
    that another hypothesis has `reached` already."""
    free = Free(focal="none" if small.known else "shared")
    inner = list(range(pair.first + 1, pair.second))
    spare = MIN_KEYFRAMES - len(inner) - 2
    after = list(range(pair.second + 1, min(pair.second + 1 + max(spare, 0), len(small.posed))))
    spare -= len(after)
    before = list(range(pair.first - 1, max(pair.first - 1 - max(spare, 0), -1), -1))
    for keyframe in inner + after + before:
        if small.place(keyframe):
            small.triangulate_new()
    small.adjust(free, priors, max_iterations=10, tolerance=1e-3)
    focal = float(small.cameras.intrinsics[pair.first, 0])
    if any(abs(focal / other - 1) < SAME_FOCAL for other in reached):
        return False
    reached.append(focal)
    small.cull(10.0)
    small.triangulate_new()
    small.adjust(free, priors, max_iterations=10, tolerance=1e-3)
    small.cull(5.0)
    return True


def _cost(small: KeyframeMap) -> float:
    """Mean robust cost of all observations in the start's keyframes; unexplained ones cost `MISSING_COST`."""
    inside = small.posed[small.seen.camera]
    twice = np.bincount(small.seen.point[inside], minlength=len(small.points)) >= 2
    total = int((inside & twice[small.seen.point]).sum())
    use = small.usable()
    error, _ = residuals(small.cameras, small.points, small.seen.select(use))
    length, limit = np.linalg.norm(error, axis=1) / small.noise.sigma_px, small.noise.limit
    explained = huber_cost(np.minimum(length, (MISSING_COST + 0.5 * limit**2) / limit), limit)
    return (explained + MISSING_COST * (total - int(use.sum()))) / max(total, 1)
