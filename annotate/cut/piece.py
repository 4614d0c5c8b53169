"""Windows in one unbroken piece of a shot, laid from its start while its frames come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from dataset.timeline import frame_period, nearest_frames, windows

PERIOD_FRAMES = 65
"""`dataset.timeline.frame_period` looks at as many frames."""


@dataclass(frozen=True)
class Rules:
    """The numbers a plan depends on."""

    frames: int
    fps: int
    overlap: int
    min_shot_s: float
    max_shot_s: float | None
    max_gap_s: float

    @property
    def length_s(self) -> Fraction:
        """From the first frame of a clip to its last."""
        return Fraction(self.frames - 1, self.fps)


@dataclass(eq=False)
class Window:
    """One clip to be: where it starts, and the source frame of each of its frames so far."""

    shot: int
    start_s: Fraction
    frames: list[int] = field(default_factory=list)  # in presentation order, some more than once
    times: list[Fraction] = field(default_factory=list)  # their presentation times


@dataclass(frozen=True)
class Span:
    """A piece of video that makes no clip."""

    start_s: Fraction
    end_s: Fraction  # exclusive
    reason: str  # "transition", "gap", "short_shot", "tail"
    detail: str
    shot: int | None = None


@dataclass(frozen=True)
class Show:
    """The next frame of a window is this source frame."""

    window: Window
    frame: int


@dataclass(frozen=True)
class Stand:
    """A window is complete and makes a clip. Windows stand in order of time."""

    window: Window


@dataclass(frozen=True)
class Fall:
    """A window that was begun makes no clip."""

    window: Window


Step = Show | Stand | Fall


class Piece:
    """Takes the frames of a piece in order; windows begin before it is certain that they fit."""

    def __init__(self, shot: int, start_s: Fraction, rules: Rules) -> None:
        self.shot = shot
        self.start_s = start_s
        self.times: list[Fraction] = []  # of its newest frames, at least `PERIOD_FRAMES`
        self._rules = rules
        self._stride = Fraction(rules.frames - rules.overlap, rules.fps)
        self._next_s = start_s  # where the next window starts
        self._latest_s: Fraction | None = None  # no window can end after this time
        self._open: list[Window] = []  # that neither stand nor fell, in order of time
        self._used: tuple[int, Fraction | None] | None = None  # first frame behind the last complete window

    def take(self, frame: int, time_s: Fraction) -> Iterator[Step]:
        """The next frame, of which it is certain that it belongs to the piece."""
        self.times.append(time_s)
        if len(self.times) > 4 * PERIOD_FRAMES:
            del self.times[:-PERIOD_FRAMES]
        if self._used is not None and self._used[0] == frame:
            self._used = frame, time_s
        while self._next_s <= time_s and self._may_end(self._next_s):
            self._open.append(Window(self.shot, self._next_s))
            self._next_s += self._stride
        for window in self._open:
            due = int((time_s - window.start_s) * self._rules.fps) + 1
            yield from self._show(window, due, frame, self.times[-2:])
        if time_s - self.start_s >= Fraction(self._rules.min_shot_s):
            while self._open and len(self._open[0].frames) == self._rules.frames:
                yield Stand(self._open.pop(0))

    def limit(self, latest_s: Fraction) -> Iterator[Step]:
        """Give up the windows that would end after a time, now that the end of the piece is in sight."""
        self._latest_s = latest_s
        for window in [w for w in self._open if not self._may_end(w.start_s)]:
            self._open.remove(window)
            yield Fall(window)

    def end(self, stop: int, end_s: Fraction, spans: list[Span]) -> Iterator[Step]:
        """Settle the windows of a piece that ends before frame `stop`; adds the span that makes no clip."""
        rules, length = self._rules, end_s - self.start_s
        starts: list[Fraction] = []
        if length < Fraction(rules.min_shot_s):
            rest = f"{float(length):.3f} s, the shortest shot allowed is {rules.min_shot_s:g} s"
        else:
            known = self.times if self.times[0] == self.start_s else [self.start_s, *self.times]
            starts = windows(self.start_s, end_s, known, rules.frames, rules.fps, rules.overlap)
            rest = f"{float(length):.3f} s, a clip needs {float(rules.length_s):.3f} s"
        while starts and self._next_s <= starts[-1]:  # only where frames are rarer than windows
            self._open.append(Window(self.shot, self._next_s))
            self._next_s += self._stride
        for window in self._open:
            if starts and window.start_s <= starts[-1]:
                yield from self._show(window, rules.frames, stop - 1, self.times)
                yield Stand(window)
            else:
                yield Fall(window)
        if not starts:
            spans.append(Span(self.start_s, end_s, "short_shot", rest, self.shot))
        elif self._used is not None and self._used[1] is not None:
            rest = f"{float(end_s - self._used[1]):.3f} s behind the last clip"
            spans.append(Span(self._used[1], end_s, "tail", rest, self.shot))

    def _may_end(self, start_s: Fraction) -> bool:
        return self._latest_s is None or start_s + self._rules.length_s <= self._latest_s

    def _show(
        self, window: Window, count: int, newest: int, times: Sequence[Fraction],
    ) -> Iterator[Show]:
        """Fill a window up to `count` frames with the nearest of those with these times, the last of which
        is frame `newest`. No later frame is nearer: the targets lie before it, or it is the last one."""
        missing = min(count, self._rules.frames) - len(window.frames)
        if missing < 1:
            return
        target = window.start_s + Fraction(len(window.frames), self._rules.fps)
        for pick in nearest_frames(times, target, missing, self._rules.fps).tolist():
            window.frames.append(newest - len(times) + 1 + pick)
            window.times.append(times[pick])
            yield Show(window, window.frames[-1])
        if len(window.frames) == self._rules.frames:
            behind = window.frames[-1] + 1
            self._used = behind, times[-1] if behind == newest else None


def largest_interval(times: Sequence[Fraction]) -> Fraction:
    """No frame period measured within these times is longer."""
    return max((b - a for a, b in pairwise(times)), default=Fraction(0))


def held_until(times: Sequence[Fraction]) -> Fraction:
    """When the last of these frames is no longer shown, if nothing follows it."""
    return times[-1] + frame_period(times)
