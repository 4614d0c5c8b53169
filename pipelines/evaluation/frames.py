"""The frames of any generator's video, one for every pose of the path it was asked to follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from annotate.frames import gray_height, shrink
from pipelines.evaluation.path import FPS

ENOUGH = 0.9
"""Share of the path that a video must cover."""


class VideoFrames:
    """`annotate.frames.Frames` over a video file: frame k is what is shown for pose `first + k` of a path.

    A video of as many frames as the path, or of one less (its first frame, the image, left out), is taken
    frame by frame; any other by time, the frame shown nearest to k / 16 s. Raises ValueError for a file that
    is no video, or that ends before nine tenths of the path.
    """

    def __init__(self, path: Path, poses: int) -> None:
        self._path = path
        times, self.size = self._look()
        self.count = len(times)  # frames in the file
        self.first, self._numbers = _matched(times, poses, path)
        self._gray: dict[int, np.ndarray] = {}
        self._walking: Iterator[tuple[int, np.ndarray]] = iter(())
        self._next, self._last = 0, (-1, np.zeros(0, np.uint8))

    def __len__(self) -> int:
        return len(self._numbers)

    def gray(self, width: int) -> np.ndarray:
        """All frames (F, h, width) uint8."""
        width = min(width, self.size[1])
        if width not in self._gray:
            size = (gray_height(self.size, width), width)
            wanted = np.empty((len(self), *size), np.uint8)
            for places, picture in self._pass():
                wanted[places] = shrink(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), size)
            self._gray[width] = wanted
        return self._gray[width]

    def rgb(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8. Walking forward decodes every frame once."""
        number = int(self._numbers[index])
        if number != self._last[0]:
            if number < self._next:
                self._walking, self._next = iter(()), 0
            if self._next == 0:
                self._walking = self._decoded()
            for found, picture in self._walking:
                self._next = found + 1
                if found == number:
                    self._last = found, picture
                    break
        return self._last[1]

    def pictures(self, indices: Iterable[int]) -> dict[int, np.ndarray]:
        """Some frames (H, W, 3) uint8, decoded in one pass."""
        return {index: self.rgb(index) for index in sorted(set(indices))}

    def _pass(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every frame of the file that is shown, with the indices it is shown at."""
        for number, picture in self._decoded():
            places = np.flatnonzero(self._numbers == number)
            if len(places):
                yield places, picture

    def _decoded(self) -> Iterator[tuple[int, np.ndarray]]:
        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for number, frame in enumerate(container.decode(stream)):
                yield number, frame.to_ndarray(format="rgb24")

    def _look(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Times (n,) in seconds from the first frame, and (height, width)."""
        times: list[float] = []
        size: tuple[int, int] = (0, 0)
        try:
            with av.open(str(self._path)) as container:
                stream: Any = container.streams.video[0]
                stream.thread_count = 1
                for frame in container.decode(stream):
                    times.append(float(frame.time if frame.time is not None else len(times) / FPS))
                    size = (frame.height, frame.width)
        except (av.FFmpegError, IndexError, OSError) as error:
            if len(times) < 2:
                raise ValueError(f"{self._path}: cannot be read as a video: {error}") from None
            raise ValueError(f"{self._path}: breaks off after {len(times)} frames: {error}") from None
        if len(times) < 2:
            raise ValueError(f"{self._path}: {len(times)} frames, a camera path needs two")
        return np.array(times) - times[0], size


def _matched(times: np.ndarray, poses: int, path: Path) -> tuple[int, np.ndarray]:
    """The first pose that is shown, and for it and each after it the number of the video's frame."""
    if len(times) in (poses, poses - 1):
        return poses - len(times), np.arange(len(times))
    period = float(np.median(np.diff(times)))
    wanted = np.arange(poses) / FPS
    wanted = wanted[wanted <= times[-1] + period]
    if len(wanted) < ENOUGH * poses:
        raise ValueError(f"{path}: {len(times)} frames, {times[-1] + period:.2f} s; the path has {poses} "
                         f"poses, {poses / FPS:.2f} s at {FPS:g} a second: {ENOUGH:.0%} must be shown")
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    nearer = wanted - times[after - 1] <= times[after] - wanted
    return 0, np.where(nearer, after - 1, after)
