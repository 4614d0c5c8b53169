"""Which source frame belongs to which frame of a clip. One rule serves video, poses, depth and masks.

Arithmetic is exact: times become fractions, so a target halfway between two frames is seen to be halfway,
and the thousandth frame is as right as the first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

Time = Fraction | float | int
"""Seconds. A float stands for exactly the binary number it holds."""

_PERIOD_INTERVALS = 64


def frame_period(source_times: Sequence[Time]) -> Fraction:
    """Median of the last 64 intervals, seconds; 0 for a single frame. Dropped frames hardly move a median."""
    tail = [Fraction(t) for t in source_times[-_PERIOD_INTERVALS - 1:]]
    intervals = sorted(later - earlier for earlier, later in pairwise(tail))
    return intervals[len(intervals) // 2] if intervals else Fraction(0)


def nearest_frames(source_times: Sequence[Time], start_s: Time, count: int, fps: Time) -> np.ndarray:
    """Indices (count,) int64 into `source_times` of the frames shown at start_s + k / fps.

    Each target takes the source frame whose presentation time is nearest, the earlier one of two equally
    near. `source_times` must increase strictly. Targets may lie outside the source by at most one source
    frame period and then reuse its first or last frame; raises ValueError beyond that, so nothing is ever
    padded silently.
    """
    rate = Fraction(fps)
    if count < 1 or rate <= 0 or not len(source_times):
        raise ValueError(f"nearest frames: {count} targets at {fps} per second from {len(source_times)} "
                         "source frames; all three must be positive")
    start, last = Fraction(start_s), len(source_times) - 1
    end, period = start + (count - 1) / rate, frame_period(source_times)
    if start < source_times[0] - period or end > source_times[last] + period:
        raise ValueError(
            f"nearest frames: targets from {float(start):.6f} to {float(end):.6f} s, but the source lasts "
            f"from {float(source_times[0]):.6f} to {float(source_times[last]):.6f} s and may be held for one "
            f"frame period ({float(period):.6f} s) at most")
    at = max(0, bisect_left(source_times, start) - 1)
    here = Fraction(source_times[at])
    ahead = Fraction(source_times[at + 1]) if at < last else None
    indices = np.empty(count, np.int64)
    for k in range(count):
        target = start + k / rate
        while ahead is not None and ahead - target < target - here:
            if ahead <= here:
                raise ValueError(f"nearest frames: source time {at + 1} is {float(ahead):.6f} s, not after "
                                 f"{float(here):.6f} s before it; times must increase strictly")
            at, here = at + 1, ahead
            ahead = Fraction(source_times[at + 1]) if at < last else None
        indices[k] = at
    return indices


def windows(
    shot_start_s: Time, shot_end_s: Time, source_times: Sequence[Time], frames: int, fps: Time, overlap: int,
) -> list[Fraction]:
    """Start times of the clips of `frames` frames that fit into the shot [shot_start_s, shot_end_s).

    The first clip starts at the presentation time of the shot's first frame, each next one
    (frames - overlap) / fps later. A clip fits when its last target lies at most one source frame period
    after the shot's last frame. Tail rule: what remains behind the last clip that fits makes no clip; it
    is neither padded nor covered by shifting a clip back. Raises ValueError unless 0 <= overlap < frames.
    """
    rate = Fraction(fps)
    if not 0 <= overlap < frames or rate <= 0:
        raise ValueError(f"windows: {frames} frames at {fps} per second overlapping by {overlap}; "
                         "needs 0 <= overlap < frames and a positive rate")
    first = bisect_left(source_times, Fraction(shot_start_s))
    stop = bisect_left(source_times, Fraction(shot_end_s))
    if first >= stop:
        return []
    begin = Fraction(source_times[first])
    latest = (Fraction(source_times[stop - 1]) + frame_period(source_times[first:stop])
              - (frames - 1) / rate)
    if latest < begin:
        return []
    stride = (frames - overlap) / rate
    return [begin + k * stride for k in range(int((latest - begin) // stride) + 1)]
