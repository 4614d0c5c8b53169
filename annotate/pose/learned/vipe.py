"""ViPE in an environment of its own: dense SLAM over the whole clip, in metres by its keyframe depth.

As in the paper (App. B) that depth is Pi3X's, consistent over the clip, brought to metres frame by frame by
MoGe-2: ratio of sums, smoothed over the frames.
"""

from __future__ import annotations

import numpy as np

from annotate.child.answer import checked_cameras
from annotate.child.process import Child
from annotate.depth.moge2 import Moge2Engine
from annotate.frames import Frames, gray_height, shrink
from annotate.learned import LearnedConfig, needs_of, start_child
from annotate.pose.learned.config import FeedForwardConfig, KeyframeDepth, VipeConfig
from annotate.pose.learned.feed_forward import FeedForwardEngine, motion_of
from annotate.scale.fused import compare, multiplied
from annotate.weights import EngineMissing, Needs
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, DepthMaps, FrameVerdict, Motion

_LIKELY_DEPTHS = 3.0
"""Where no depth is known, a camera is taken for still that moves less than a share of so many units."""


class VipeEngine:
    """`annotate.pose.engine.PoseEngine` by nvidia-vipe 1.2."""

    name = "vipe"
    version = "1"

    def __init__(self, config: VipeConfig, windows: FeedForwardConfig, learned: LearnedConfig) -> None:
        if learned.device == "cpu":
            raise EngineMissing("engine vipe: it runs on CUDA alone; learned.device=cpu has no use for it")
        self._config = config
        self._learned = learned
        self._child: Child | None = None
        self._structure = FeedForwardEngine("pi3x", windows, learned)
        self._metric = Moge2Engine(learned, config.width)

    def needs(self) -> list[Needs]:
        fused = self._config.depth is KeyframeDepth.fused
        others = [*self._structure.needs(), *self._metric.needs()] if fused else []
        return [needs_of(self.name, self._learned), *others]

    def estimate(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None = None
    ) -> CameraTrack:
        """Camera of every frame, in metres unless `pose.vipe.depth=none`."""
        depth = None
        if self._config.depth is KeyframeDepth.fused:
            depth, failure = self.fused_depth(frames, timestamps, intrinsics)
            if depth is None:
                return CameraTrack.failed(f"no keyframe depth: {failure}", timestamps, frames.size, self.name,
                                          Motion.PARALLAX)
        track, metric = self._slam(frames, timestamps, intrinsics, depth)
        track.diagnostics["metric"] = metric
        return track

    def estimate_with_depth(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, depth: DepthMaps
    ) -> CameraTrack:
        """Camera of every frame, in the unit of the depth that came with the clip."""
        return self._slam(frames, timestamps, intrinsics, depth)[0]

    def fused_depth(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None
    ) -> tuple[DepthMaps | None, str | None]:
        """Depth in metres of every `depth_every`-th frame, or the reason for there being none."""
        found = self._structure.structure(frames, timestamps, intrinsics, self._config.depth_every)
        if found.maps is None:
            return None, f"pi3x: {found.track.failure}"
        known = found.track.intrinsics if intrinsics is None else intrinsics
        metric = self._metric.estimate(frames, found.maps.frames.tolist(), known)
        scales = compare(found.maps, metric)
        if not np.isfinite(scales.smoothed).any():
            return None, f"moge2 and pi3x agree in none of {len(scales.frames)} frames"
        return multiplied(found.maps, scales.at(found.maps.frames), "pi3x+moge2"), None

    def _slam(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, depth: DepthMaps | None
    ) -> tuple[CameraTrack, bool]:
        if self._child is None:
            self._child = start_child(
                self.name, self._learned, pipeline=self._config.pipeline, masks=self._config.masks,
                own_depth=self._config.depth is KeyframeDepth.own)
        count = len(frames)
        width = min(self._config.width, frames.size[1])
        size = (gray_height(frames.size, width), width)
        request = {"rgb": np.stack([shrink(frames.rgb(k), size) for k in range(count)])}
        if intrinsics is not None:
            request["intrinsics"] = resize_intrinsics(intrinsics, frames.size, size)
        reach = _LIKELY_DEPTHS
        if depth is not None:
            request["depth"] = np.where(depth.valid, depth.depth, np.float16(np.nan))
            request["depth_frames"] = depth.frames
            reach = float(np.median(depth.depth[depth.valid])) if depth.valid.any() else reach
        rate = 1 / float(np.median(np.diff(timestamps))) if count > 1 else 1.0
        found, about = self._child.ask(request, {"fps": rate}, self._learned.limit_s)
        c2w, columns = checked_cameras(found, count, self.name)
        c2w = np.linalg.inv(c2w[0]) @ c2w
        c2w[0] = np.eye(4)
        if intrinsics is None:
            intrinsics = resize_intrinsics(columns, size, frames.size)
        return CameraTrack(
            c2w=c2w, intrinsics=intrinsics.copy(), size=frames.size, timestamps=np.asarray(timestamps),
            sigma_position=np.full(count, np.nan), sigma_rotation_deg=np.full(count, np.nan),
            frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=motion_of(c2w, reach),
            engine=self.name), about.get("metric") is True
