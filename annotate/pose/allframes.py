"""Every frame of a clip posed on the keyframes' points, with a verdict and a sigma each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annotate.pose.bundle import Cameras, Observations
from annotate.pose.config import ClassicalConfig
from annotate.pose.pnp import Resection, resect
from annotate.pose.tracks import Tracks
from annotate.pose.window import INLIER_PX, KeyframeMap
from dataset.camera import interpolate
from dataset.clip import FrameVerdict

MIN_SHARE = 0.4
"""Share of a frame's observations that must fit its pose."""


@dataclass
class PosedFrames:
    """As in `CameraTrack`, at the working size; the median depth of the scene is the unit."""

    c2w: np.ndarray
    intrinsics: np.ndarray
    sigma_position: np.ndarray
    sigma_rotation_deg: np.ndarray
    frame_verdict: np.ndarray
    diagnostics: dict[str, float | str | bool | None] = field(default_factory=dict)


def pose_all_frames(
    tracks: Tracks, keyframe_map: KeyframeMap, names: np.ndarray, known: np.ndarray | None,
    covariance: np.ndarray | None, timestamps: np.ndarray, config: ClassicalConfig,
) -> PosedFrames:
    """Poses between the first and the last posed keyframe; the world is the first frame's camera."""
    count = len(timestamps)
    posed = np.flatnonzero(keyframe_map.posed)
    anchors = tracks.keyframes[posed]
    span = np.arange(anchors[0], anchors[-1] + 1)
    known_poses = keyframe_map.cameras.c2w()[posed]
    guess = interpolate(anchors.astype(np.float64), known_poses, span.astype(np.float64))
    known_columns = keyframe_map.cameras.intrinsics[posed].T
    intrinsics = np.stack([np.interp(np.arange(count), anchors, column) for column in known_columns], 1)
    if known is not None:
        intrinsics = known
    cameras = Cameras(guess[:, :3, :3].swapaxes(1, 2).copy(), guess[:, :3, 3].copy(), intrinsics[span],
                      keyframe_map.cameras.k1)
    seen = _observations(tracks, keyframe_map, names, span)
    result = resect(cameras, keyframe_map.points, seen, config.huber_px, config.noise_px, INLIER_PX)
    return _judge(result, span, intrinsics, anchors, covariance, keyframe_map, config, timestamps)


def _observations(
    tracks: Tracks, keyframe_map: KeyframeMap, names: np.ndarray, span: np.ndarray
) -> Observations:
    """All frames' observations of solved points, cameras counted from the first of `span`."""
    point_of = np.full(tracks.count, -1)
    solved = np.flatnonzero(keyframe_map.solved)
    point_of[names[solved]] = solved
    inside = (tracks.frame >= span[0]) & (tracks.frame <= span[-1]) & (point_of[tracks.track] >= 0)
    return Observations(tracks.frame[inside] - span[0], point_of[tracks.track[inside]], tracks.pixel[inside])


def _judge(
    result: Resection, span: np.ndarray, intrinsics: np.ndarray, anchors: np.ndarray,
    covariance: np.ndarray | None, keyframe_map: KeyframeMap, config: ClassicalConfig, timestamps: np.ndarray,
) -> PosedFrames:
    count = len(timestamps)
    good = (result.inliers >= config.min_inliers) & (result.share >= MIN_SHARE)
    verdict = np.zeros(count, np.uint8)
    c2w = np.full((count, 4, 4), np.nan)
    estimated = result.cameras.c2w()
    if good.any():
        first, last = np.flatnonzero(good)[[0, -1]]
        between = span[first:last + 1]
        filled = interpolate(span[good].astype(np.float64), estimated[good], between.astype(np.float64))
        c2w[between] = filled
        c2w[span[good]] = estimated[good]
        verdict[between] = FrameVerdict.INTERPOLATED
        verdict[span[good]] = FrameVerdict.ESTIMATED
    to_start = np.linalg.inv(c2w[verdict > 0][0]) if good.any() else np.eye(4)
    c2w[verdict > 0] = to_start @ c2w[verdict > 0]
    use = keyframe_map.usable()
    depth = np.linalg.norm(keyframe_map.points[keyframe_map.seen.point[use]]
                           - keyframe_map.cameras.centre[keyframe_map.seen.camera[use]], axis=1)
    unit = float(np.median(depth)) if len(depth) else 1.0
    c2w[:, :3, 3] /= unit
    variance = np.full((count, 6), np.nan)
    variance[span] = np.einsum("mii->mi", result.covariance)
    if covariance is not None:
        of_keyframes = np.maximum(np.diag(covariance).reshape(-1, 6), 0.0)
        if len(of_keyframes) == len(anchors):
            variance += np.stack([np.interp(np.arange(count), anchors, each) for each in of_keyframes.T], 1)
        else:  # a keyframe has lost all its points, and how well the others are known is not known by frame
            variance[:] = np.nan
    variance[verdict != FrameVerdict.ESTIMATED] = np.nan
    estimated_frames = np.flatnonzero(verdict == FrameVerdict.ESTIMATED)
    gaps = np.diff(timestamps[estimated_frames]) if len(estimated_frames) > 1 else np.zeros(1)
    return PosedFrames(
        c2w, intrinsics, np.sqrt(variance[:, 3:].mean(1)) / unit,
        np.degrees(np.sqrt(variance[:, :3].mean(1))), verdict, {
            "frame_inlier_share": float(np.median(result.share)),
            "frame_inliers_min": float(result.inliers.min()),
            "frame_reprojection_px": float(np.nanmedian(result.median_px)),
            "longest_gap_s": float(gaps.max()),
            "estimated_share": float(len(estimated_frames) / count),
        })
