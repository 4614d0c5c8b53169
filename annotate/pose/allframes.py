"""Every frame of a clip posed on the keyframes' points, with a verdict and a sigma each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annotate.pose.config import ClassicalConfig
from annotate.pose.pnp import Resection, resect
from annotate.pose.reprojection import Cameras, Observations
from annotate.pose.tracks import Tracks
from annotate.pose.window import INLIER_PX, KeyframeMap
from dataset.camera import interpolate
from dataset.clip import FrameVerdict

MAX_POINTS = 300
"""More points a frame hardly make its pose better."""
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
    spread: np.ndarray | None, timestamps: np.ndarray, config: ClassicalConfig,
) -> PosedFrames:
    """Poses between the first and the last posed keyframe; the world is the first frame's camera.

    spread (K', 6): variances of the posed keyframes, NaN where unknown.
    """
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
    result = resect(cameras, keyframe_map.points, seen, keyframe_map.noise, INLIER_PX)
    return _judge(result, span, intrinsics, anchors, spread, keyframe_map, config, timestamps)


def _observations(
    tracks: Tracks, keyframe_map: KeyframeMap, names: np.ndarray, span: np.ndarray
) -> Observations:
    """Observations of solved points, at most `MAX_POINTS` a frame, cameras counted from the first of `span`.

    Points seen in many frames come first: they are the best known.
    """
    point_of = np.full(tracks.count, -1)
    solved = np.flatnonzero(keyframe_map.solved)
    point_of[names[solved]] = solved
    inside = (tracks.frame >= span[0]) & (tracks.frame <= span[-1]) & (point_of[tracks.track] >= 0)
    camera, track = tracks.frame[inside] - span[0], tracks.track[inside]
    often = np.bincount(tracks.track)
    order = np.lexsort((track, -often[track], camera))
    ranked = camera[order]
    first = np.arange(len(order)) - np.searchsorted(ranked, ranked) < MAX_POINTS
    chosen = np.flatnonzero(inside)[order[first]]
    return Observations(tracks.frame[chosen] - span[0], point_of[tracks.track[chosen]], tracks.pixel[chosen])


def _judge(
    result: Resection, span: np.ndarray, intrinsics: np.ndarray, anchors: np.ndarray,
    spread: np.ndarray | None, keyframe_map: KeyframeMap, config: ClassicalConfig, timestamps: np.ndarray,
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
    variance[variance <= 0] = np.nan
    if spread is None or len(spread) != len(anchors):
        variance[:] = np.nan  # a keyframe has lost all its points, and which is not known by frame
    else:
        variance += np.stack([np.interp(np.arange(count), anchors, each) for each in spread.T], 1)
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
