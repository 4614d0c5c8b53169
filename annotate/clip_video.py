"""The frames of a clip we wrote: closed groups of pictures at a constant rate, to be entered anywhere."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from annotate.frames import gray_height, shrink

RECENT_FRAMES = 8
_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class ClipVideo:
    """`ClipFrames` over the bytes of one of our MP4s, decoded on demand.

    Whichever pass over the clip comes first also fills `gray` for all widths announced by `keep`. Memory:
    one byte a pixel of these stacks (161 frames at 640 and 320 wide from 720p: 46 MB; 961: 277 MB) and the
    last few `rgb` frames; the planes only stream. PyAV in order, since decord reads the rest of a file into
    memory after the first frame. Raises ValueError when the bytes hold no video of a known number of frames.
    """

    def __init__(self, mp4: bytes) -> None:
        self._mp4 = mp4
        self._gray: dict[int, np.ndarray] = {}
        self._kept: set[int] = set()  # widths that the next pass fills
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._pictures: Iterator[av.VideoFrame] = iter(())
        self._next: int | None = None  # the frame `_pictures` yields next
        try:
            self._container, self._stream = self._open()
            self.fps = Fraction(self._stream.average_rate)
            self._count = int(self._stream.frames)
            self.size = (int(self._stream.height), int(self._stream.width))
        except (av.FFmpegError, IndexError, TypeError) as error:
            raise ValueError(f"clip of {len(mp4)} bytes: not a video written here ({error})") from None

    def __len__(self) -> int:
        return self._count

    def keep(self, widths: Iterable[int]) -> None:
        """Announce the widths that `gray` will be asked for, so that one pass serves them all."""
        self._kept.update(min(width, self.size[1]) for width in widths)

    def gray(self, width: int) -> np.ndarray:
        """All frames (F, h, width) uint8, shrunk to `width` (never enlarged), full range.

        As `annotate.frames.shrink` makes them of the stored luma.
        """
        width = min(width, self.size[1])
        if width not in self._gray:
            self.keep([width])
            for _ in self._walk():
                pass
        return self._gray[width]

    def rgb(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8. Walking forward decodes every frame once."""
        if not 0 <= index < self._count:
            raise IndexError(f"frame {index} of a clip of {self._count} frames")
        if index not in self._recent:
            if self._next is None or not self._next <= index <= self._next + RECENT_FRAMES:
                self._container.seek(round(index / self.fps / self._stream.time_base), stream=self._stream)
                self._pictures = self._container.decode(self._stream)
            for picture in self._pictures:
                self._next = round(picture.pts * self._stream.time_base * self.fps) + 1
                self._remember(self._next - 1, picture)
                if self._next > index:
                    break
        self._recent.move_to_end(index)
        return self._recent[index]

    def iter_rgb(self) -> Iterator[np.ndarray]:
        """Every frame (H, W, 3) uint8 at full size, in order."""
        for picture in self._walk():
            yield picture.to_ndarray(format="rgb24")

    def iter_yuv(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Every frame as its stored planes: luma (H, W), chroma (H/2, W/2) twice, BT.709 limited range.

        The planes are valid until the next frame is asked for.
        """
        for picture in self._walk():
            yield plane_view(picture, 0), plane_view(picture, 1), plane_view(picture, 2)

    def _open(self) -> tuple[Any, Any]:
        container = av.open(io.BytesIO(self._mp4))
        stream = container.streams.video[0]
        stream.thread_count, stream.thread_type = 1, "NONE"
        return container, stream

    def _walk(self) -> Iterator[av.VideoFrame]:
        """Every picture in order. A pass that comes to its end leaves the announced greys behind."""
        stacks = {width: np.empty((self._count, gray_height(self.size, width), width), np.uint8)
                  for width in self._kept - self._gray.keys()}
        container, stream = self._open()
        index = -1
        with container:
            for index, picture in enumerate(container.decode(stream)):
                for width, stack in stacks.items() if index < self._count else ():
                    small = shrink(plane_view(picture, 0), (stack.shape[1], width))
                    cv2.LUT(small, _FULL_RANGE, dst=stack[index])
                yield picture
        if index + 1 != self._count:
            raise ValueError(f"clip of {len(self._mp4)} bytes: {index + 1} frames can be decoded, its header "
                             f"states {self._count}; make the clip again")
        self._gray |= stacks

    def _remember(self, index: int, picture: av.VideoFrame) -> None:
        self._recent[index] = picture.to_ndarray(format="rgb24")
        while len(self._recent) > RECENT_FRAMES:
            self._recent.popitem(last=False)


def plane_view(picture: av.VideoFrame, index: int) -> np.ndarray:
    """One plane (h, w) uint8 of an 8-bit planar picture, without copying and without its padding."""
    plane: Any = picture.planes[index]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:plane.height, :plane.width]
