"""The embedded pose engine: CPU only, no weights.

Tracks, a probe for degenerate motion, a start from several pairs and focal hypotheses, a map grown in a
sliding window, global bundle adjustment with model selection over the intrinsics, and every frame posed on
its points.
"""

from __future__ import annotations

import cv2
import numpy as np

from annotate.frames import Frames
from annotate.pose.allframes import pose_all_frames
from annotate.pose.config import ClassicalConfig
from annotate.pose.probe import probe
from annotate.pose.sift import weak_links, with_features
from annotate.pose.solve import Solved, solve
from annotate.pose.start import focal_of_fov
from annotate.pose.tracks import Tracks, follow, working_size
from annotate.pose.trust import doubts
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, FrameVerdict, Motion

Diagnostics = dict[str, float | str | bool | None]


BROKEN_SHARE, WEAK_SHARE = 0.06, 0.4
"""Below the first share of points in common, two keyframes are not joined by tracking; below the second,
features help once tracking has failed."""
RECOVER_SHARE = 0.6
"""Share of the keyframes below which a mapper is asked for another start."""


class ClassicalEngine:
    """`annotate.pose.engine.PoseEngine` by points and geometry alone."""

    name = "classical"
    version = "3"

    def __init__(self, config: ClassicalConfig | None = None) -> None:
        self.config = config or ClassicalConfig()

    def estimate(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None = None
    ) -> CameraTrack:
        """Camera of every frame. Known intrinsics (F, 4), pixels of `frames.size`, are held fixed."""
        from threadpoolctl import threadpool_limits

        cv2.setNumThreads(1)
        # The matrices are small: more threads only wait for each other, and change the last bits.
        with threadpool_limits(1, user_api="blas"):
            return self._estimate(frames, timestamps, intrinsics)

    def _estimate(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None
    ) -> CameraTrack:
        timestamps = np.asarray(timestamps, np.float64)
        size = frames.size
        if len(frames) < 2:
            return CameraTrack.failed("a camera path needs at least two frames", timestamps, size, self.name,
                                      Motion.STATIC)
        wanted = working_size(size, self.config.width)
        gray = frames.gray(wanted[1])
        work = (int(gray.shape[1]), int(gray.shape[2]))
        known = None if intrinsics is None else resize_intrinsics(intrinsics, size, work)
        tracks = follow(gray, timestamps, self.config.tracks)
        found = probe(tracks, self.config.min_tracks)
        diagnostics: Diagnostics = {
            "keyframes": float(len(tracks.keyframes)), "working_width": float(work[1]), **found.diagnostics()}
        if found.motion == Motion.STATIC:
            return self._standing(timestamps, size, intrinsics, diagnostics)
        if found.motion == Motion.LOW_TEXTURE:
            reason = (f"too little texture: {found.tracks:.0f} points could be followed, "
                      f"{self.config.min_tracks} are needed")
            return CameraTrack.failed(reason, timestamps, size, self.name, found.motion, diagnostics)
        if found.motion == Motion.ROTATION_ONLY:
            return self._turning(frames, timestamps, intrinsics, diagnostics)
        track = self._moving(gray, tracks, timestamps, size, known, found.motion, diagnostics)
        if intrinsics is not None:  # to the last bit, which scaling there and back does not keep
            track.intrinsics = intrinsics.copy()
        return track

    def _standing(
        self, timestamps: np.ndarray, size: tuple[int, int], intrinsics: np.ndarray | None,
        diagnostics: Diagnostics,
    ) -> CameraTrack:
        """A camera that does not move: identity poses; its focal length, unless given, is the prior's."""
        count = len(timestamps)
        if intrinsics is None:
            focal = focal_of_fov(self.config.prior_fov_deg, size)
            intrinsics = np.tile([focal, focal, size[1] / 2, size[0] / 2], (count, 1))
            diagnostics["focal_sigma_log"] = 0.3
        diagnostics["verdict"] = "no camera motion"
        return CameraTrack(
            c2w=np.tile(np.eye(4), (count, 1, 1)), intrinsics=intrinsics.copy(), size=size,
            timestamps=timestamps, sigma_position=np.zeros(count), sigma_rotation_deg=np.zeros(count),
            frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=Motion.STATIC,
            engine=self.name, diagnostics=diagnostics,
        )

    def _turning(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, diagnostics: Diagnostics
    ) -> CameraTrack:
        from annotate.pose.rotation import estimate_rotations

        track = estimate_rotations(frames, timestamps, intrinsics, self.config.rotation)
        track.diagnostics = {**diagnostics, **track.diagnostics}
        track.engine = self.name
        track.diagnostics["doubts"] = doubts(track) if track.failure is None else None
        return track

    def _moving(
        self, gray: np.ndarray, tracks: Tracks, timestamps: np.ndarray, size: tuple[int, int],
        known: np.ndarray | None, motion: Motion, diagnostics: Diagnostics,
    ) -> CameraTrack:
        best, tracks = self._solve(gray, tracks, known, diagnostics)
        if best is None:
            return CameraTrack.failed("no pair of keyframes gives a relative camera pose", timestamps, size,
                                      self.name, motion, diagnostics)
        diagnostics |= best.diagnostics
        posed = pose_all_frames(tracks, best.map, best.names, known, best.variance, timestamps, self.config)
        diagnostics |= posed.diagnostics
        failure = None
        missing = int((posed.frame_verdict == FrameVerdict.UNPOSED).sum())
        if missing:
            failure = f"{missing} of {len(timestamps)} frames could not be posed"
            if best.broke is not None:
                failure += f" (tracking broke at frame {tracks.keyframes[best.broke]})"
        track = CameraTrack(
            c2w=posed.c2w, intrinsics=resize_intrinsics(posed.intrinsics, tracks.size, size), size=size,
            timestamps=timestamps, sigma_position=posed.sigma_position,
            sigma_rotation_deg=posed.sigma_rotation_deg, frame_verdict=posed.frame_verdict, motion=motion,
            engine=self.name, failure=failure, diagnostics=diagnostics,
        )
        track.diagnostics["doubts"] = doubts(track)
        return track

    def _solve(
        self, gray: np.ndarray, tracks: Tracks, known: np.ndarray | None, diagnostics: Diagnostics
    ) -> tuple[Solved | None, Tracks]:
        """The fullest map that tracks, tracks and features, or a mapper's start lead to; and its tracks."""
        best = None
        weak = weak_links(tracks, BROKEN_SHARE)
        if not weak.any():
            best = solve(tracks, known, self.config)
        if best is None or not best.complete:
            weak |= weak_links(tracks, WEAK_SHARE)
            if best is not None and best.broke is not None:
                weak[max(best.broke - 5, 0):best.broke + 5] = True
            richer = with_features(tracks, gray, weak)
            diagnostics["feature_tracks"] = float(richer.count - tracks.count)
            again = solve(richer, known, self.config)
            if best is None or (again is not None and again.posed > best.posed):
                best, tracks = again, richer
        few = best is None or best.posed < RECOVER_SHARE * len(tracks.keyframes)
        if few and self.config.recover:
            again = solve(tracks, known, self.config, recover=True)
            if again is not None and (best is None or again.posed > best.posed):
                best = again
        return best, tracks
