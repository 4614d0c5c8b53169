"""What a depth model returns, as the maps that are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset.clip import DepthMaps


def to_maps(depth: np.ndarray, intrinsics: np.ndarray, frames: Sequence[int], engine: str) -> DepthMaps:
    """Depth (K, h, w), valid where finite, positive and within float16; intrinsics (K, 4) of its pixels."""
    limits = np.finfo(np.float16)
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(depth) & (depth > limits.tiny) & (depth < limits.max)
    return DepthMaps(np.where(valid, depth, 0).astype(np.float16), valid, np.asarray(frames, np.int32),
                     np.asarray(intrinsics, np.float64), engine)
