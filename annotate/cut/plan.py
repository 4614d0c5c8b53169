"""Which clips a video gives, and which of its spans give none and why, said as soon as it is certain.

Shots and times in, windows and spans out; but for the spans, what is remembered does not grow with the
video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from annotate.cut.piece import PERIOD_FRAMES, Piece, Rules, Span, Step, held_until, largest_interval
from annotate.shots.detector import Boundary, OpenShot, Shot
from dataset.timeline import frame_period


class Planner:
    """Lays windows into the shots of one video while they are being found.

    A shot is divided where frames are missing for longer than `max_gap_s` (or three of the frame periods
    around, for slow video) and where it exceeds `max_shot_s`; each piece is filled with windows from its
    start (see `dataset.timeline.windows`).
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._spans: list[Span] = []
        self._times: list[Fraction] = []  # of the newest frames
        self._first = 0  # number of the first of them
        self._at = 0  # next frame to be laid
        self._number = 0  # of the shot it is in, or that comes next
        self._piece: Piece | None = None
        self._outside: tuple[int, Fraction] | None = None  # first frame that belongs to no shot yet
        self._ends_by: int | None = None  # what `_limit` was last told

    def see(self, time_s: Fraction) -> None:
        """Take the presentation time of the next frame."""
        if not self._first and not self._times:
            self._outside = (0, time_s)
        self._times.append(time_s)

    def advance(self, shots: Sequence[Shot], open_shot: OpenShot, settled: int) -> Iterator[Step]:
        """What follows from the shots certain by now: all from the first one, and the open one behind them.

        `settled`: frames before this one will not become part of any other shot.
        """
        while self._number < len(shots):
            shot = shots[self._number]
            yield from self._lay(shot.start_frame, shot.end_frame, shot.opens_with, shot.end_frame, True)
        if self._number == len(shots) and open_shot.stop_frame > open_shot.start_frame:
            yield from self._lay(open_shot.start_frame, open_shot.stop_frame, open_shot.opens_with,
                                 open_shot.ends_by, open_shot.is_over)
        surplus = settled - PERIOD_FRAMES - 1 - self._first
        if surplus > 4 * PERIOD_FRAMES:
            del self._times[:surplus]
            self._first += surplus

    def finish(self) -> list[Span]:
        """The spans of the whole video that make no clip, in order of time; the last shot has been laid."""
        rest = self._first + len(self._times) - (self._outside[0] if self._outside else 0)
        if self._outside and rest:
            self._spans.append(Span(self._outside[1], held_until(self._times), "transition",
                                    f"{rest} frames"))
        return sorted(self._spans, key=lambda span: (span.start_s, span.end_s))

    def _lay(
        self, start: int, stop: int, opens: Boundary, ends_by: int | None, is_over: bool,
    ) -> Iterator[Step]:
        """Lay the frames of a shot up to `stop`; the shot began with `start`."""
        if self._at <= start:
            self._begin(start, opens)
        if ends_by != self._ends_by:
            self._ends_by = ends_by
            yield from self._limit()
        for frame in range(self._at, stop):
            time_s = self._times[frame - self._first]
            if self._piece is not None:
                yield from self._divide(self._piece, frame, time_s)
            self._at = frame
            if self._piece is None:
                self._piece = Piece(self._number, time_s, self._rules)
                yield from self._limit()
            yield from self._piece.take(frame, time_s)
        self._at = stop
        if is_over:
            yield from self._end(stop)

    def _divide(self, piece: Piece, frame: int, time_s: Fraction) -> Iterator[Step]:
        """End the piece before this frame where a gap or the longest shot allowed asks for it."""
        longest = self._rules.max_shot_s
        if self._is_gap(frame):
            held_s = held_until(self._times[:frame - self._first])
            yield from piece.end(frame, held_s, self._spans)
            detail = "frames are missing in between"
            self._spans.append(Span(held_s, time_s, "gap", detail, self._number))
            self._piece = None
        elif longest is not None and time_s - piece.start_s >= Fraction(longest):
            yield from piece.end(frame, time_s, self._spans)
            self._piece = None

    def _begin(self, start: int, opens: Boundary) -> None:
        assert self._outside is not None
        outside, since = self._outside
        if start > outside:
            self._spans.append(Span(since, self._times[start - self._first], "transition",
                                    f"{opens}: {start - outside} frames"))
        self._at, self._ends_by = start, None

    def _end(self, stop: int) -> Iterator[Step]:
        """End the shot before frame `stop`; at the end of the video there is no such frame."""
        assert self._piece is not None
        is_last = stop == self._first + len(self._times)
        end_s = held_until(self._times) if is_last else self._times[stop - self._first]
        yield from self._piece.end(stop, end_s, self._spans)
        self._piece, self._outside = None, (stop, end_s)
        self._number += 1

    def _limit(self) -> Iterator[Step]:
        """Tell the piece when it ends at the latest, if that is in sight: a window fits that ends within a
        frame period of the last frame, and the period is not known yet."""
        if self._piece is not None and self._ends_by is not None:
            ahead = self._times[self._at - self._first:self._ends_by - self._first]
            times = [*self._piece.times, *ahead]
            yield from self._piece.limit(times[-1] + largest_interval(times))

    def _is_gap(self, frame: int) -> bool:
        at = frame - self._first
        interval = self._times[at] - self._times[at - 1]
        if interval <= Fraction(self._rules.max_gap_s):
            return False
        half = PERIOD_FRAMES // 2
        return interval > 3 * frame_period(self._times[max(0, at - half):at + half])
