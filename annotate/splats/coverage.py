"""What a path would see, before it is drawn: Gaussians in view, and how much of the image they cover.

Nothing is tested for what stands before it: splats seen through walls count. So frames are tested again once
they are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GRID = 32
STRIDE = 10


class Coverage(NamedTuple):
    """Tested frames; share of them that see enough; medians over them of the shares of Gaussians in view and
    of empty tiles."""

    tested: int
    covered: float
    in_view: float
    empty: float


def coverage(
    means: np.ndarray, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], near: float,
    frustum_share: float, empty_tiles: float,
) -> Coverage:
    """Coverage of a path c2w (N, 4, 4) with one (fx, fy, cx, cy) through Gaussians centred at `means` (n, 3).

    Every tenth frame and the last are tested. A frame sees enough if at least `frustum_share` of the centres
    are in view, and at most `empty_tiles` of a grid of 32 by 32 tiles hold none.
    """
    numbers = sorted({*range(0, len(c2w), STRIDE), len(c2w) - 1})
    seen, empty = np.array([_view(means, c2w[k], intrinsics, size, near) for k in numbers]).T
    enough = (seen >= frustum_share) & (empty <= empty_tiles)
    return Coverage(len(numbers), float(enough.mean()), float(np.median(seen)), float(np.median(empty)))


def _view(
    means: np.ndarray, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], near: float,
) -> tuple[float, float]:
    """Shares of Gaussians in view and of empty tiles of one frame."""
    height, width = size
    kind = means.dtype
    points = (means - c2w[:3, 3].astype(kind)) @ c2w[:3, :3].astype(kind)
    points = points[points[:, 2] > near]
    fx, fy, cx, cy = intrinsics
    x = (fx * points[:, 0] / points[:, 2] + cx) / width * GRID
    y = (fy * points[:, 1] / points[:, 2] + cy) / height * GRID
    inside = (x >= 0) & (x < GRID) & (y >= 0) & (y < GRID)
    tiles = y[inside].astype(np.int64) * GRID + x[inside].astype(np.int64)
    return float(inside.sum() / len(means)), 1 - len(np.unique(tiles)) / GRID**2
