"""Keeps of swept depth only what other frames' maps confirm."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.depth.sweep import SweptMap
from annotate.depth.views import Views, rays

_SPECKLE_PIXELS = 24


def confirmed(
    views: Views, maps: list[SweptMap], position: int, tolerance: float, min_agreeing: int,
) -> np.ndarray:
    """(h, w) bool: good pixels of `maps[position]` that enough of the two maps before and after it confirm.

    A map confirms a point when its own depth there, where good, differs by at most `tolerance` (relative).
    """
    own = maps[position]
    height, width = views.size
    ys, xs = np.nonzero(own.good)
    points = rays(views, own.frame, np.stack([xs + 0.5, ys + 0.5], -1)) * own.depth[ys, xs, None]
    agreeing = np.zeros(len(ys), np.int64)
    for other in maps[max(0, position - 2) : position] + maps[position + 1 : position + 3]:
        motion = views.between(own.frame, other.frame)
        seen = points @ motion[:3, :3].T + motion[:3, 3]
        front = seen[:, 2] > 1e-6
        z = np.where(front, seen[:, 2], 1.0)
        fx, fy, cx, cy = views.intrinsics[other.frame]
        u = np.floor(fx * seen[:, 0] / z + cx)
        v = np.floor(fy * seen[:, 1] / z + cy)
        front &= (u >= 0) & (u < width) & (v >= 0) & (v < height)
        u, v = np.where(front, u, 0).astype(np.int64), np.where(front, v, 0).astype(np.int64)
        front &= other.good[v, u] & (np.abs(other.depth[v, u] / z - 1) <= tolerance)
        agreeing += front
    kept = np.zeros((height, width), bool)
    kept[ys, xs] = agreeing >= min_agreeing
    kept |= own.backed
    return _without_speckles(own.depth, kept, tolerance)


def _without_speckles(depth: np.ndarray, kept: np.ndarray, tolerance: float) -> np.ndarray:
    """Without islands of few pixels: they are chance matches more often than things."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(kept.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _SPECKLE_PIXELS
    small[0] = True
    # A pixel that stands out from the middle of its neighbours is not part of its island.
    middle = cv2.medianBlur(np.where(kept, depth, 0).astype(np.float32), 5)
    smooth = np.abs(middle - depth) <= 2 * tolerance * depth
    return kept & ~small[labels] & smooth
