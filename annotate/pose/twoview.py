"""Where to start: pairs of keyframes with parallax, and the relative pose each focal hypothesis gives them.

Five-point essential matrices in RANSAC (Nister 2004) and their cheirality. Which hypothesis is right is not
decided here: two views say little of the focal length; the small map grown from each does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.pose.tracks import Tracks, parallax


@dataclass(frozen=True)
class Pair:
    """Two keyframes (numbers among the keyframes) that share `common` tracks, `parallax_px` apart."""

    first: int
    second: int
    common: int
    parallax_px: float


@dataclass(frozen=True)
class RelativePose:
    """Second camera against the first: x2 = R x1 + t with |t| = 1; inliers are in front of both."""

    rotation: np.ndarray
    translation: np.ndarray
    inliers: int
    cheirality: float  # share of the epipolar inliers in front of both cameras


def candidate_pairs(tracks: Tracks, limit: int = 3, max_gap: int = 10) -> list[Pair]:
    """The best pairs, best first, at different places of the clip: shared tracks times bounded parallax."""
    keyframes = tracks.keyframes
    ceiling = 0.06 * max(tracks.size)
    pairs: list[tuple[float, Pair]] = []
    for first in range(len(keyframes) - 1):
        begun = len(tracks.at(keyframes[first])[0])
        for second in range(first + 1, min(first + max_gap, len(keyframes) - 1) + 1):
            ids, a, b = tracks.common(keyframes[first], keyframes[second])
            if len(ids) < 40 or len(ids) < 0.25 * begun:
                break
            moved = parallax(a, b, tracks.size)
            pairs.append((min(moved, ceiling) * np.sqrt(len(ids)), Pair(first, second, len(ids), moved)))
    pairs.sort(key=lambda entry: -entry[0])
    chosen: list[Pair] = []
    for _, pair in pairs:
        apart = max(2, len(keyframes) // 6)
        if all(abs(pair.first - other.first) >= apart for other in chosen):
            chosen.append(pair)
        if len(chosen) == limit:
            break
    return chosen


def relative_pose(
    a: np.ndarray, b: np.ndarray, intrinsics_a: np.ndarray, intrinsics_b: np.ndarray,
    threshold_px: float = 1.0,
) -> RelativePose | None:
    """Relative pose of pixels a, b (n, 2), or None where no essential matrix holds."""
    if len(a) < 8:
        return None
    left = (a - intrinsics_a[2:]) / intrinsics_a[:2]
    right = (b - intrinsics_b[2:]) / intrinsics_b[:2]
    focal = float(np.sqrt(intrinsics_a[0] * intrinsics_b[0]))
    cv2.setRNGSeed(0)
    matrix, mask = cv2.findEssentialMat(left, right, np.eye(3), method=cv2.RANSAC, prob=0.999,
                                        threshold=threshold_px / focal, maxIters=300)
    if matrix is None or matrix.shape != (3, 3) or mask is None:
        return None
    epipolar = int(mask.sum())
    if epipolar < 8:
        return None
    front, rotation, translation, _ = cv2.recoverPose(matrix, left, right, np.eye(3), mask=mask)
    return RelativePose(rotation, translation[:, 0], int(front), front / epipolar)
