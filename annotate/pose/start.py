"""The first keyframes of a map: each pair and focal hypothesis is grown a little, and the best is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.pose.bundle import Free, Observations, Priors, huber_cost, residuals
from annotate.pose.config import ClassicalConfig
from annotate.pose.tracks import Tracks
from annotate.pose.twoview import Pair, candidate_pairs, relative_pose
from annotate.pose.window import KeyframeMap

MIN_KEYFRAMES = 5
"""Keyframes a start is tried on: two hardly tell one focal length from another."""
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
        for focal in hypotheses:
            guess = intrinsics
            if guess is None:
                guess = np.tile([focal, focal, width / 2, height / 2], (len(tracks.keyframes), 1))
            start = _grow(tracks, seen, points, guess, intrinsics is None, pair, priors, config)
            if start is not None:
                found.append(start)
        if found and min(start.cost for start in found) < 1.0:
            break
    return (min(found, key=lambda start: start.cost) if found else None), found


def _grow(
    tracks: Tracks, seen: Observations, points: int, intrinsics: np.ndarray, focal_free: bool, pair: Pair,
    priors: Priors, config: ClassicalConfig,
) -> Start | None:
    keyframes = tracks.keyframes
    _, a, b = tracks.common(keyframes[pair.first], keyframes[pair.second])
    pose = relative_pose(a, b, intrinsics[pair.first], intrinsics[pair.second])
    if pose is None or pose.inliers < config.min_inliers:
        return None
    small = KeyframeMap(seen, points, intrinsics, not focal_free, config)
    small.begin(pair.first, pair.second, pose.rotation, pose.translation)
    if small.solved.sum() < config.min_inliers:
        return None
    free = Free(focal="shared" if focal_free else "none")
    inner = list(range(pair.first + 1, pair.second))
    spare = MIN_KEYFRAMES - len(inner) - 2
    after = list(range(pair.second + 1, min(pair.second + 1 + max(spare, 0), len(keyframes))))
    spare -= len(after)
    before = list(range(pair.first - 1, max(pair.first - 1 - max(spare, 0), -1), -1))
    for keyframe in inner + after + before:
        if small.place(keyframe):
            small.triangulate_new()
    small.adjust(free, priors, max_iterations=12)
    small.cull(10.0)
    small.triangulate_new()
    small.adjust(free, priors, max_iterations=12)
    small.cull(5.0)
    return Start(small, pair, float(intrinsics[0, 0]), _cost(small, config), pose.cheirality)


def _cost(small: KeyframeMap, config: ClassicalConfig) -> float:
    """Mean robust cost of all observations in the start's keyframes; unexplained ones cost `MISSING_COST`."""
    inside = small.posed[small.seen.camera]
    twice = np.bincount(small.seen.point[inside], minlength=len(small.points)) >= 2
    total = int((inside & twice[small.seen.point]).sum())
    use = small.usable()
    error, _ = residuals(small.cameras, small.points, small.seen.select(use))
    length = np.linalg.norm(error, axis=1) / config.noise_px
    limit = config.huber_px / config.noise_px
    capped = np.minimum(length, (MISSING_COST + 0.5 * limit**2) / limit)
    explained = huber_cost(np.stack([capped, np.zeros_like(capped)], 1), limit)
    return (explained + MISSING_COST * (total - int(use.sum()))) / max(total, 1)
