"""Black bars around the picture of a video: found in a few of its frames before it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from annotate.decode import UnreadableVideo, VideoInfo, VideoReader, bgr, open_video

SAMPLES = 32
_FEWEST = 8  # samples that key frames must give; else every frame of the beginning is looked through
_BEGINNING = 300  # frames of it
_DARK = 20  # brightest a bar may be, of 255; bars are 0 but for what compression adds
_FLAT = 8  # and most its pixels may differ along a line
_BRIGHT = 48  # a frame whose brightest parts are darker says nothing
_LEAST_SHARE, _LEAST = 0.01, 4  # of a side, and in pixels, that a bar takes
_MOST_SHARE = 0.4
_ALIKE = 0.5  # the thinner bar of a pair is at least this share of the other: one dark side is no bar
_STEADY_PX = 2
_RINGING_PX = 12  # of a bar, beside the picture, that strong compression disturbs
_SUPPORT, _AGAINST = 0.3, 0.25  # frames in which the bar ends just there, and in which something lies in it
_FRINGE_PX = 2  # cut off beside a bar: its edge is blurred


@dataclass(frozen=True)
class Bars:
    """Pixels of the displayed picture that are bars, fringe included."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def inner(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of what lies between them in a picture of `size`."""
        return size[0] - self.top - self.bottom, size[1] - self.left - self.right


NO_BARS = Bars()


def find_bars(
    path: Path, info: VideoInfo, start_s: float | None = None, end_s: float | None = None,
) -> Bars:
    """The bars of a video, or of a span of it; a file that breaks off is judged by what can be read."""
    seen = [edges for picture in _key_frames(path, info, start_s, end_s)
            if (edges := _edges(bgr(picture, info))) is not None]
    found = _agree(seen, info.size)
    if found == NO_BARS or len(seen) >= _FEWEST:
        return found
    try:
        with VideoReader(path) as reader:
            within = (frame for frame in reader if _within(frame.time_s, start_s, end_s))
            beginning = [frame.picture for frame in islice(within, 0, _BEGINNING, _BEGINNING // SAMPLES)]
    except UnreadableVideo:
        return found
    seen += [edges for picture in beginning if (edges := _edges(bgr(picture, info))) is not None]
    return _agree(seen, info.size)


def _within(time_s: Fraction, start_s: float | None, end_s: float | None) -> bool:
    return (start_s is None or time_s >= start_s) and (end_s is None or time_s < end_s)


def _key_frames(
    path: Path, info: VideoInfo, start_s: float | None, end_s: float | None,
) -> Iterator[av.VideoFrame]:
    """Different frames from all over a span. Which ones does not matter, so seeking will do here."""
    container, stream = open_video(path)
    stream.thread_count, stream.thread_type = 1, "NONE"
    with container:
        begin = start_s or 0.0
        end = end_s if end_s is not None else info.duration_s or begin
        base, seen = stream.start_time or 0, set[Any]()
        for k in range(SAMPLES if end > begin else 1):
            at = begin + (end - begin) * (k + 0.5) / SAMPLES
            try:
                container.seek(base + round(at / stream.time_base), stream=stream)
                picture = next(container.decode(stream), None)
            except (av.FFmpegError, OSError):
                continue
            if picture is not None and picture.pts not in seen and not picture.is_corrupt:
                seen.add(picture.pts)
                yield picture


def _edges(image: np.ndarray) -> tuple[int, int, int, int] | None:
    """Dark lines from the top, bottom, left and right of a picture (h, w, 3); None if all of it is dark."""
    bright = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
    if np.percentile(bright[::4, ::4], 98) < _BRIGHT:
        return None
    counts = []
    for lines in (bright[:, ::4], np.ascontiguousarray(bright[::4].T)):
        if _dark(lines[[0, -1]]).all():  # else there is no pair, and the rest need not be looked at
            dark, mean = _dark(lines), lines.mean(axis=1)
            counts += [_run(dark, mean), _run(dark[::-1], mean[::-1])]
        else:
            counts += [0, 0]
    return counts[0], counts[1], counts[2], counts[3]


def _dark(lines: np.ndarray) -> np.ndarray:
    """(n,) which of the lines (n, pixels) can belong to a bar; a few bright pixels, as of a logo, may."""
    low, high = np.percentile(lines, (2, 98), axis=1, method="nearest")
    return (high <= _DARK) & (high - low <= _FLAT)


def _run(dark: np.ndarray, mean: np.ndarray) -> int:
    """Lines of a bar from its outer edge on, with those that ring with the picture beside them."""
    width = int(np.argmin(dark)) if not dark.all() else len(dark)
    ringing = mean[width:width + _RINGING_PX] <= _DARK
    return width + (int(np.argmin(ringing)) if not ringing.all() else len(ringing)) if width else 0


def _agree(seen: list[tuple[int, int, int, int]], size: tuple[int, int]) -> Bars:
    """The bars that frames have in common: on both sides, ending at the same line in many frames."""
    if not seen:
        return NO_BARS
    columns = np.array(seen).T  # (4, samples)
    found = []
    for axis, side in enumerate(size):
        pair = [_steady(columns[2 * axis + k], side) for k in (0, 1)]
        is_pair = min(pair) >= max(_LEAST, _LEAST_SHARE * side) and min(pair) >= _ALIKE * max(pair)
        found += [width + _FRINGE_PX if is_pair else 0 for width in pair]
    return Bars(*found)


def _steady(counts: np.ndarray, side: int) -> int:
    """The smallest width at which a bar ends in enough frames, and into which few frames put anything."""
    for width in np.unique(counts[(counts > 0) & (counts <= _MOST_SHARE * side)]):
        support = np.mean(np.abs(counts - width) <= _STEADY_PX)
        against = np.mean(counts < width - _STEADY_PX)
        if support >= _SUPPORT and against <= _AGAINST:
            return int(width)
    return 0
