"""Plane sweep: every pixel tries inverse depths and keeps the one on which the views correlate best.

Space-sweep stereo (Collins 1996) with zero-mean normalised cross-correlation; of the neighbours the best two
count, since the others may be occluded (Kang, Szeliski and Chai 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.depth.config import DepthConfig
from annotate.depth.views import Views, rays

_HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # integer-centred pixels to centres at +0.5
_BACKING = 3
_BACKING_CORRELATION = 0.8
_UNIQUE_PLANES = 3
_UNIQUE_MARGIN = 0.02


@dataclass(frozen=True)
class SweptMap:
    """Depth (h, w) float32 of one frame, where its match is good, and where more views back it by themselves.

    `backed` asks three neighbours to correlate well at the depth found; a wrong depth rarely pleases three.
    """

    frame: int
    depth: np.ndarray
    good: np.ndarray
    backed: np.ndarray


def sweep(
    views: Views, index: int, neighbours: list[int], nearest: float, farthest: float, config: DepthConfig,
) -> SweptMap:
    """The depth map of frame `index` from `neighbours`, between two depths in the poses' unit."""
    inverse = np.linspace(1 / farthest, 1 / nearest, config.planes)
    volume = _correlate(views, index, neighbours, inverse, config.window)
    best = volume.argmax(0)
    rows, columns = np.indices(best.shape, sparse=True)
    score = volume[best, rows, columns]
    below = volume[np.maximum(best - 1, 0), rows, columns]
    above = volume[np.minimum(best + 1, config.planes - 1), rows, columns]
    # The top of the parabola through three planes.
    bend = below - 2 * score + above
    shift = np.where(bend < -1e-6, 0.5 * (below - above) / np.minimum(bend, -1e-6), 0.0)
    inside = (best > 0) & (best < config.planes - 1)
    step = inverse[1] - inverse[0]
    depth = 1.0 / (inverse[0] + step * (best + np.clip(shift, -0.5, 0.5)))
    good = inside & (score >= config.min_correlation) & _unique(volume, best, score)
    good &= _contrast(views.images[index], config.window) >= config.min_contrast
    depth = depth.astype(np.float32)
    backed = good & (_backing(views, index, neighbours, depth, config) >= _BACKING)
    return SweptMap(index, depth, good, backed)


def _correlate(
    views: Views, index: int, neighbours: list[int], inverse: np.ndarray, window: int,
) -> np.ndarray:
    """(planes, h, w) float32: mean of the best two neighbours' correlations at each inverse depth."""
    height, width = views.size
    side = (window, window)
    reference = views.images[index].astype(np.float32)
    mean = cv2.boxFilter(reference, -1, side)
    spread = np.maximum(cv2.boxFilter(reference * reference, -1, side) - mean * mean, 0.25)
    inverse_spread = 1 / np.sqrt(spread)
    homographies = [_homographies(views, index, other, inverse) for other in neighbours]
    images = [views.images[other].astype(np.float32) for other in neighbours]
    volume = np.empty((len(inverse), height, width), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for plane in range(len(inverse)):
        first = np.full((height, width), -1, np.float32)
        second = first.copy()
        for image, homography in zip(images, homographies):
            warped = cv2.warpPerspective(image, homography[plane], (width, height), flags=flags)
            warped_mean = cv2.boxFilter(warped, -1, side)
            variance = cv2.boxFilter(warped * warped, -1, side) - warped_mean * warped_mean
            score = cv2.boxFilter(warped * reference, -1, side) - warped_mean * mean
            score *= inverse_spread / np.sqrt(np.maximum(variance, 0.25))
            np.maximum(second, np.minimum(first, score), out=second)
            np.maximum(first, score, out=first)
        volume[plane] = 0.5 * (first + second) if len(images) > 1 else first
    return volume


def _backing(
    views: Views, index: int, neighbours: list[int], depth: np.ndarray, config: DepthConfig,
) -> np.ndarray:
    """(h, w) how many neighbours correlate well when warped by the depth itself."""
    height, width = views.size
    side = (config.window, config.window)
    reference = views.images[index].astype(np.float32)
    mean = cv2.boxFilter(reference, -1, side)
    variance = np.maximum(cv2.boxFilter(reference * reference, -1, side) - mean * mean, 0.25)
    ys, xs = np.mgrid[:height, :width] + 0.5
    points = rays(views, index, np.stack([xs, ys], -1)) * depth[..., None]
    count = np.zeros((height, width), np.int32)
    for other in neighbours:
        motion = views.between(index, other)
        seen = points @ motion[:3, :3].T + motion[:3, 3]
        z = np.maximum(seen[..., 2], 1e-9)
        fx, fy, cx, cy = views.intrinsics[other]
        u = (fx * seen[..., 0] / z + cx - 0.5).astype(np.float32)
        v = (fy * seen[..., 1] / z + cy - 0.5).astype(np.float32)
        warped = cv2.remap(views.images[other].astype(np.float32), u, v, cv2.INTER_LINEAR)
        warped_mean = cv2.boxFilter(warped, -1, side)
        spread = np.maximum(cv2.boxFilter(warped * warped, -1, side) - warped_mean * warped_mean, 0.25)
        score = cv2.boxFilter(warped * reference, -1, side) - warped_mean * mean
        inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1) & (seen[..., 2] > 0)
        count += inside & (score >= _BACKING_CORRELATION * np.sqrt(spread * variance))
    return count


def _homographies(views: Views, index: int, other: int, inverse: np.ndarray) -> np.ndarray:
    """(planes, 3, 3): integer-centred pixels of `index` to those of `other`, by planes z = 1 / inverse."""
    motion = views.between(index, other)
    from_reference = np.linalg.inv(views.matrix(index)) @ _HALF
    to_other = np.linalg.inv(_HALF) @ views.matrix(other)
    plane = np.zeros((len(inverse), 3, 3))
    plane[:, :, 2] = inverse[:, None] * motion[:3, 3]
    return to_other @ (motion[:3, :3] + plane) @ from_reference


def _unique(volume: np.ndarray, best: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Whether no plane away from the best one correlates nearly as well: repeated texture does."""
    rival = np.full(best.shape, -1, np.float32)
    for plane, layer in enumerate(volume):
        np.maximum(rival, layer, out=rival, where=np.abs(best - plane) > _UNIQUE_PLANES)
    return score - rival >= _UNIQUE_MARGIN


def _contrast(image: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation of grey levels within the window."""
    mean = cv2.boxFilter(image, cv2.CV_32F, (window, window))
    square = cv2.sqrBoxFilter(image, cv2.CV_32F, (window, window))
    return np.sqrt(np.maximum(square - mean * mean, 0))
