"""Which clips a video gives, and which of its spans give none and why. Times and shots in, plan out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from annotate.shots.detector import Shot
from dataset.timeline import frame_period, nearest_frames, windows


@dataclass(frozen=True)
class Window:
    """One clip to be: where it starts, and the source frame of each of its frames."""

    shot: int
    start_s: Fraction
    frames: np.ndarray  # (F,) numbers of source frames, in presentation order


@dataclass(frozen=True)
class Span:
    """A piece of video that makes no clip."""

    start_s: Fraction
    end_s: Fraction  # exclusive
    reason: str  # "transition", "gap", "short_shot", "tail"
    detail: str
    shot: int | None = None


@dataclass(frozen=True)
class Rules:
    """The numbers a plan depends on."""

    frames: int
    fps: int
    overlap: int
    min_shot_s: float
    max_shot_s: float | None
    max_gap_s: float


def plan(
    shots: Sequence[Shot], times: Sequence[Fraction], rules: Rules,
) -> tuple[list[Window], list[Span]]:
    """Windows in order of time, and the spans between them.

    `times` are the presentation times of all frames the shots were found in. A shot is divided where frames
    are missing for longer than `max_gap_s` (or three frame periods, for slow video) and where it exceeds
    `max_shot_s`; each piece is filled with windows from its start (see `dataset.timeline.windows`).
    """
    found: list[Window] = []
    spans: list[Span] = []
    period = frame_period(times) if len(times) > 1 else Fraction(0)
    after = 0  # first frame that belongs to no shot yet
    for number, shot in enumerate(shots):
        if shot.start_frame > after:
            spans.append(Span(times[after], times[shot.start_frame], "transition",
                              f"{shot.opens_with}: {shot.start_frame - after} frames"))
        after = shot.end_frame
        pieces, gaps = _pieces(shot.start_frame, shot.end_frame, times, period, rules)
        spans += [Span(times[last] + period, times[first], "gap", "frames are missing in between", number)
                  for last, first in gaps]
        for first, stop in pieces:
            held = stop == len(times) or (stop - 1, stop) in gaps
            end_s = times[stop - 1] + period if held else times[stop]
            fitting, left = _fill(number, first, stop, end_s, times, rules)
            found += fitting
            spans += left
    if after < len(times):
        spans.append(Span(times[after], times[-1] + period, "transition", f"{len(times) - after} frames"))
    return found, sorted(spans, key=lambda span: (span.start_s, span.end_s))


def _pieces(
    first: int, stop: int, times: Sequence[Fraction], period: Fraction, rules: Rules,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Frame ranges [first, stop) without long gaps or overlength, and the gaps as (frame before, after)."""
    largest = max(Fraction(rules.max_gap_s), 3 * period)
    longest = Fraction(rules.max_shot_s) if rules.max_shot_s is not None else None
    pieces, gaps = [], []
    begin = first
    for frame in range(first + 1, stop):
        gap = times[frame] - times[frame - 1] > largest
        if gap or (longest is not None and times[frame] - times[begin] >= longest):
            pieces.append((begin, frame))
            begin = frame
        if gap:
            gaps.append((frame - 1, frame))
    return [*pieces, (begin, stop)], gaps


def _fill(
    shot: int, first: int, stop: int, end_s: Fraction, times: Sequence[Fraction], rules: Rules,
) -> tuple[list[Window], list[Span]]:
    """Windows of frames [first, stop) of a shot, and what remains."""
    piece = times[first:stop]
    length = end_s - piece[0]
    needed = Fraction(rules.frames - 1, rules.fps)
    if length < Fraction(rules.min_shot_s):
        return [], [Span(piece[0], end_s, "short_shot",
                         f"{float(length):.3f} s, the shortest shot allowed is {rules.min_shot_s:g} s", shot)]
    starts = windows(piece[0], end_s, piece, rules.frames, rules.fps, rules.overlap)
    if not starts:
        return [], [Span(piece[0], end_s, "short_shot",
                         f"{float(length):.3f} s, a clip needs {float(needed):.3f} s", shot)]
    found = [Window(shot, start, first + nearest_frames(piece, start, rules.frames, rules.fps))
             for start in starts]
    used = int(found[-1].frames[-1]) + 1
    if used == stop:
        return found, []
    rest = f"{float(end_s - times[used]):.3f} s behind the last clip"
    return found, [Span(times[used], end_s, "tail", rest, shot)]

