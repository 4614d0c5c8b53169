"""How a picture becomes a frame of a clip: turned, resized with its aspect kept, cropped in the middle.

One object holds the numbers, so pixels, intrinsics and depth go through the same geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import av
import numpy as np

from annotate.clip_video import plane_view
from annotate.cut.bars import NO_BARS, Bars
from annotate.decode import VideoInfo, reformat
from dataset.camera import crop_intrinsics, resize_intrinsics


@dataclass(frozen=True)
class Framing:
    """From a displayed picture to a clip's frame. All sizes (height, width)."""

    source: tuple[int, int]  # as displayed
    inner: tuple[int, int]  # of it, what lies between black bars
    scaled: tuple[int, int]  # after the resize; even, at least `size`
    top: int  # of the crop within the scaled picture; even, so that chroma stays in place
    left: int
    size: tuple[int, int]  # of the clip

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int], bars: Bars = NO_BARS) -> Framing:
        """The smallest resize of `source` whose part between the bars covers `size`, and the crop of the
        middle of that part.

        The scaled sides are whole even numbers, so the two axes may differ in scale by less than 2 pixels
        over the side (where there are bars, 4); the intrinsics follow each axis exactly.
        """
        inner = bars.inner(source)
        scale = max(size[0] / inner[0], size[1] / inner[1])
        (height, top), (width, left) = (
            _cover(*numbers, scale) for numbers in zip(source, size, (bars.top, bars.left), inner))
        return cls(source, inner, (height, width), top, left, size)

    @property
    def enlargement(self) -> float:
        """Scale of the resize; above 1 the clip shows pixels the source does not have."""
        return max(self.size[0] / self.inner[0], self.size[1] / self.inner[1])

    def intrinsics(self, intrinsics: np.ndarray) -> np.ndarray:
        """Intrinsics (..., 4) of the displayed picture, in pixels of the clip."""
        return crop_intrinsics(resize_intrinsics(intrinsics, self.source, self.scaled), self.top, self.left)

    def frame(self, picture: av.VideoFrame, info: VideoInfo) -> av.VideoFrame:
        """The clip's frame (yuv420p, BT.709 limited range) of a stored picture."""
        turns = info.quarter_turns
        stored = self.scaled[::-1] if turns % 2 else self.scaled
        scaled = reformat(picture, info, stored, "yuv420p")
        height, width = self.size
        framed = av.VideoFrame(width, height, "yuv420p")
        for index, step in enumerate((1, 2, 2)):
            plane = np.rot90(plane_view(scaled, index), -turns)
            top, left, h, w = self.top // step, self.left // step, height // step, width // step
            plane_view(framed, index)[:] = plane[top:top + h, left:left + w]
        return framed

    def depth_grid(self, depth_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Rows (h,) and columns (w,) of a displayed depth map that the clip shows, and (h, w).

        Nearest samples at about the map's own density, never denser than the clip: depth must not be mixed
        across edges.
        """
        axes = []
        for axis, offset in enumerate((self.top, self.left)):
            density = min(1.0, depth_size[axis] / self.scaled[axis])
            count = max(1, round(self.size[axis] * density))
            clip_pixels = (np.arange(count) + 0.5) * (self.size[axis] / count)
            cells = (clip_pixels + offset) * (depth_size[axis] / self.scaled[axis])
            axes.append(np.minimum(cells.astype(np.int64), depth_size[axis] - 1))
        return axes[0], axes[1], (len(axes[0]), len(axes[1]))


def _cover(side: int, target: int, before: int, inner: int, scale: float) -> tuple[int, int]:
    """Length of a side after the resize, and where a crop of `target` begins in it, both even.

    The crop shows nothing but the `inner` pixels that come after `before`.
    """
    scaled = max(target, 2 * round(side * scale / 2))
    while True:
        first = 2 * math.ceil(before * scaled / (2 * side))
        last = math.floor((before + inner) * scaled / side)
        if last - first >= target:
            return scaled, first + (last - first - target) // 4 * 2
        scaled += 2
