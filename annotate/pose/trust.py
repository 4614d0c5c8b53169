"""What an engine's own numbers say against its track. They can only raise doubt: a low reprojection error
certifies nothing, and trust comes from a second engine that agrees (`annotate.pose.agreement`)."""

from __future__ import annotations

import numpy as np

from dataset.clip import CameraTrack

LIMITS = {
    "inlier_share": (0.5, 1.0, "share of the keyframes' observations that fit"),
    "frame_reprojection_px": (0.0, 1.0, "median reprojection error in pixels"),
    "frame_inliers_min": (30.0, np.inf, "points that fit in the poorest frame"),
    "focal_sigma_log": (0.0, 0.1, "relative uncertainty of the focal length"),
    "longest_gap_s": (0.0, 0.5, "seconds without a posed frame"),
    "track_survival": (0.45, 1.0, "share of points followed from frame to frame"),
    "k1": (-0.05, 0.05, "lens distortion k1"),
}
"""Diagnostics with the range in which they raise no doubt."""
MAX_SIGMA_SHARE = 0.03
"""Largest 1-sigma of a position, as a share of the path, that raises no doubt."""


def doubts(track: CameraTrack) -> str | None:
    """A sentence that lists what speaks against the track, or None."""
    found = []
    for name, (low, high, meaning) in LIMITS.items():
        value = track.diagnostics.get(name)
        if isinstance(value, float) and not low <= value <= high:
            found.append(f"{meaning}: {value:.3g}, allowed {low:g} to {high:g}")
    if np.isfinite(track.sigma_position).any() and track.path_length > 0:
        share = float(np.nanmax(track.sigma_position)) / track.path_length
        if share > MAX_SIGMA_SHARE:
            found.append(f"uncertainty of a position: {share:.3g} of the path, allowed {MAX_SIGMA_SHARE:g}")
    return "; ".join(found) or None
