"""Plane sweep: every pixel tries inverse depths and keeps the one on which the views correlate best.

Space-sweep stereo (Collins 1996) with zero-mean normalised correlation; of the neighbours the best two count,
since the others may be occluded (Kang, Szeliski and Chai 2001). From coarse to fine: all depths are tried in
pictures of half the size; at full size each pixel tries only those about what was found there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.depth.config import DepthConfig
from annotate.depth.correlation import BestTwo, Patches
from annotate.depth.views import Views, halved
from annotate.depth.warp import Warp

_SEARCH_WINDOW = 5  # side in pixels of the patch at half size
_SEARCH_MEDIAN = 5  # a pixel at half size starts from the median of so many by so many
_FINE_STEPS = 3  # depths tried at full size on either side of the start, one plane apart
_UNIQUE_PLANES = 2  # at half size; a rival depth lies farther from the best one
_UNIQUE_MARGIN = 0.005  # by which the best depth correlates better than any rival
_BACKING = 3
_BACKING_CORRELATION = 0.8


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
    start, unique = _search(views, index, neighbours, np.linspace(
        1 / farthest, 1 / nearest, max(2, config.planes // 2)))
    step = np.float32((1 / nearest - 1 / farthest) / (config.planes - 1))
    patches = Patches(views.images[index], config.window)
    warps = [Warp(views, index, other) for other in neighbours]
    steps = np.arange(-_FINE_STEPS, _FINE_STEPS + 1, dtype=np.float32)
    volume, best_two = np.empty((len(steps), *views.size), np.float32), BestTwo(views.size)
    warped, score = np.empty((2, *views.size), np.float32)
    for layer, away in zip(volume, steps):
        inverse = start + away * step
        for warp in warps:
            best_two.take(patches.correlate(warp.by_pixel(inverse, warped), score))
        best_two.finish(layer)
    peak = _Peak.of(volume)
    inverse = start + step * (peak.place - _FINE_STEPS)
    good = unique & peak.inside & (peak.score >= config.min_correlation) & (inverse > 0)
    good &= patches.contrast >= config.min_contrast
    backing = np.zeros(views.size, np.uint8)
    for warp in warps:
        patches.correlate(warp.by_pixel(inverse, warped), score)
        backing += (score >= _BACKING_CORRELATION) & warp.shows(inverse)
    depth = 1 / np.where(good, inverse, 1)
    return SweptMap(index, depth, good, good & (backing >= _BACKING))


def _search(
    views: Views, index: int, neighbours: list[int], inverse: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth (h, w) float32 found at half size, and whether no depth far from it fits as well."""
    small = halved(views, [index, *neighbours])
    patches = Patches(small.images[0], _SEARCH_WINDOW)
    warps = [Warp(small, 0, other) for other in range(1, len(small.images))]
    volume, best_two = np.empty((len(inverse), *small.size), np.float32), BestTwo(small.size)
    warped, score = np.empty((2, *small.size), np.float32)
    for layer, plane in zip(volume, inverse):
        for warp in warps:
            best_two.take(patches.correlate(warp.by_plane(plane, warped), score))
        best_two.finish(layer)
    peak = _Peak.of(volume)
    rival = np.full(small.size, -1, np.float32)
    for number, layer in enumerate(volume):
        np.maximum(rival, layer, out=rival, where=np.abs(peak.best - number) > _UNIQUE_PLANES)
    unique = (peak.score - rival >= _UNIQUE_MARGIN).astype(np.uint8)
    found = (inverse[0] + (inverse[1] - inverse[0]) * peak.place).astype(np.float32)
    size = views.size[::-1]
    return (cv2.resize(cv2.medianBlur(found, _SEARCH_MEDIAN), size, interpolation=cv2.INTER_LINEAR),
            cv2.resize(unique, size, interpolation=cv2.INTER_NEAREST) > 0)


@dataclass(frozen=True)
class _Peak:
    """Of a volume (n, h, w): the best layer, its score, and the top of the parabola through it and its
    neighbours, in layers; all (h, w). A peak at either end is not `inside`."""

    best: np.ndarray
    score: np.ndarray
    place: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, volume: np.ndarray) -> _Peak:
        best = volume.argmax(0)
        last = len(volume) - 1
        below, score, above = (
            np.take_along_axis(volume, np.clip(best + side, 0, last)[None], 0)[0] for side in (-1, 0, 1))
        bend = below - 2 * score + above
        shift = np.where(bend < -1e-6, 0.5 * (below - above) / np.minimum(bend, -1e-6), 0)
        return cls(best, score, (best + np.clip(shift, -0.5, 0.5)).astype(np.float32),
                   (best > 0) & (best < last))
