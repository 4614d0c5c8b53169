"""Bundle adjustment of a learned engine's cameras on points followed through the clip.

Networks and dense SLAM hold one focal length, or guess one a frame. Here points decide: one for the clip, or
one a frame with the priors of `annotate.pose.bundle` where the images clearly fit better (paper, App. B).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from annotate.frames import Frames
from annotate.pose.allframes import pose_all_frames
from annotate.pose.bundle import Priors
from annotate.pose.config import ClassicalConfig
from annotate.pose.finish import finish
from annotate.pose.learned.config import RefineConfig
from annotate.pose.reprojection import Cameras, Free
from annotate.pose.tracks import Tracks, follow, working_size
from annotate.pose.window import INLIER_PX, KeyframeMap, keyframe_observations
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, Motion
from dataset.trajectory import align_tracks

MIN_SOLVED = 0.3
"""Share of the points followed that the engine's cameras must explain to start from."""


def refine(
    frames: Frames, track: CameraTrack, known: np.ndarray | None, config: RefineConfig,
    classical: ClassicalConfig,
) -> CameraTrack:
    """The track adjusted, in the unit it had; `refined` among its diagnostics says so, or why it was not.

    known (F, 4): intrinsics to be kept. Where adjustment changes the path much, the two contradict each
    other: the engine's own track is kept, with a doubt.
    """
    if not config.enabled or track.failure is not None or track.motion is not Motion.PARALLAX:
        return track
    gray = frames.gray(working_size(frames.size, classical.width)[1])
    tracks = follow(gray, track.timestamps, classical.tracks)
    at_work = resize_intrinsics(track.intrinsics, track.size, tracks.size)
    begun, names = _map_of(tracks, track.c2w, at_work, known is not None, classical)
    solved = float(begun.solved.mean()) if len(begun.solved) else 0.0
    if solved < MIN_SOLVED:
        return _kept(track, f"no: its cameras explain {solved:.0%} of the points followed")
    adjusted = _adjust(tracks, begun, names, None if known is None else at_work, track, classical)
    if adjusted is None or not adjusted.posed.all():
        return _kept(track, "no: some frames see too few points")
    sim3 = align_tracks(adjusted.c2w, track.c2w)
    if not sim3.scale > 0:
        return _kept(track, "no: the adjusted camera stands still")
    change = sim3.residual / track.path_length
    if change > config.max_change:
        why = f"points followed change the path by {change:.1%}, at most {config.max_change:.0%} is believed"
        return _kept(track, f"no: {why}", why)
    scaled = adjusted.scaled(sim3.scale, track.unit)
    scaled.diagnostics |= {"refined": "yes", "refined_change": change}
    return scaled


def _map_of(
    tracks: Tracks, c2w: np.ndarray, intrinsics: np.ndarray, known: bool, config: ClassicalConfig
) -> tuple[KeyframeMap, np.ndarray]:
    """A map with the engine's cameras at the keyframes and the points they see; the track of each point."""
    seen, names = keyframe_observations(tracks)
    at = tracks.keyframes
    found = KeyframeMap(seen, len(names), intrinsics[at], known, config)
    step = float(np.median(np.linalg.norm(np.diff(c2w[at, :3, 3], axis=0), axis=1))) if len(at) > 1 else 0.0
    found.cameras = Cameras(c2w[at, :3, :3].swapaxes(1, 2).copy(), c2w[at, :3, 3] / max(step, 1e-12),
                            intrinsics[at].copy())
    found.posed[:] = True
    found.triangulate_new()
    found.cull(2 * INLIER_PX)
    return found, names


def _adjust(
    tracks: Tracks, begun: KeyframeMap, names: np.ndarray, known: np.ndarray | None, track: CameraTrack,
    classical: ClassicalConfig,
) -> CameraTrack | None:
    height, width = tracks.size
    focal = float(np.median(begun.cameras.intrinsics[:, 0]))
    priors = Priors(log_focal=float(np.log(focal)), frame=tracks.keyframes.astype(np.float64),
                    principal=np.array([width / 2, height / 2]), principal_sigma=0.01 * width)
    report = finish(begun, begun.seen, priors, Free(focal="none" if known is not None else "shared"))
    if report.variance is None:
        return None
    posed = pose_all_frames(tracks, begun, names, known, report.variance, track.timestamps, classical)
    intrinsics = track.intrinsics.copy()
    if known is None:
        intrinsics = resize_intrinsics(posed.intrinsics, tracks.size, track.size)
    return dataclasses.replace(
        track, c2w=posed.c2w, intrinsics=intrinsics, sigma_position=posed.sigma_position,
        sigma_rotation_deg=posed.sigma_rotation_deg, frame_verdict=posed.frame_verdict,
        diagnostics={**track.diagnostics, **report.diagnostics, **posed.diagnostics})


def _kept(track: CameraTrack, outcome: str, doubt: str | None = None) -> CameraTrack:
    diagnostics = {**track.diagnostics, "refined": outcome}
    if doubt is not None:
        before = track.diagnostics.get("doubts")
        diagnostics["doubts"] = f"{before}; {doubt}" if before else doubt
    return dataclasses.replace(track, diagnostics=diagnostics)
