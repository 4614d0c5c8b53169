"""The focal length of one picture from where its straight lines meet; no weights.

Lines of buildings and rooms run along three directions at right angles. A focal length is likely where such a
frame explains most segments: a mixture of lines that meet and lines that do not, over all turns of the frame
(after the vanishing-point literature, e.g. Coughlan and Yuille 1999). Square pixels, centre in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SIDE = 640
"""Pixels of the longer side that lines are looked for at."""
_SHORTEST, _MOST = 24.0, 150
"""Pixels of a segment, and how many are used, the longest first."""
_SPREAD_RAD, _STRAY = 0.02, 0.4
"""Angle by which a segment misses its vanishing point, and the share of segments that have none."""
_TRIES = 320
_DEPENDENT = 0.25
"""What a segment counts for: edges of one thing are seen many times."""
_PRIOR_DEG, _PRIOR_SPREAD = 60.0, 0.3
"""Of views across the longer side before looking: the middle, and the spread of the logarithm."""


@dataclass(frozen=True)
class FocalEstimate:
    """focal: in shares of the longer side    spread: of its logarithm, about the relative error of 1 sigma
    segments: how many were found
    """

    focal: float
    spread: float
    segments: int


def estimate_focal(pixels: np.ndarray) -> FocalEstimate:
    """From a picture (H, W, 3) uint8. Where its lines say nothing, the spread is that of not looking."""
    segments = find_segments(pixels)
    focals = np.exp(np.linspace(np.log(_focal(125.0)), np.log(_focal(24.0)), 25))
    prior = -0.5 * ((np.log(focals) - np.log(_focal(_PRIOR_DEG))) / _PRIOR_SPREAD) ** 2
    fits = np.array([_best_fit(segments, focal) for focal in focals]) if len(segments) >= 8 else 0.0
    weight = np.exp(prior + fits - (prior + fits).max())
    weight /= weight.sum()
    middle = float(weight @ np.log(focals))
    spread = float(np.sqrt(weight @ (np.log(focals) - middle) ** 2))
    return FocalEstimate(float(np.exp(middle)), spread, len(segments))


def find_segments(pixels: np.ndarray) -> np.ndarray:
    """Ends (n, 2, 2) of straight edges, x and y from the middle in shares of the longer side."""
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1
                       else cv2.INTER_LINEAR)
    found = cv2.createLineSegmentDetector().detect(small)[0]
    if found is None:
        return np.zeros((0, 2, 2))
    ends = found.reshape(-1, 2, 2).astype(np.float64)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    longest = np.argsort(-length)[:_MOST]
    ends = ends[longest[length[longest] >= _SHORTEST]]
    return (ends + 0.5 - [small.shape[1] / 2, small.shape[0] / 2]) / _SIDE


def _best_fit(segments: np.ndarray, focal: float) -> float:
    """Log-likelihood of the segments at the best turn of the three directions."""
    rays = np.concatenate([segments, np.full((*segments.shape[:2], 1), focal)], -1)
    normals = np.cross(rays[:, 0], rays[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # The same draws for every focal length, so that they are compared on the same lines.
    rng = np.random.default_rng(0)
    a, b, c = rng.permuted(np.tile(np.arange(len(segments)), (_TRIES, 1)), axis=1)[:, :3].T
    first = _unit(np.cross(normals[a], normals[b]))
    second = _unit(np.cross(normals[c], first))
    frames = np.stack([first, second, np.cross(first, second)], 1)  # (tries, 3, 3), rows are directions
    frames = frames[np.linalg.det(frames) > 0.99]  # segments on one line have no direction between them
    fits = _log_likelihood(segments, frames, focal)
    best = frames[np.argsort(-fits)[:8]]
    for step in (0.02, 0.01, 0.005):  # turned a little every way, the best kept
        turns = _rotations(rng.normal(scale=step, size=(24, 3)))
        tried = np.concatenate([best[:, None], best[:, None] @ turns], 1).reshape(-1, 3, 3)
        fits = _log_likelihood(segments, tried, focal)
        best = tried[np.argsort(-fits)[:8]]
    return float(fits.max())


def _log_likelihood(segments: np.ndarray, frames: np.ndarray, focal: float) -> np.ndarray:
    """(n,) of frames (n, 3, 3): each segment points at one of the three vanishing points, or at none."""
    middle, along = segments.mean(1), segments[:, 1] - segments[:, 0]
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    point = frames[:, :, None]  # (n, 3, 1, 3) against (s, 2)
    towards = focal * point[..., :2] - point[..., 2:] * middle
    across = towards[..., 0] * along[:, 1] - towards[..., 1] * along[:, 0]
    angle = across / np.maximum(np.linalg.norm(towards, axis=-1), 1e-9)
    meets = np.exp(-0.5 * (angle / _SPREAD_RAD) ** 2).sum(1) / 3 / (_SPREAD_RAD * np.sqrt(2 * np.pi))
    return _DEPENDENT * np.log((1 - _STRAY) * meets + _STRAY / np.pi).sum(-1)


def _rotations(vectors: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vectors).as_matrix()


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _focal(degrees: float) -> float:
    return 0.5 / float(np.tan(np.radians(degrees / 2)))
