"""Do two estimates of the same cameras agree? The measure of trust: reprojection error certifies nothing.

Compared up to what a single camera cannot know: position and orientation of the world, and its scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.camera import rotation_angle_deg
from dataset.clip import CameraTrack, Motion
from dataset.trajectory import Alignment, absolute_error, nearest_rotation

MIN_FRAMES = 6
MIN_SPAN = 0.6
_NO_TRANSLATION = (Motion.STATIC, Motion.ROTATION_ONLY)


@dataclass
class AgreementLimits:
    """How far two engines that fail differently may differ and still be believed."""

    position: float = 0.01  # RMS distance after Sim(3), as a share of the path
    focal: float = 0.03  # relative difference of the focal length, median over frames; more where
    # the first engine itself says that it knows less (twice its 1-sigma)
    rotation_deg: float = 1.0  # RMS angle after the worlds are turned onto each other


@dataclass(frozen=True)
class Agreement:
    """Differences of two tracks, None where they do not exist; `reason` puts the verdict into words.

    `agrees` is None when the tracks could not be compared: that is no evidence, for or against.
    """

    agrees: bool | None
    position: float | None
    rotation_deg: float | None
    focal: float | None
    frames: int  # compared
    reason: str


def compare(track: CameraTrack, other: CameraTrack, limits: AgreementLimits | None = None) -> Agreement:
    """Compare two tracks of the same frames over those which both pose.

    Position: RMS distance of the centres after Sim(3), over the length of `track` through the same frames;
    None where `track` does not translate. Rotation: RMS angle between orientations after the one turn of the
    world that fits best, so that a constant offset from a shared wrong principal point does not enter. Focal:
    median over frames of the relative difference of fx per image width.

    Raises ValueError for tracks of different length.
    """
    limits = limits or AgreementLimits()
    if len(track.c2w) != len(other.c2w):
        raise ValueError(f"agreement: tracks of {len(track.c2w)} and {len(other.c2w)} frames; "
                         "both must describe the same frames")
    for name, candidate in (("track", track), ("second engine", other)):
        if candidate.failure is not None:
            return Agreement(None, None, None, None, 0, f"{name} failed: {candidate.failure}")
    both = track.posed & other.posed
    frames = int(both.sum())
    covered = np.ptp(np.flatnonzero(both)) / np.ptp(np.flatnonzero(track.posed)) if frames > 1 else 0.0
    if frames < MIN_FRAMES or covered < MIN_SPAN:
        return Agreement(None, None, None, None, frames,
                         f"both pose {frames} frames over {covered:.0%} of the track: too few to compare")
    still, other_still = track.motion in _NO_TRANSLATION, other.motion in _NO_TRANSLATION
    position = None
    if not still and not other_still:
        position = absolute_error(other.c2w[both], track.c2w[both], Alignment.SIM3).share_of_path
    rotation = _rotation_difference_deg(track.c2w[both], other.c2w[both])
    focal = _focal_difference(track, other, both)
    sigma = track.diagnostics.get("focal_sigma_log")
    allowed_focal = float(np.hypot(limits.focal, 2 * sigma)) if isinstance(sigma, float) else limits.focal
    apart = [
        text for value, limit, text in (
            (position, limits.position, f"position {position or 0:.2%} of the path"),
            (rotation, limits.rotation_deg, f"rotation {rotation:.2f} deg"),
            (focal, allowed_focal, f"focal length {focal or 0:.1%}"),
        ) if value is not None and not value < limit
    ]
    if still != other_still:
        apart.append(f"motion {track.motion} against {other.motion}")
    reason = "differ in " + ", ".join(apart) if apart else f"agree over {frames} frames"
    return Agreement(not apart, position, rotation, focal, frames, reason)


def _rotation_difference_deg(c2w: np.ndarray, other: np.ndarray) -> float:
    turns = c2w[:, :3, :3] @ other[:, :3, :3].swapaxes(1, 2)
    turned = nearest_rotation(turns.mean(0)) @ other[:, :3, :3]
    angles = rotation_angle_deg(c2w[:, :3, :3].swapaxes(1, 2) @ turned)
    return float(np.sqrt(np.mean(angles**2)))


def _focal_difference(track: CameraTrack, other: CameraTrack, both: np.ndarray) -> float | None:
    """None where the motion leaves the focal length free: a still camera's is a guess."""
    if Motion.STATIC in (track.motion, other.motion):
        return None
    ratio = (other.intrinsics[both, 0] / other.size[1]) / (track.intrinsics[both, 0] / track.size[1])
    known = ratio[np.isfinite(ratio)]
    return float(np.median(np.abs(known - 1))) if len(known) else None
