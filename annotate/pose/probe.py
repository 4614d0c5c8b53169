"""What kind of camera motion a clip shows, judged from its tracks before any geometry is solved."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.pose.tracks import Tracks
from dataset.clip import Motion

STATIC_FLOW_PX = 0.15
"""Median motion over half a second below which a pair stands still."""
STATIC_DRIFT_PX = 0.6
"""Median motion over any longer gap below which the clip stands still."""
PURE_INLIERS, PURE_RESIDUAL_PX = 0.88, 1.0
"""A homography explains so many tracks, and the 90th percentile so well, when no parallax is to be seen."""
PURE_ANISOTROPY = 0.012
"""Largest relative spread of the singular values of K^-1 H K that measurement noise explains."""


@dataclass(frozen=True)
class Probe:
    """The class and the numbers it was decided on, medians over the probed pairs."""

    motion: Motion
    flow_px: float
    drift_px: float
    homography_inliers: float
    homography_residual_px: float
    anisotropy: float
    survival: float
    tracks: float

    def diagnostics(self) -> dict[str, float | str | bool | None]:
        numbers: dict[str, float | str | bool | None] = {
            "probe_flow_px": self.flow_px, "probe_drift_px": self.drift_px,
            "probe_homography_inliers": self.homography_inliers,
            "probe_homography_residual_px": self.homography_residual_px,
            "probe_anisotropy": self.anisotropy, "track_survival": self.survival,
            "tracks_per_frame": self.tracks,
        }
        return {name: value if np.isfinite(value) else None  # type: ignore[arg-type]
                for name, value in numbers.items()}


def probe(tracks: Tracks, min_tracks: int, pairs: int = 20) -> Probe:
    """Classify a clip from about `pairs` pairs of frames spread over it."""
    count = len(tracks.survival)
    per_frame = float(np.median(np.diff(tracks.offsets)))
    survival = float(np.median(tracks.survival[1:])) if count > 1 else 1.0
    flow = _flows(tracks, pairs, max(1, min(8, count - 1)))
    drift = _drift(tracks)
    inliers, residual, anisotropy = _homographies(tracks, pairs)
    if per_frame < min_tracks:
        motion = Motion.LOW_TEXTURE
    elif survival < 0.4:
        motion = Motion.CHAOTIC
    elif flow < STATIC_FLOW_PX and drift < STATIC_DRIFT_PX:
        motion = Motion.STATIC
    elif inliers > PURE_INLIERS and residual < PURE_RESIDUAL_PX:
        motion = Motion.ROTATION_ONLY if anisotropy < PURE_ANISOTROPY else Motion.PLANAR
    else:
        motion = Motion.PARALLAX
    return Probe(motion, flow, drift, inliers, residual, anisotropy, survival, per_frame)


def _flows(tracks: Tracks, pairs: int, gap: int) -> float:
    """Of the median track motions of pairs `gap` frames apart a high one, pixels; NaN if there is none."""
    count = len(tracks.survival)
    medians = []
    for start in np.unique(np.linspace(0, max(count - 1 - gap, 0), pairs).astype(int)):
        _, a, b = tracks.common(start, min(start + gap, count - 1))
        if len(a) >= 8:
            medians.append(float(np.median(np.linalg.norm(b - a, axis=1))))
    return float(np.percentile(medians, 90)) if medians else np.nan


def _drift(tracks: Tracks) -> float:
    """Largest median displacement of tracks that last, from the first keyframes of the quarters, pixels."""
    keyframes = tracks.keyframes
    worst = 0.0
    for start in np.unique(np.linspace(0, len(keyframes) - 1, 5).astype(int))[:-1]:
        for end in range(start + 1, len(keyframes)):
            _, a, b = tracks.common(keyframes[start], keyframes[end])
            if len(a) < 40:
                break
            worst = max(worst, float(np.median(np.linalg.norm(b - a, axis=1))))
    return worst


def _homographies(tracks: Tracks, pairs: int) -> tuple[float, float, float]:
    """Medians over wide pairs: inlier share, 90th-percentile residual (pixels), and least anisotropy."""
    keyframes = tracks.keyframes
    found = []
    for start in np.unique(np.linspace(0, max(len(keyframes) - 2, 0), pairs).astype(int)):
        wide = _widest(tracks, int(start))
        if wide is None:
            continue
        a, b = wide
        cv2.setRNGSeed(0)
        matrix, mask = cv2.findHomography(a, b, cv2.RANSAC, 1.5, maxIters=300, confidence=0.995)
        if matrix is None:
            continue
        moved = np.concatenate([a, np.ones((len(a), 1))], 1) @ matrix.T
        residual = np.linalg.norm(moved[:, :2] / moved[:, 2:] - b, axis=1)
        high = float(np.percentile(residual, 90))
        found.append((float(mask.mean()), high, _anisotropy(matrix, tracks.size)))
    if not found:
        return 0.0, np.inf, np.inf
    inliers, residual_px, anisotropy = np.median(np.array(found), axis=0)
    return float(inliers), float(residual_px), float(anisotropy)


def _widest(tracks: Tracks, start: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Tracks from one keyframe to the farthest later one that still shares half of them."""
    keyframes = tracks.keyframes
    best = None
    begun = len(tracks.at(keyframes[start])[0])
    for end in range(start + 1, len(keyframes)):
        _, a, b = tracks.common(keyframes[start], keyframes[end])
        if len(a) < max(30, 0.5 * begun):
            break
        best = (a, b)
        if np.median(np.linalg.norm(b - a, axis=1)) > 0.2 * max(tracks.size):
            break
    return best


def _anisotropy(matrix: np.ndarray, size: tuple[int, int]) -> float:
    """How far K^-1 H K is from a rotation, at the focal length that brings it nearest.

    0 when the camera only turned; a plane seen from another place has no focal length that explains it.
    """
    centre = np.array([[1, 0, size[1] / 2], [0, 1, size[0] / 2], [0, 0, 1.0]])
    focals = max(size) * np.geomspace(0.3, 3.0, 25)
    k = np.tile(np.eye(3), (len(focals), 1, 1))
    k[:, 0, 0] = k[:, 1, 1] = focals
    k = centre @ k
    values = np.linalg.svd(np.linalg.inv(k) @ matrix @ k, compute_uv=False)
    return float(((values[:, 0] - values[:, 2]) / values[:, 1]).min())
