"""The frames of one clip, as the engines see them: sizes, greys and colours on demand, never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import cv2
import numpy as np


class Frames(Protocol):
    """Random access to the frames of a clip.

    `size` is (height, width) and every intrinsics handed around with the frames is in its pixels.
    """

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def gray(self, width: int) -> np.ndarray:
        """All frames (F, h, width) uint8, area-resized to `width` (never enlarged), aspect kept."""
        ...

    def rgb(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8 at full size."""
        ...


class ClipFrames(Frames, Protocol):
    """The frames of a clip's own file, which also gives its rate and its stored planes."""

    fps: Fraction

    def iter_yuv(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Every frame in order as stored: luma (H, W), chroma (H/2, W/2) twice, BT.709 limited range."""
        ...


def gray_height(size: tuple[int, int], width: int) -> int:
    """Height that keeps the aspect of `size` = (height, width) at the given width."""
    return max(1, round(size[0] * width / size[1]))


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W[, 3]) uint8 area-resized to `size` = (h, w); itself when it has that size.

    Halved while it is at least twice too wide, which OpenCV does several times faster than any other share.
    """
    height, width = size
    while image.shape[1] >= 2 * width and not (image.shape[0] % 2 or image.shape[1] % 2):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image if image.shape[:2] == size else cv2.resize(image, (width, height),
                                                           interpolation=cv2.INTER_AREA)


class ArrayFrames:
    """Frames held as one array (F, H, W, 3) RGB or (F, H, W) grey uint8: for tests and short sequences."""

    def __init__(self, array: np.ndarray) -> None:
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ValueError(f"frames: expected (F, H, W[, 3]) uint8, found {array.shape} {array.dtype}")
        self._array = array
        self._gray: dict[int, np.ndarray] = {}
        self.size = (int(array.shape[1]), int(array.shape[2]))

    def __len__(self) -> int:
        return len(self._array)

    def rgb(self, index: int) -> np.ndarray:
        frame = self._array[index]
        return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)

    def gray(self, width: int) -> np.ndarray:
        width = min(width, self.size[1])
        if width not in self._gray:
            size = (gray_height(self.size, width), width)
            self._gray[width] = np.stack([shrink(self._luma(frame), size) for frame in self._array])
        return self._gray[width]

    @staticmethod
    def _luma(frame: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame
