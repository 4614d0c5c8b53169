"""Errors of one estimated track, and of its depth and scale, against the truth of a sequence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np

from dataset.clip import CameraTrack, DepthMaps, Motion
from dataset.trajectory import absolute_error, align_tracks, relative_error, rotation_error_to_first

SILENT_LIMIT = 0.03
"""Error of the path, as a share of it, from which on poses are off."""

STILL_LIMIT_DEG = 1.0
"""Error of the rotation to the first frame from which on poses are off that have no path to compare."""


_STAYING = (Motion.STATIC, Motion.ROTATION_ONLY)


@dataclass
class Score:
    """One method on one sequence. Degrees, and shares as fractions; None: does not apply or not known."""

    sequence: str
    method: str
    real: bool
    frames: int
    posed: float  # share of the frames given to the method
    failure: str | None
    motion: str | None = None  # as the method saw it
    stays: bool = False  # whether the true camera does not translate
    ate: float | None = None  # RMS after Sim(3), share of the path
    rotation_step: float | None = None  # RMS, from one posed frame to the next
    rotation_first: float | None = None  # RMS, to the first posed frame
    rotation_apart: dict[str, float] = field(default_factory=dict)  # from other methods, to the first frame
    focal: float | None = None  # median relative error
    focal_worst: float | None = None
    scale: float | None = None  # metres stated / true, - 1
    scale_status: str | None = None
    depth: float | None = None  # median relative error where valid, scale taken from the poses
    depth_valid: float | None = None
    warned_alone: str | None = None  # what the record says against the poses without a second engine
    warned: str | None = None  # and with one
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    depth_cpu_s: float | None = None
    second_cpu_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_off(self) -> bool:
        """More than 3 % of the path from the truth; a camera that stays: said to move, or turned wrong."""
        if not self.stays:
            return self.ate is not None and self.ate > SILENT_LIMIT
        turned = self.rotation_first is not None and self.rotation_first > STILL_LIMIT_DEG
        return turned or (self.failure is None and self.motion not in (*_STAYING, None))


def rotation_apart(one: CameraTrack, other: CameraTrack) -> float | None:
    """RMS of the difference between two methods' rotations to the first frame that both posed, degrees."""
    both = one.posed & other.posed
    return rotation_error_to_first(one.c2w[both], other.c2w[both]).rmse if both.sum() > 1 else None


def score(
    name: str, method: str, real: bool, track: CameraTrack, truth: CameraTrack, measured: dict[str, Any],
    maps: DepthMaps | None, depth: dict[int, np.ndarray],
) -> Score:
    """Compare over the frames that have a pose."""
    posed = track.posed
    given = int(measured.get("frames_given", len(posed)))
    fields = measured.get("fields", {})
    result = Score(name, method, real, given, float(posed.sum() / given), track.failure, fields.get("motion"))
    result.stays = truth.motion in _STAYING
    for key, value in measured["pose"].items():
        setattr(result, key, value)
    result.depth_cpu_s = measured.get("depth", {}).get("cpu_s")
    result.second_cpu_s = measured.get("second", {}).get("cpu_s")
    if fields:
        result.warned_alone = _warning(fields, with_second=False)
        result.warned = _warning(fields, with_second=True)
    if posed.sum() < 3:
        return result
    estimate, true = track.c2w[posed], truth.c2w[posed]
    moves = not result.stays
    if moves:
        result.ate = absolute_error(estimate, true).share_of_path
    result.rotation_step = relative_error(estimate, true).rotation_deg.rmse
    result.rotation_first = rotation_error_to_first(estimate, true).rmse
    if truth.motion is not Motion.STATIC:
        off = np.abs(track.intrinsics[posed, 0] / truth.intrinsics[posed, 0] - 1)
        result.focal, result.focal_worst = float(np.median(off)), float(off.max())
    if not moves:
        return result
    metres = align_tracks(true, estimate).scale  # engine units a metre
    if truth.unit == "m":
        result.scale_status = fields.get("scale_status")
        if fields.get("metric_scale") is not None:
            result.scale = float(fields["metric_scale"] * metres - 1)
        if maps is not None and depth:
            result.depth, result.depth_valid = _depth_error(maps, depth, metres)
    return result


def _depth_error(maps: DepthMaps, depth: dict[int, np.ndarray], metres: float) -> tuple[float | None, float]:
    """Median over valid pixels of the relative error, in metres by the true scale of the poses."""
    errors = []
    for estimate, valid, frame in zip(maps.depth.astype(np.float64) / metres, maps.valid, maps.frames):
        if int(frame) not in depth:
            continue
        true = cv2.resize(depth[int(frame)], estimate.shape[::-1], interpolation=cv2.INTER_NEAREST)
        known = valid & np.isfinite(true)
        errors.append(np.abs(estimate[known] / true[known] - 1))
    pooled = np.concatenate(errors) if errors else np.zeros(0)
    return (float(np.median(pooled)) if len(pooled) else None), float(maps.valid.mean())


def _warning(fields: dict[str, Any], with_second: bool) -> str | None:
    """What the record itself says against its poses."""
    if fields.get("pose_failure"):
        return str(fields["pose_failure"])
    found = []
    if fields.get("selfcheck_sampson_px", 0.0) >= 1.0:
        found.append(f"self-check {fields['selfcheck_sampson_px']:.1f} px")
    if fields.get("selfcheck_cheirality", 1.0) < 0.9:
        found.append(f"{fields['selfcheck_cheirality']:.0%} in front")
    if fields.get("pose_doubts"):
        found.append(str(fields["pose_doubts"]))
    if with_second and str(fields.get("agreement", "")).startswith("differ"):
        found.append(f"second engine: {fields['agreement']}")
    return "; ".join(found) or None
