"""Cameras and depth by a feed-forward network (Pi3X, VGGT, Depth Anything 3) in a child process.

The network sees overlapping windows; they are joined by Sim(3). Cameras and depth share one unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from annotate.child.answer import check_shapes, checked_cameras
from annotate.child.process import Child, ChildFailed
from annotate.frames import Frames, shrink
from annotate.learned import LearnedConfig, needs_of, start_child
from annotate.pose.learned.config import FeedForwardConfig
from annotate.pose.learned.windows import Joined, Window, join, window_ranges
from annotate.scale.fusion import confident
from annotate.weights import Needs
from dataset.camera import resize_intrinsics, rotation_angle_deg
from dataset.clip import CameraTrack, DepthMaps, FrameVerdict, Motion

PATCH = 14
LEAST_WINDOW = 8
"""Frames below which a window tells too little, however short the memory is."""
STILL_SHARE, STILL_DEG = 0.003, 0.3
"""Of the median depth and in degrees: less movement than the networks can tell from none."""
MAX_SEAM_SHARE, MAX_SEAM_DEG = 0.02, 1.0
"""Beyond, neighbouring windows contradict each other, and the track is doubted."""
MAX_FOCAL_SPREAD = 0.1
"""Range of the smoothed focal length, as a share, below which a clip has one."""
_SMOOTHING_S = 1.0

NAMES = ("pi3x", "vggt", "depth_anything3")


@dataclass
class Structure:
    """Cameras of every frame, and depth of every k-th in the unit of the cameras; None without cameras."""

    track: CameraTrack
    maps: DepthMaps | None


class FeedForwardEngine:
    """`annotate.pose.engine.StructureEngine` by one of `NAMES`."""

    version = "1"

    def __init__(self, name: str, config: FeedForwardConfig, learned: LearnedConfig) -> None:
        self.name = name
        self._config = config
        self._learned = learned
        self.window = config.window  # frames in one pass; fewer once memory has run out
        self._child: Child | None = None

    def needs(self) -> list[Needs]:
        return [needs_of(self.name, self._learned)]

    def close(self) -> None:
        """End the engine's process, if there is one."""
        if self._child is not None:
            self._child.close()

    def estimate(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None = None
    ) -> CameraTrack:
        """Camera of every frame."""
        return self.structure(frames, timestamps, intrinsics, len(frames)).track

    def structure(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, every: int
    ) -> Structure:
        """Cameras, and depth of every `every`-th frame. Known intrinsics (F, 4), pixels of `frames.size`.

        Raises ChildFailed when the engine breaks, and torch.OutOfMemoryError when not even a short window
        fits its memory.
        """
        timestamps = np.asarray(timestamps, np.float64)
        if len(frames) < 2:
            return Structure(CameraTrack.failed("a camera path needs at least two frames", timestamps,
                                                frames.size, self.name, Motion.STATIC), None)
        size = network_size(frames.size, self._config.pixels)
        known = None if intrinsics is None else resize_intrinsics(intrinsics, frames.size, size)
        joined, metric = self._join(frames, size, known, every)
        return _to_structure(joined, metric, self.name, timestamps, frames.size, intrinsics)

    def _join(self, frames: Frames, size: tuple[int, int], known: np.ndarray | None,
              every: int) -> tuple[Joined, bool]:
        import torch

        while True:
            overlap = min(self._config.overlap, self.window // 2)
            metric: list[bool] = []
            try:
                return join(self._windows(frames, size, known, overlap, metric), every), all(metric)
            except torch.OutOfMemoryError:
                if self.window // 2 < LEAST_WINDOW:
                    raise
                self.window //= 2  # and stays so for the clips that follow

    def _windows(self, frames: Frames, size: tuple[int, int], known: np.ndarray | None, overlap: int,
                 metric: list[bool]) -> Iterator[Window]:
        if self._child is None:
            self._child = start_child(self.name, self._learned)
        images: dict[int, np.ndarray] = {}
        for span in window_ranges(len(frames), self.window, overlap):
            images = {k: images[k] if k in images else shrink(frames.rgb(k), size) for k in span}
            request = {"rgb": np.stack([images[k] for k in span])}
            if known is not None:
                request["intrinsics"] = known[span.start:span.stop]
            found, about = self._child.ask(request, {}, self._learned.limit_s)
            metric.append(about.get("metric") is True)
            yield checked_window(found, span.start, len(span), size, self.name)


def network_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Height and width, multiples of the patch, of about the aspect of `size` and at most `pixels` pixels."""
    factor = min(1.0, np.sqrt(pixels / (size[0] * size[1])))
    high, wide = (max(1, round(side * factor / PATCH)) for side in size)
    while high * wide * PATCH * PATCH > pixels and high * wide > 1:
        if high > 1 and (wide == 1 or wide / high < size[1] / size[0]):
            high -= 1
        else:
            wide -= 1
    return high * PATCH, wide * PATCH


def checked_window(found: dict[str, np.ndarray], first: int, count: int, size: tuple[int, int],
                   name: str) -> Window:
    """The answer of an engine as a window. Raises ChildFailed for one that no camera could have given."""
    check_shapes(found, {"depth": (count, *size), "confidence": (count, *size)}, name)
    c2w, intrinsics = checked_cameras(found, count, name)
    depth = np.where(np.isfinite(found["depth"]) & (found["depth"] > 0), found["depth"], np.nan)
    if not np.isfinite(depth).any():
        raise ChildFailed(f"{name} answered no depth for frames {first} to {first + count - 1}")
    return Window(first, c2w, intrinsics, depth.astype(np.float32), found["confidence"].astype(np.float32))


def _to_structure(joined: Joined, metric: bool, name: str, timestamps: np.ndarray, size: tuple[int, int],
                  given: np.ndarray | None) -> Structure:
    small = joined.depth.shape[1:]
    reach = float(np.nanmedian(joined.depth))
    diagnostics: dict[str, float | str | bool | None] = {
        "seam_share": joined.seam_share, "seam_rotation_deg": joined.seam_rotation_deg,
        "scale_step": joined.scale_step, "metric": metric}
    if joined.failure is not None:
        return Structure(CameraTrack.failed(joined.failure, timestamps, size, name, Motion.PARALLAX,
                                            diagnostics), None)
    c2w = np.linalg.inv(joined.c2w[0]) @ joined.c2w
    c2w[0] = np.eye(4)
    intrinsics = given
    if intrinsics is None:
        steady = steady_intrinsics(joined.intrinsics, timestamps)
        intrinsics = resize_intrinsics(steady, (int(small[0]), int(small[1])), size)
    if joined.seam_share > MAX_SEAM_SHARE or joined.seam_rotation_deg > MAX_SEAM_DEG:
        diagnostics["doubts"] = (f"windows differ at their seams by {joined.seam_share:.1%} of the path and "
                                 f"{joined.seam_rotation_deg:.1f} deg")
    count = len(timestamps)
    track = CameraTrack(
        c2w=c2w, intrinsics=intrinsics.copy(), size=size, timestamps=timestamps,
        sigma_position=np.full(count, np.nan), sigma_rotation_deg=np.full(count, np.nan),
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=motion_of(c2w, reach),
        engine=name, diagnostics=diagnostics)
    valid = np.isfinite(joined.depth) & np.stack([confident(logits) for logits in joined.confidence])
    half = np.finfo(np.float16)
    unit = np.where(valid, joined.depth, 0)
    valid &= (unit > half.tiny) & (unit < half.max)
    maps = DepthMaps(np.where(valid, unit, 0).astype(np.float16), valid, joined.frames.astype(np.int32),
                     joined.intrinsics[joined.frames], name)
    return Structure(track, maps)


def steady_intrinsics(intrinsics: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Intrinsics (F, 4) without the jitter of one guess a frame: the clip's median, or a running median of a
    second where that changes by more than a tenth, which is a zoom."""
    from scipy.ndimage import median_filter

    step = float(np.median(np.diff(timestamps)))
    length = max(1, 2 * round(0.5 * _SMOOTHING_S / step) + 1) if step > 0 else 1
    smooth = median_filter(intrinsics, size=(min(length, len(intrinsics)), 1), mode="nearest")
    middle = np.median(intrinsics, axis=0)
    zooms = np.ptp(smooth[:, 0]) > MAX_FOCAL_SPREAD * middle[0]
    return smooth if zooms else np.tile(middle, (len(intrinsics), 1))


def motion_of(c2w: np.ndarray, reach: float) -> Motion:
    """What the camera did, `reach` being the median depth of the scene in the unit of c2w (F, 4, 4)."""
    apart = float(np.linalg.norm(c2w[:, :3, 3] - c2w[0, :3, 3], axis=1).max())
    turned = float(rotation_angle_deg(c2w[0, :3, :3].T @ c2w[:, :3, :3]).max())
    if apart > STILL_SHARE * reach:
        return Motion.PARALLAX
    return Motion.ROTATION_ONLY if turned > STILL_DEG else Motion.STATIC
