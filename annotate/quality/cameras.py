"""Scores of a clip's cameras: field of view, pixel aspect, and how smoothly the camera moves.

The paper (arXiv 2605.15178, appendix B) filters on field of view and on the divergence of fx and fy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from annotate.stage import Clip, Resources, StageOutput
from dataset.clip import CameraTrack

FOV_RANGE_DEG = (25.0, 120.0)
"""Fields of view, horizontal and vertical, outside of which a frame counts as outside."""

_STILL = 1e-9  # path below which a track has no translation to speak of, in its own unit


class CameraScoreStage:
    """`camera.npz` to the camera columns of the record."""

    name = "camera_scores"
    version = "1"
    resources = Resources(num_cpus=1.0)  # as its neighbours, to share their worker

    def settings(self) -> dict[str, Any]:
        return {}

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        return StageOutput(fields=dict(camera_scores(CameraTrack.from_npz(clip.files["camera.npz"]))))


def camera_scores(track: CameraTrack) -> dict[str, float | None]:
    """Camera scores by `ClipRecord` field; None where the track gives no answer.

    Speeds are in metres per second when the track is in metres, else in path lengths per second. They
    are taken between frames that follow each other and are both posed.
    """
    return {**_lens_scores(track), **_translation_scores(track), **_rotation_scores(track)}


def _lens_scores(track: CameraTrack) -> dict[str, float | None]:
    focal = track.intrinsics[:, :2]
    focal = focal[np.isfinite(focal).all(axis=1) & (focal > 0).all(axis=1)]
    if not len(focal):
        return dict.fromkeys(("fov_x_deg", "fov_y_deg", "fov_outside_share", "focal_divergence"))
    height, width = track.size
    fov = np.degrees(2 * np.arctan(np.array([width, height]) / (2 * focal)))
    low, high = FOV_RANGE_DEG
    outside = ((fov < low) | (fov > high)).any(axis=1)
    fx, fy = focal.T
    return {
        "fov_x_deg": float(np.median(fov[:, 0])), "fov_y_deg": float(np.median(fov[:, 1])),
        "fov_outside_share": float(outside.mean()),
        "focal_divergence": float(np.median(np.abs(fx - fy) / ((fx + fy) / 2))),
    }


def _steps(track: CameraTrack) -> np.ndarray:
    """(n,) indices k of frames such that k and k + 1 are posed and time passes between them."""
    posed = track.posed & np.isfinite(track.c2w).all(axis=(1, 2))
    return np.flatnonzero(posed[:-1] & posed[1:] & (np.diff(track.timestamps) > 0))


def _translation_scores(track: CameraTrack) -> dict[str, float | None]:
    nothing: dict[str, float | None] = dict.fromkeys(("speed_max", "acceleration_max", "jerk_ratio"))
    at = _steps(track)
    if not len(at):
        return nothing
    centres, times = track.c2w[:, :3, 3], track.timestamps
    moves = centres[at + 1] - centres[at]
    lengths = np.linalg.norm(moves, axis=1)
    if lengths.sum() <= _STILL:
        return nothing
    unit = 1.0 if track.unit in ("m", "path") else track.path_length
    periods = times[at + 1] - times[at]
    velocities = moves / periods[:, None] / unit
    neighbours = np.flatnonzero(np.diff(at) == 1)
    changes = np.linalg.norm(velocities[neighbours + 1] - velocities[neighbours], axis=1)
    spans = (periods[neighbours] + periods[neighbours + 1]) / 2
    longest = float(lengths.max())
    return {
        "speed_max": float(np.linalg.norm(velocities, axis=1).max()),
        "acceleration_max": float((changes / spans).max()) if len(neighbours) else None,
        # bounded, so that a camera that stands still but for one leap still has a number
        "jerk_ratio": longest / max(float(np.median(lengths)), longest * 1e-6),
    }


def _rotation_scores(track: CameraTrack) -> dict[str, float | None]:
    at = _steps(track)
    if not len(at):
        return dict.fromkeys(("angular_speed_max_deg", "angular_jump_deg"))
    rotations, times = track.c2w[:, :3, :3], track.timestamps
    turns = np.swapaxes(rotations[at], 1, 2) @ rotations[at + 1]
    vectors = np.degrees(Rotation.from_matrix(turns).as_rotvec())
    neighbours = np.flatnonzero(np.diff(at) == 1)
    jumps = np.linalg.norm(vectors[neighbours + 1] - vectors[neighbours], axis=1)
    return {
        "angular_speed_max_deg": float((np.linalg.norm(vectors, axis=1) / (times[at + 1] - times[at])).max()),
        "angular_jump_deg": float(jumps.max()) if len(neighbours) else None,
    }
