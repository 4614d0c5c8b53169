"""How a picture becomes a frame of a clip: turned, resized with its aspect kept, cropped in the middle.

One object holds the numbers, so pixels, intrinsics and depth go through the same geometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np

from annotate.clip_video import plane_view
from annotate.decode import VideoInfo, reformat
from dataset.camera import crop_intrinsics, resize_intrinsics


@dataclass(frozen=True)
class Framing:
    """From a displayed picture to a clip's frame. All sizes (height, width)."""

    source: tuple[int, int]  # as displayed
    scaled: tuple[int, int]  # after the resize; even, at least `size`
    top: int  # of the crop within the scaled picture; even, so that chroma stays in place
    left: int
    size: tuple[int, int]  # of the clip

    @classmethod
    def fit(cls, source: tuple[int, int], size: tuple[int, int]) -> Framing:
        """The smallest resize of `source` that covers `size`, and the crop of its middle.

        The scaled sides are whole even numbers, so the two axes may differ in scale by less than 2 pixels
        over the side; the intrinsics follow each axis exactly.
        """
        scale = max(size[0] / source[0], size[1] / source[1])
        height, width = (max(target, 2 * round(side * scale / 2)) for side, target in zip(source, size))
        return cls(source, (height, width), (height - size[0]) // 4 * 2, (width - size[1]) // 4 * 2, size)

    @property
    def enlargement(self) -> float:
        """Scale of the resize; above 1 the clip shows pixels the source does not have."""
        return max(self.size[0] / self.source[0], self.size[1] / self.source[1])

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

