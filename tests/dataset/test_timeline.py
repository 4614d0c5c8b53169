from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.timeline import frame_period, nearest_frames, windows

intervals = st.lists(st.integers(1, 9000), min_size=1, max_size=80)


def at_rate(fps: Fraction, count: int) -> list[Fraction]:
    return [k / fps for k in range(count)]


@settings(deadline=None, max_examples=60)
@given(intervals, st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([16, 24, Fraction(30000, 1001)]))
def test_every_target_takes_the_nearest_frame_and_the_earlier_of_two(steps, offset, count, fps):
    times = [Fraction(sum(steps[:k]), 90000) for k in range(len(steps) + 1)]
    start = times[0] + Fraction(offset, 10**6) * (times[-1] - times[0])
    count = min(count, int((times[-1] - start) * fps) + 1)
    found = nearest_frames(times, start, count, fps)
    for k, index in enumerate(found):
        distances = [abs(t - (start + k / Fraction(fps))) for t in times]
        assert index == distances.index(min(distances))


@settings(deadline=None, max_examples=60)
@given(intervals, st.fractions(-1000, 1000, max_denominator=997))
def test_moving_source_and_targets_together_changes_nothing(steps, shift):
    times = [Fraction(sum(steps[:k]), 90000) for k in range(len(steps) + 1)]
    count = int((times[-1] - times[0]) * 16) + 1
    found = nearest_frames(times, times[0], count, 16)
    moved = nearest_frames([t + shift for t in times], times[0] + shift, count, 16)
    assert np.array_equal(found, moved)


def test_a_target_halfway_takes_the_earlier_frame_after_hours():
    hour = 3600 * 4
    times = [hour + Fraction(k, 8) for k in range(20)]  # targets at 16 fps fall halfway every other time
    assert nearest_frames(times, hour, 8, 16).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_steady_rate_gives_every_frame_once_even_after_hours():
    times = [Fraction(k * 1001, 30000) for k in range(300_000, 300_500)]
    found = nearest_frames(times, times[0], 500, Fraction(30000, 1001))
    assert found.tolist() == list(range(500))


def test_floats_are_taken_as_the_numbers_they_are():
    times = [0.0, 0.1, 0.2, 0.30000000000000004]
    assert nearest_frames(times, 0.0, 4, 10).tolist() == [0, 1, 2, 3]


def test_a_minute_of_film_ending_one_frame_early_reuses_its_last_frame():
    times = at_rate(Fraction(30), 1800)  # the last at 59.967 s
    found = nearest_frames(times, 0, 961, 16)
    assert found[-1] == 1799 and found[-2] == 1798


def test_one_frame_period_beyond_the_end_is_held_and_no_more():
    times = at_rate(Fraction(10), 11)
    assert nearest_frames(times, Fraction(1, 10), 11, 10)[-1] == 10
    with pytest.raises(ValueError, match=r"to 1\.100001 s.*to 1\.000000 s"):
        nearest_frames(times, Fraction(100001, 10**6), 11, 10)
    with pytest.raises(ValueError, match="one frame period"):
        nearest_frames(times, Fraction(-2, 10), 3, 10)


def test_a_single_frame_serves_a_single_target():
    assert nearest_frames([Fraction(3)], 3, 1, 16).tolist() == [0]
    with pytest.raises(ValueError, match="one frame period"):
        nearest_frames([Fraction(3)], 3, 2, 16)


@pytest.mark.parametrize(("times", "count", "fps"), [([], 1, 16), ([0], 0, 16), ([0], 1, 0), ([0], 1, -1)])
def test_nothing_to_choose_from_is_an_error(times, count, fps):
    with pytest.raises(ValueError, match="must be positive"):
        nearest_frames(times, 0, count, fps)


def test_times_that_stand_still_are_an_error():
    with pytest.raises(ValueError, match="increase strictly"):
        nearest_frames([0, Fraction(1, 2), Fraction(1, 2), 2], 0, 17, 8)


def test_the_period_survives_dropped_frames():
    times = [Fraction(k, 30) for k in range(100) if k % 7]
    assert frame_period(times) == Fraction(1, 30)
    assert frame_period([Fraction(5)]) == 0


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 400), fps=st.sampled_from([Fraction(10), Fraction(25), Fraction(30000, 1001)]),
    k=st.integers(1, 8), overlap=st.integers(0, 60),
)
def test_windows_fill_a_shot_evenly_and_stay_within_it(count, fps, k, overlap):
    frames = 8 * k + 1
    overlap = min(overlap, frames - 5)
    times = [Fraction(7) + t for t in at_rate(fps, count)]
    starts = windows(times[0], times[-1] + 1 / fps, times, frames, 16, overlap)
    stride = Fraction(frames - overlap, 16)
    assert starts == [times[0] + i * stride for i in range(len(starts))]
    for start in starts:
        assert len(nearest_frames(times, start, frames, 16)) == frames
    following = times[0] + len(starts) * stride
    with pytest.raises(ValueError, match="nearest frames"):  # there is no room for another
        nearest_frames(times, following, frames, 16)


def test_windows_do_not_see_beyond_their_shot():
    times = at_rate(Fraction(30), 300)
    starts = windows(Fraction(2), Fraction(5), times, 17, 16, 0)
    assert starts == [2, 2 + Fraction(17, 16)]  # a third would reach 5.125 s
    last = nearest_frames(times, starts[-1], 17, 16)[-1]
    assert times[last] < 5


def test_a_shot_without_frames_or_shorter_than_a_clip_has_no_window():
    times = at_rate(Fraction(30), 30)
    assert windows(Fraction(2), Fraction(3), times, 9, 16, 0) == []
    assert windows(0, 1, times, 17, 16, 0) == [0]  # 1.0 s needs the last frame, at 0.967 s, to be held
    assert windows(0, 1, times, 18, 16, 0) == []


def test_an_overlap_as_long_as_the_window_is_refused():
    with pytest.raises(ValueError, match="0 <= overlap < frames"):
        windows(0, 1, [0, 1], 9, 16, 9)
