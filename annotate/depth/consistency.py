"""Keeps of swept depth only what other frames' maps confirm."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.depth.sweep import SweptMap
from annotate.depth.views import Views, rays

_LEAST_DEPTH = np.float32(1e-6)  # a point behind the camera falls outside of its picture
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
    directions = rays(views, own.frame, np.stack([xs + 0.5, ys + 0.5], -1)).T
    points = (directions * own.depth[ys, xs]).astype(np.float32)  # (3, n)
    agreeing = np.zeros(len(ys), np.uint8)
    for other in maps[max(0, position - 2) : position] + maps[position + 1 : position + 3]:
        motion = (views.matrix(other.frame) @ views.between(own.frame, other.frame)[:3]).astype(np.float32)
        x, y, z = motion[:, :3] @ points + motion[:, 3:]
        z = np.maximum(z, _LEAST_DEPTH)
        x /= z
        y /= z
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = (np.where(inside, place, 0).astype(np.int32) for place in (x, y))
        at = row * width + column
        ratio = other.depth.ravel()[at] / z
        agreeing += inside & other.good.ravel()[at] & (np.abs(ratio - 1) <= tolerance)
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
