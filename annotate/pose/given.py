"""Cameras that came with a video: honoured to the last bit, but only once the images have confirmed them."""

from __future__ import annotations

import numpy as np

from annotate.frames import Frames
from annotate.pose.pairs import FlowPairs, follow_pairs
from annotate.pose.selfcheck import PAIRS, WIDTH, measure
from annotate.stage import Clip
from dataset.clip import CameraTrack

_FOCAL_TRIALS = np.geomspace(0.3, 3.0, 40)  # of the width
_REFINEMENTS = 40


def given_cameras(clip: Clip) -> CameraTrack | None:
    """What the cutter found beside the source: poses and intrinsics, or one of them and NaN for the other."""
    return CameraTrack.from_npz(clip.files["given.npz"]) if "given.npz" in clip.files else None


def has_intrinsics(track: CameraTrack) -> bool:
    """Whether every frame has finite intrinsics."""
    return bool(np.isfinite(track.intrinsics).all())


def focal_for_poses(frames: Frames, c2w: np.ndarray) -> tuple[float, float]:
    """Focal length, pixels of `frames.size`, that fits given poses best, and the Sampson distance left.

    For poses that come without intrinsics; square pixels and a central principal point are assumed. NaN
    where the clip shows nothing to measure.
    """
    pairs = follow_pairs(frames, PAIRS, WIDTH)
    width = pairs.size[1]
    trials = [(_sampson(pairs, c2w, factor * width), factor * width) for factor in _FOCAL_TRIALS]
    best = int(np.nanargmin([error for error, _ in trials])) if np.isfinite(trials[0][0]) else None
    if best is None:
        return np.nan, np.nan
    low, high = (np.log(trials[min(max(best + step, 0), len(trials) - 1)][1]) for step in (-1, 1))
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(_REFINEMENTS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _sampson(pairs, c2w, np.exp(left)) < _sampson(pairs, c2w, np.exp(right)):
            high = right
        else:
            low = left
    focal = float(np.exp((low + high) / 2))
    return focal * frames.size[1] / width, _sampson(pairs, c2w, focal)


def _sampson(pairs: FlowPairs, c2w: np.ndarray, focal: float) -> float:
    height, width = pairs.size
    return measure(pairs, c2w, np.tile([focal, focal, width / 2, height / 2], (len(c2w), 1)))[0]


def central_intrinsics(focal: float, frames: int, size: tuple[int, int]) -> np.ndarray:
    """(F, 4) of one focal length and the centre of the image."""
    return np.tile([focal, focal, size[1] / 2, size[0] / 2], (frames, 1))
