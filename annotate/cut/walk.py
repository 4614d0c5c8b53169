"""One pass over a video: shots are found, windows laid and clips encoded while its frames are decoded.

Pictures wait until it is certain which shot they belong to: with the default settings 74 of them, around a
dissolve up to some 180.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av

from annotate.cut.encode import ClipWriter
from annotate.cut.framing import Framing
from annotate.cut.piece import Rules, Show, Span, Stand, Window
from annotate.cut.plan import Planner
from annotate.decode import SourceFrame, VideoReader, bgr
from annotate.shots.detector import ShotConfig, ShotDetector


@dataclass(frozen=True)
class Encoding:
    """How clips are encoded; see `ClipWriter`."""

    fps: int
    crf: int
    preset: str


class Walk:
    """Reads a video from `start_s` to `end_s`, once. What it found beside the clips is known afterwards."""

    def __init__(
        self, reader: VideoReader, framing: Framing, shots: ShotConfig, rules: Rules, encoding: Encoding,
        start_s: float | None, end_s: float | None,
    ) -> None:
        self.reader = reader
        self.first = 0  # number of the first frame within the span
        self.begin_s: Fraction | None = None  # its time
        self.spans: list[Span] = []  # that make no clip, in order of time
        self._framing = framing
        self._encoding = encoding
        self._start_s = Fraction(start_s) if start_s is not None else None
        self._end_s = Fraction(end_s) if end_s is not None else None
        self._frames = rules.frames
        height, width = reader.info.size
        self._small = max(1, round(width * min(1.0, shots.long_side / max(height, width))))
        self._detector = ShotDetector(shots)
        self._planner = Planner(rules)
        self._pictures = _Pictures(reader, framing)
        self._open: dict[Window, ClipWriter | bytes | None] = {}

    def clips(self, is_done: Callable[[Window], bool]) -> Iterator[tuple[Window, bytes]]:
        """Window and MP4 of every clip that is not done, each as soon as it is certain, in order of time.

        Windows count frames of the video.
        """
        try:
            for frame in self.reader:
                if self._start_s is not None and frame.time_s < self._start_s:
                    self.first = frame.index + 1
                    continue
                if self._end_s is not None and frame.time_s >= self._end_s:
                    break
                self._take(frame)
                yield from self._follow(is_done)
                self._pictures.forget(self._detector.settled)
            self._detector.finish()
            yield from self._follow(is_done)
        finally:
            for made in self._open.values():
                if isinstance(made, ClipWriter):
                    made.discard()
        self.spans = self._planner.finish()

    def _take(self, frame: SourceFrame) -> None:
        if self.begin_s is None:
            self.begin_s = frame.time_s
        self._detector.push(float(frame.time_s), bgr(frame.picture, self.reader.info, self._small))
        self._planner.see(frame.time_s)
        self._pictures.add(frame.picture)

    def _follow(self, is_done: Callable[[Window], bool]) -> Iterator[tuple[Window, bytes]]:
        detector = self._detector
        for step in self._planner.advance(detector.shots, detector.open, detector.settled):
            window = step.window
            if isinstance(step, Show):
                if window not in self._open:
                    self._open[window] = None if is_done(window) else self._writer()
                self._add(window, step.frame)
            else:
                made = self._open.pop(window)
                if isinstance(step, Stand) and isinstance(made, bytes):
                    window.frames = [self.first + frame for frame in window.frames]
                    yield window, made
                elif isinstance(made, ClipWriter):
                    made.discard()

    def _writer(self) -> ClipWriter:
        return ClipWriter(self._framing.size, self._encoding.fps, self._encoding.crf, self._encoding.preset)

    def _add(self, window: Window, frame: int) -> None:
        writer = self._open[window]
        if isinstance(writer, ClipWriter):
            writer.add(self._pictures[frame])
            if writer.frames == self._frames:
                self._open[window] = writer.finish()


class _Pictures:
    """The newest pictures by number, each as stored or as the clip's frame, whichever is smaller."""

    def __init__(self, reader: VideoReader, framing: Framing) -> None:
        self._info = reader.info
        self._framing = framing
        self._count = 0
        self._kept: dict[int, tuple[av.VideoFrame, bool]] = {}  # whether it is the clip's frame

    def add(self, picture: av.VideoFrame) -> None:
        height, width = self._framing.size
        is_large = picture.height * picture.width > height * width
        if is_large:
            picture = self._framing.frame(picture, self._info)
        self._kept[self._count] = picture, is_large
        self._count += 1

    def __getitem__(self, number: int) -> av.VideoFrame:
        """The clip's frame; made once, however often it is shown."""
        picture, is_framed = self._kept[number]
        if not is_framed:
            picture = self._framing.frame(picture, self._info)
            self._kept[number] = picture, True
        return picture

    def forget(self, settled: int) -> None:
        """Drop those before frame `settled` but the last: it may be held on to."""
        for number in [number for number in self._kept if number < settled - 1]:
            del self._kept[number]
